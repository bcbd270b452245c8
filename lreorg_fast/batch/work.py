"""What is done to one picture: an aligned face, a whole picture, or whichever of both it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lreorg_fast.batch.report import FileStatus
from lreorg_fast.errors import ConfigError, ImageError, LateError
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.privacy import Ledger, Subject, Subjects
from lreorg_fast.privacy.randomness import Sampler
from lreorg_fast.scene import KnownFace, SceneAnonymizer, SceneFace, SceneResult
from lreorg_fast.scene.sealed import Blending
from lreorg_fast.sealing import Sealer
from lreorg_fast.settings import Settings
from lreorg_fast.time_limit import TimeLimit

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.weights import BundleManifest

# The figure of a bundle (lreorg_fast.demo.figures) that was measured with the default settings.
_PROTECTION = "default: PSR (random)"
SealWriter = Callable[[Path, Picture, bool], Path | None]
NO_FACE_FOUND: FileStatus = "no face found"


@dataclass(frozen=True, eq=False)
class Outcome:
    """Of one picture.

    Attributes:
        image: what may be written; None if nothing may.
        status, reason: see :class:`lreorg_fast.batch.report.FileEntry`.
        details: its further fields.
        seal: writes the seal of the written file, ``seal(target, original, overwrite)``; None
            where none was asked for, or nothing is known to seal.
    """

    image: Picture | None
    status: FileStatus
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    seal: SealWriter | None = field(default=None, repr=False)


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

    @property
    def subjects(self) -> Subjects:
        """Who is on the pictures."""

    @property
    def sealer(self) -> Sealer | None:
        """Writes the seals that outcomes ask for."""

    @property
    def limit(self) -> TimeLimit:
        """Of the work on a face; where it is stuck, nothing more is begun."""

    def __call__(self, picture: Picture, source: Path) -> Outcome:
        """Never raises for a face; raises for a picture that cannot be worked on.

        Args:
            picture: (H, W, 3) uint8 RGB.
            source: where it was read, which may tell who is on it.
        """


class AlignedWork:
    """Each picture is one aligned, square face; it leaves as a whole as a new one.

    Args:
        anonymizer: does the work.
        settings: the default is to hide identity.
        subjects: who is on which picture; by default each is a person of its own.
        sealer: keeps what brings a face back; None, the default, keeps nothing.
        limit: of each face; None is no limit.

    Raises:
        ConfigError: settings that the bundle cannot do, or subjects of another ledger.
    """

    def __init__(
        self,
        anonymizer: Anonymizer,
        settings: Settings | None = None,
        subjects: Subjects | None = None,
        sealer: Sealer | None = None,
        limit: TimeLimit | None = None,
    ) -> None:
        settings = settings or Settings()
        self.limit = limit or TimeLimit(None)
        self.anonymizer = anonymizer
        self.default = settings == Settings()
        self.subjects = checked_subjects(subjects, anonymizer)
        self.sealer = sealer
        self.settings = _resolved(anonymizer, settings, self.subjects.probe)

    def __call__(self, picture: Picture, source: Path) -> Outcome:
        """See :class:`Work`.

        Raises:
            ImageError: not square.
        """
        subject = self.subjects.of(source, picture)
        recovery = self.sealer is not None and self.sealer.recovery
        try:
            result = self.limit(
                lambda: self.anonymizer(
                    picture, **self.settings, **subject.arguments(), recovery=recovery
                ),
                "replacing the face",
            )
        except LateError as error:
            return self._late(picture, subject, str(error))
        finally:
            self.subjects.done(subject)
        face = result.faces[0]
        details = {
            "track": face.track,
            "epsilon": face.epsilon,
            "privacy": face.privacy,
            "similarity": face.similarity,
            "mechanism": dict(face.mechanism),
            "guarantee": dict(face.guarantee),
        }
        sealer = self.sealer

        def seal(target: Path, original: Picture, overwrite: bool) -> Path | None:
            assert sealer is not None
            return sealer.write(target, original, face, overwrite)

        return Outcome(
            result.image, face.status, face.reason, details, None if sealer is None else seal
        )

    def _late(self, picture: Picture, subject: Subject, reason: str) -> Outcome:
        """A solid colour. What was paid before the work hung stays paid; who is counted under a
        name of their own is in the ledger's report only."""
        details: dict[str, Any] = {}
        if subject.track is not None:
            paid = self.anonymizer.ledger.total(subject.track)
            details = {"track": subject.track, "epsilon": paid}
        return Outcome(np.full_like(picture, FILL_COLOUR), "filled", reason, details)


