"""What is done to one picture: an aligned face, a whole picture, or whichever of both it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lreorg_fast.batch.report import FileStatus
from lreorg_fast.errors import ImageError
from lreorg_fast.media.pictures import Picture
from lreorg_fast.privacy import Ledger
from lreorg_fast.scene import SceneAnonymizer, SceneFace, SceneResult
from lreorg_fast.settings import Settings

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.weights import BundleManifest

# The figure of a bundle (lreorg_fast.demo.figures) that was measured with the default settings.
_PROTECTION = "default: PSR (random)"
NO_FACE_FOUND: FileStatus = "no face found"


@dataclass(frozen=True, eq=False)
class Outcome:
    """Of one picture.

    Attributes:
        image: what may be written; None if nothing may.
        status, reason: see :class:`lreorg_fast.batch.report.FileEntry`.
        details: its further fields.
    """

    image: Picture | None
    status: FileStatus
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Work(Protocol):
    """Checked settings with everything that they need."""

    @property
    def anonymizer(self) -> Anonymizer | None:
        """Networks and ledger, where there are any."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """For the report: as given, ``hide`` and ``keep`` as used."""

    @property
    def default(self) -> bool:
        """Whether these are the settings that the bundle's figures were measured with."""

    def __call__(self, picture: Picture) -> Outcome:
        """Never raises for a face; raises for a picture that cannot be worked on."""


