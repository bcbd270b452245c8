"""Whole pictures: find the faces, replace each, and let no pixel of a known face through.

Fail closed: a known face is replaced and verified, or its head is filled with a solid colour;
where even that is not possible, the whole picture is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from lreorg_fast.errors import ConfigError, LateError
from lreorg_fast.faces.blending import draw_order
from lreorg_fast.faces.detection import Detection, Detector
from lreorg_fast.faces.regions import head_shapes
from lreorg_fast.log import logger
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene.canvas import Canvas, Image, canvas_of
from lreorg_fast.scene.covering import Fill, Pixelate
from lreorg_fast.scene.faces import (
    STILL_SEEN,
    FaceMaker,
    KnownFace,
    Made,
    SceneFace,
    SceneResult,
)
from lreorg_fast.scene.settings import SceneSettings
from lreorg_fast.settings import IDENTITY
from lreorg_fast.time_limit import TimeLimit

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer, LatentFilter
    from lreorg_fast.scene.attributes import PhotographAttributes
    from lreorg_fast.scene.judging import Recognition


class SceneAnonymizer:
    """Anonymizes whole pictures.

    Args:
        anonymizer: networks and ledger; None is enough for ``pixelate`` and ``fill``.
        detector: see :func:`lreorg_fast.faces.detection.load_detector`.
        settings: what is asked for.
        attributes: sees the kept keywords of photographs, for the method ``avatar``.
        latent_filter: see :meth:`lreorg_fast.Anonymizer.__call__`; for ``reorganize`` in videos.
        recovery: put a :class:`lreorg_fast.result.RecoveryKey` into every face's result.
        limit: of one look for faces, and of each face; None is no limit.

    Raises:
        ConfigError: the method needs an anonymizer, or its bundle cannot do what is asked.
    """

    def __init__(
        self,
        anonymizer: Anonymizer | None,
        detector: Detector,
        settings: SceneSettings,
        attributes: PhotographAttributes | None = None,
        latent_filter: LatentFilter | None = None,
        recovery: bool = False,
        limit: TimeLimit | None = None,
    ) -> None:
        self.anonymizer = anonymizer
        self.limit = limit or TimeLimit(None)
        self.detector = detector
        self.attributes = attributes
        self.settings = settings
        self.recovery = recovery
        self._maker = _make_maker(anonymizer, settings, attributes, latent_filter, recovery)
        self._numbers = itertools.count()

    def detect(self, picture: Image, threshold: float | None = None) -> list[Detection]:
        """The faces of a picture ``(H, W, 3)`` uint8 RGB, the surest first.

        Args:
            picture: see :meth:`__call__`.
            threshold: another one than the settings'.

        Raises:
            ImageError: another kind of picture.
            LReorgError: the detector failed or was late: then nothing is known, and nothing may
                be shown.
        """
        shown = canvas_of(picture).picture()
        least = self.settings.threshold if threshold is None else threshold
        return self.limit(lambda: self.detector(shown, least), "the search for faces")

    def __call__(self, picture: Image, tracks: Sequence[str] | None = None) -> SceneResult:
        """Find the faces and replace them.

        Args:
            picture: (H, W, 3) uint8 RGB numpy, or a frame (3, H, W) uint8 torch, which stays on
                its device but for a copy that the detector sees; it is not changed.
            tracks: one label per face in the order of :meth:`detect`; by default every face is a
                person of its own.

        Raises:
            ImageError, LReorgError: as :meth:`detect`.
            ConfigError: another number of tracks than of faces.
        """
        found = self.detect(picture)
        if tracks is not None and len(tracks) != len(found):
            raise ConfigError(f"there are {len(tracks)} tracks for {len(found)} faces")
        names = tracks or [f"face-{next(self._numbers)}" for _ in found]
        known = [KnownFace(face, str(name)) for face, name in zip(found, names, strict=True)]
        try:
            return self.replace(picture, known)
        finally:
            if tracks is None and self.anonymizer is not None:
                for name in names:  # persons of one picture: their draws are not needed again
                    self.anonymizer.ledger.forget(name)

    def replace(self, picture: Image, faces: Sequence[KnownFace]) -> SceneResult:
        """Replace known faces; whatever fails, they are filled.

        Args:
            picture: (H, W, 3) uint8 RGB; it is not changed.
            faces: all that is known of it; equal tracks are one person.

        Raises:
            ImageError: another kind of picture. Nothing is raised for a face.
        """
        canvas, faces = canvas_of(picture), list(faces)
        try:
            return self.limit(
                lambda: self._replace(canvas, faces), "replacing the faces", len(faces)
            )
        except LateError as error:
            reason = str(error)
        except Exception as error:
            reason = f"an error while the picture was made ({type(error).__name__})"
            logger.error("all faces of a picture are filled: %s", reason)
        try:
            made = [Made(None, reason) for _ in faces]
            return self._finish(canvas, faces, made)
        except Exception as error:
            reason = f"an error while the faces were filled ({type(error).__name__})"
            logger.error("a whole picture is filled: %s", reason)
        described = [SceneFace(f.detection, f.track, "filled", reason) for f in faces]
        return SceneResult(canvas.blank(), tuple(described))

    def blank(self, picture: Image) -> Image:
        """The whole picture in a solid colour: what is shown when nothing is known."""
        return canvas_of(picture).blank()

    def doubts(
        self, source: Picture, made: Picture, faces: Sequence[KnownFace]
    ) -> list[str | None]:
        """Judge a finished picture again, for example after it was encoded.

        Args:
            source, made: (H, W, 3) uint8 RGB before and after.
            faces: those that were replaced in it, not those that were filled.

        Returns:
            Why each face may not leave, None where it may. What cannot be judged is a reason.
        """
        if self.settings.method != "reorganize" or IDENTITY not in self.settings.hide:
            return [None] * len(faces)
        try:
            seen = self.limit(
                lambda: self._resembling(source, made, faces), "judging the faces", len(faces)
            )
        except Exception as error:
            reason = f"an error while the face was judged ({type(error).__name__})"
            return [reason] * len(faces)
        return [STILL_SEEN if resembling else None for resembling in seen]

    def _resembling(self, source: Picture, made: Picture, faces: Sequence[KnownFace]) -> list[bool]:
        judge = self.recognition
        assert judge is not None  # the method needs a bundle
        return [judge.resembling(source, made, face.detection) for face in faces]

    @cached_property
    def recognition(self) -> Recognition | None:
        """The bundle's recognizer, for measuring; None without a bundle."""
        if self.anonymizer is None:
            return None
        from lreorg_fast.scene.judging import Recognition

        return Recognition(self.anonymizer)

    def _replace(self, canvas: Canvas, faces: list[KnownFace]) -> SceneResult:
        made = self._maker.make(canvas, faces)
        result = self._finish(canvas, faces, made)
        standing = [i for i, entry in enumerate(made) if entry.layer is not None]
        finished = canvas_of(result.image)
        doubts = self._maker.doubts(canvas, finished, [made[i] for i in standing])
        if not any(doubts):
            return result
        for i, reason in zip(standing, doubts, strict=True):
            if reason is not None:
                made[i] = Made(None, reason, made[i].result)  # without its square: it is filled
        return self._finish(canvas, faces, made)

    def _finish(self, canvas: Canvas, faces: list[KnownFace], made: Sequence[Made]) -> SceneResult:
        layers = [
            canvas.fill(head_shapes(face.detection)) if entry.layer is None else entry.layer
            for face, entry in zip(faces, made, strict=True)
        ]
        order = draw_order([face.detection for face in faces])
        described = (
            SceneFace(
                face.detection,
                face.track,
                "filled" if entry.layer is None else self._maker.status,
                entry.reason,
                entry.result,
                entry.quad,
                layer.window,
            )
            for face, entry, layer in zip(faces, made, layers, strict=True)
        )
        drawn = canvas.composed([layers[i] for i in order])
        return SceneResult(drawn.image, tuple(described))


def _make_maker(
    anonymizer: Anonymizer | None,
    settings: SceneSettings,
    attributes: PhotographAttributes | None,
    latent_filter: LatentFilter | None,
    recovery: bool,
) -> FaceMaker:
    if recovery and settings.method != "reorganize":
        raise ConfigError(
            f"the method '{settings.method}' has no features that bring a face back; seal the kind "
            "'crop', or choose the method 'reorganize'"
        )
    if attributes is not None and settings.method != "avatar":
        raise ConfigError(
            f"a CLIP model has no effect with the method '{settings.method}'; it is for 'avatar'"
        )
    if settings.method == "fill":
        return Fill()
    if settings.method == "pixelate":
        return Pixelate()
    if anonymizer is None:
        raise ConfigError(
            f"the method '{settings.method}' needs a bundle; load one, or choose the method "
            "'pixelate' or 'fill'"
        )
    # Below this line networks run, so torch is loaded.
    if settings.method == "avatar":
        from lreorg_fast.scene.avatar import Avatar

        return Avatar(anonymizer, settings, attributes)
    from lreorg_fast.scene.reorganize import Reorganize

    return Reorganize(anonymizer, settings, latent_filter, recovery)