class SceneWork:
    """Each picture is a whole one, with any number of faces.

    Args:
        scene: does the work.
        allow_no_face: a picture in which no face is found is written all the same, without its
            metadata. By default it is not: the detector may have missed one.
        detector: what finds the faces, for the report and the check of a resumed run.
        subjects: who is on the pictures. By default each face is a person of its own.
        sealer: keeps what brings faces back; None, the default, keeps nothing. For the kind
            ``feature`` the scene must hand out recovery keys.

    Raises:
        ConfigError: subjects of another ledger, pseudonyms with a method or mechanism that cannot
            draw them, or a scene that keeps nothing to seal.
    """

    def __init__(
        self,
        scene: SceneAnonymizer,
        allow_no_face: bool = False,
        detector: Mapping[str, Any] | None = None,
        subjects: Subjects | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self.scene = scene
        self.subjects = checked_subjects(subjects, scene.anonymizer)
        self.sealer = sealer
        if self.subjects.pseudonyms is not None and scene.settings.method != "reorganize":
            raise ConfigError(
                f"pseudonyms have no effect with the method '{scene.settings.method}'; leave them "
                "out, or choose the method 'reorganize'"
            )
        if sealer is not None and sealer.recovery and not scene.recovery:
            raise ConfigError("the scene hands out no recovery keys to seal; make it with recovery")
        self.anonymizer = scene.anonymizer
        self.limit = scene.limit
        self.allow_no_face = allow_no_face
        self.default = False  # the figures are about aligned faces
        self.settings: Mapping[str, Any] = asdict(scene.settings) | dict(detector or {})
        if scene.settings.method == "reorganize" and self.anonymizer is not None:
            resolved = _resolved(self.anonymizer, scene.settings.settings, self.subjects.probe)
            self.settings = self.settings | resolved

    def __call__(self, picture: Picture, source: Path) -> Outcome:
        """See :class:`Work`.

        Raises:
            ImageError: every face is of another kind than the bundle's, or faces and named people
                do not fit together.
        """
        found = self.scene.detect(picture)
        boxes = np.array([face.box for face in found]).reshape(-1, 4)
        subjects = self.subjects.of_faces(source, picture, boxes)
        known = [
            KnownFace(face, str(subject.track), subject.sampler)
            for face, subject in zip(found, subjects, strict=True)
        ]
        try:
            result = self.scene.replace(picture, known)
        finally:
            for subject in subjects:
                self.subjects.done(subject)
        if not result.faces:
            return self._without_face(result)
        self._refuse_other_domain(result)
        details = {
            "epsilon": max(_epsilon(face) for face in result.faces),
            "privacy": _privacy(result.faces),
            "faces": tuple(face.to_dict() for face in result.faces),
        }
        seal = self._seal(result)
        if result.filled:
            reasons = sorted({str(face.reason) for face in result.filled})
            count = f"{len(result.filled)} of {len(result.faces)} faces filled"
            return Outcome(result.image, "filled", f"{count}: {'; '.join(reasons)}", details, seal)
        replaced = result.faces[0].status == "replaced"
        return Outcome(result.image, "replaced" if replaced else "covered", None, details, seal)

    def _seal(self, result: SceneResult) -> SealWriter | None:
        sealer, blending = self.sealer, Blending.of_settings(self.scene.settings)
        if sealer is None:
            return None
        return lambda target, original, overwrite: sealer.write_scene(
            target, original, result.faces, blending, overwrite
        )

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
        self._aligned, self.whole = aligned, whole
        self.anonymizer = aligned.anonymizer
        self.settings = whole.settings
        self.subjects = aligned.subjects
        self.sealer = aligned.sealer
        self.limit = whole.limit
        if self.sealer != whole.sealer or self.subjects != whole.subjects:
            raise ConfigError("aligned faces and whole pictures need one sealer and one subjects")
        self._side = aligned.anonymizer.resolution
        self._only_aligned = True

    @property
    def default(self) -> bool:
        """See :class:`Work`; the figures say nothing of whole pictures."""
        return self._aligned.default and self._only_aligned

    def __call__(self, picture: Picture, source: Path) -> Outcome:
        """See :class:`Work`."""
        if picture.shape[:2] == (self._side, self._side):
            return self._aligned(picture, source)
        self._only_aligned = False
        return self.whole(picture, source)


def describe_settings(work: Work) -> dict[str, Any]:
    """As given, and whom the results are sealed for."""
    if work.sealer is None:
        return dict(work.settings)
    recipient = hashlib.sha256(work.sealer.recipient.raw).hexdigest()
    seal = {"kind": work.sealer.kind, "recipient": recipient}
    return dict(work.settings) | {"seal": seal}


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


def describe_ledger(work: Work, pictures_only: bool = True) -> dict[str, Any]:
    """Epsilon by track, with the sentence that goes with it; the figures of the bundle are about
    aligned pictures."""
    if work.anonymizer is None:
        return Ledger().report()
    told = work.default and pictures_only
    measured = _measured(work.anonymizer.bundle.manifest) if told else None
    return work.anonymizer.ledger.report(measured)


def checked_subjects(subjects: Subjects | None, anonymizer: Anonymizer | None) -> Subjects:
    if subjects is None:
        return Subjects(Ledger() if anonymizer is None else anonymizer.ledger)
    if anonymizer is None and not subjects.named:
        return subjects  # faces are covered: nobody is drawn for
    if anonymizer is None or subjects.ledger is not anonymizer.ledger:
        raise ConfigError("subjects are counted by another ledger than the anonymizer's; give its")
    return subjects


def _resolved(
    anonymizer: Anonymizer, settings: Settings, sampler: Sampler | None = None
) -> dict[str, Any]:
    resolved = anonymizer.resolve(settings, sampler)
    # Lists, because an iterator would be empty from the second picture on.
    return vars(settings) | {"hide": list(resolved.hide), "keep": list(resolved.keep)}


def _epsilon(face: SceneFace) -> float:
    return 0.0 if face.result is None else face.result.epsilon


def _privacy(faces: Sequence[SceneFace]) -> str | None:
    """Of the face with the least: ``none`` where any draw has no guarantee."""
    results = [face.result for face in faces if face.result is not None]
    return max(results, key=lambda result: result.epsilon).privacy if results else None


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