class AlignedWork:
    """Each picture is one aligned, square face; it leaves as a whole as a new one.

    Raises:
        ConfigError: settings that the bundle cannot do.
    """

    def __init__(self, anonymizer: Anonymizer, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.anonymizer = anonymizer
        self.default = settings == Settings()
        self.settings = _resolved(anonymizer, settings)

    def __call__(self, picture: Picture) -> Outcome:
        """See :class:`Work`."""
        result = self.anonymizer(picture, **self.settings)
        face = result.faces[0]
        details = {
            "track": face.track,
            "epsilon": face.epsilon,
            "similarity": face.similarity,
            "mechanism": dict(face.mechanism),
            "guarantee": dict(face.guarantee),
        }
        return Outcome(result.image, face.status, face.reason, details)


class SceneWork:
    """Each picture is a whole one, with any number of faces.

    Args:
        scene: does the work.
        allow_no_face: a picture in which no face is found is written all the same, without its
            metadata. By default it is not: the detector may have missed one.
        detector: what finds the faces, for the report and the check of a resumed run.
    """

    def __init__(
        self,
        scene: SceneAnonymizer,
        allow_no_face: bool = False,
        detector: Mapping[str, Any] | None = None,
    ) -> None:
        self.scene = scene
        self.anonymizer = scene.anonymizer
        self.allow_no_face = allow_no_face
        self.default = False  # the figures are about aligned faces
        self.settings: Mapping[str, Any] = asdict(scene.settings) | dict(detector or {})
        if scene.settings.method == "reorganize" and self.anonymizer is not None:
            self.settings = self.settings | _resolved(self.anonymizer, scene.settings.settings)

    def __call__(self, picture: Picture) -> Outcome:
        """See :class:`Work`.

        Raises:
            ImageError: every face is of another kind than the bundle's.
        """
        result = self.scene(picture)
        if not result.faces:
            return self._without_face(result)
        self._refuse_other_domain(result)
        details = {
            "epsilon": max(_epsilon(face) for face in result.faces),
            "faces": tuple(face.to_dict() for face in result.faces),
        }
        if result.filled:
            reasons = sorted({str(face.reason) for face in result.filled})
            count = f"{len(result.filled)} of {len(result.faces)} faces filled"
            return Outcome(result.image, "filled", f"{count}: {'; '.join(reasons)}", details)
        replaced = result.faces[0].status == "replaced"
        return Outcome(result.image, "replaced" if replaced else "covered", None, details)

    def _without_face(self, result: SceneResult) -> Outcome:
        if self.allow_no_face:
            return Outcome(result.image, NO_FACE_FOUND, "written as it is, without its metadata")
        return Outcome(
            None,
            NO_FACE_FOUND,
            "nothing was written, because a face may have been missed; look at it, lower the "
            "threshold, or allow pictures without a face",
        )

    def _refuse_other_domain(self, result: SceneResult) -> None:
        """Rather no result than a picture of gray heads that was made with the wrong bundle."""
        if self.scene.settings.method != "reorganize" or self.anonymizer is None:
            return
        from lreorg_fast.verification import OUT_OF_DOMAIN  # torch

        if all(face.reason in OUT_OF_DOMAIN for face in result.faces):
            bundle = self.anonymizer.bundle.manifest
            raise ImageError(
                f"no face in it is of the kind of the bundle '{bundle.name}' "
                f"({bundle.domain.kind}); use a bundle for such faces, or the method 'avatar', "
                "'fill' or 'pixelate'"
            )


class AutoWork:
    """A picture of exactly the bundle's resolution is an aligned face, any other a whole picture.

    Safe either way: an aligned face leaves as a whole as a new one or as a solid colour.
    """

    def __init__(self, aligned: AlignedWork, whole: SceneWork) -> None:
        self._aligned, self._whole = aligned, whole
        self.anonymizer = aligned.anonymizer
        self.settings = whole.settings
        self._side = aligned.anonymizer.resolution
        self._only_aligned = True

    @property
    def default(self) -> bool:
        """See :class:`Work`; the figures say nothing of whole pictures."""
        return self._aligned.default and self._only_aligned

    def __call__(self, picture: Picture) -> Outcome:
        """See :class:`Work`."""
        if picture.shape[:2] == (self._side, self._side):
            return self._aligned(picture)
        self._only_aligned = False
        return self._whole(picture)


def describe_bundle(work: Work) -> dict[str, Any]:
    """Name, domain, versions and licence; nothing where no bundle is used."""
    if work.anonymizer is None:
        return {}
    manifest = work.anonymizer.bundle.manifest
    return {
        "name": manifest.name,
        "domain": asdict(manifest.domain),
        "license": manifest.license,
        "package_version": manifest.package_version,
        "created": manifest.created,
    }


def describe_engine(work: Work) -> dict[str, Any]:
    """Backend, type of its weights, precision of the networks, and device that run."""
    if work.anonymizer is None:
        return {}
    engine = work.anonymizer.engine
    return {
        "backend": engine.backend,
        "dtype": engine.dtype,
        "precision": work.anonymizer.precision,
        "device": str(work.anonymizer.device),
    }


def describe_ledger(work: Work) -> dict[str, Any]:
    """Epsilon by track, with the sentence that goes with it."""
    if work.anonymizer is None:
        return Ledger().report()
    measured = _measured(work.anonymizer.bundle.manifest) if work.default else None
    return work.anonymizer.ledger.report(measured)


def _resolved(anonymizer: Anonymizer, settings: Settings) -> dict[str, Any]:
    resolved = anonymizer.resolve(settings)
    # Lists, because an iterator would be empty from the second picture on.
    return vars(settings) | {"hide": list(resolved.hide), "keep": list(resolved.keep)}


def _epsilon(face: SceneFace) -> float:
    return 0.0 if face.result is None else face.result.epsilon


def _measured(manifest: BundleManifest) -> str | None:
    """Re-identification as the makers of the bundle measured it; None if they did not."""
    figure = manifest.figures.get(_PROTECTION)
    if not isinstance(figure, dict):
        return None
    value, high, low, n = (figure.get(name) for name in ("value", "high", "low", "n"))
    numbers = [number for number in (value, high, low, n) if isinstance(number, (int, float))]
    if len(numbers) < 4:
        return None
    share, least, most = (f"{1 - number:.1%}" for number in numbers[:3])
    return (
        f"{share} accepted at a false accept rate of 0.001 (95% interval {least} to {most}, "
        f"n = {n}) on the bundle's test faces ({manifest.domain.kind}), not on these pictures"
    )
