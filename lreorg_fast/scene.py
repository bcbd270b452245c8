"""Whole pictures: find the faces, replace each, and let no pixel of a known face through.

Fail closed: a known face is replaced and verified, or its head is filled with a solid colour;
where even that is not possible, the whole picture is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from lreorg_fast.errors import ConfigError, ImageError
from lreorg_fast.faces.blending import Layer, compose, draw_order, fill_layer, pixelate_layer
from lreorg_fast.faces.detection import Detection, Detector
from lreorg_fast.faces.regions import head_shapes
from lreorg_fast.log import logger
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.scene_settings import SceneSettings

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.result import FaceResult

SceneStatus = Literal["replaced", "filled", "pixelated"]


@dataclass(frozen=True, eq=False)
class KnownFace:
    """A face that must not be seen: where it is, and whose track it belongs to."""

    detection: Detection
    track: str


@dataclass(frozen=True, eq=False)
class SceneFace:
    """What became of one known face.

    Attributes:
        detection, track: as given.
        status: ``replaced`` (a new face), ``filled`` (a solid colour) or ``pixelated``.
        reason: why it was filled although something else was asked for; None otherwise.
        result: of the aligned face, where the method is ``reorganize``.
    """

    detection: Detection
    track: str
    status: SceneStatus
    reason: str | None = None
    result: FaceResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "box": [round(float(side), 1) for side in self.detection.box],
            "score": round(self.detection.score, 4),
            "track": self.track,
            "status": self.status,
            "reason": self.reason,
            "result": None if self.result is None else self.result.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class SceneResult:
    """The picture ``(H, W, 3)`` uint8 RGB, and its faces in the order they were given."""

    image: Picture
    faces: tuple[SceneFace, ...]

    @property
    def filled(self) -> tuple[SceneFace, ...]:
        """Faces that were filled although another method was asked for."""
        return tuple(face for face in self.faces if face.reason is not None)


@dataclass(frozen=True, eq=False)
class Made:
    """What a method made of one face: a layer, or the reason why there is none."""

    layer: Layer | None
    reason: str | None = None
    result: FaceResult | None = None


class FaceMaker(Protocol):
    """One method. It may raise: then all faces of the picture are filled."""

    status: SceneStatus

    def make(self, picture: Picture, faces: Sequence[KnownFace]) -> list[Made]:
        """One entry per face."""

    def doubts(
        self, source: Picture, made: Picture, faces: Sequence[KnownFace]
    ) -> list[str | None]:
        """Why each face of the finished picture may not leave; None where it may."""


class SceneAnonymizer:
    """Anonymizes whole pictures.

    Args:
        anonymizer: networks and ledger; None is enough for ``pixelate`` and ``fill``.
        detector: see :func:`lreorg_fast.faces.detection.load_detector`.
        settings: what is asked for.

    Raises:
        ConfigError: the method needs an anonymizer, or its bundle cannot do what is asked.
    """

    def __init__(
        self, anonymizer: Anonymizer | None, detector: Detector, settings: SceneSettings
    ) -> None:
        self.anonymizer = anonymizer
        self.detector = detector
        self.settings = settings
        self._maker = _make_maker(anonymizer, settings)
        self._numbers = itertools.count()

    def detect(self, picture: Picture) -> list[Detection]:
        """The faces of a picture ``(H, W, 3)`` uint8 RGB, the surest first.

        Raises:
            ImageError: another kind of picture.
            LReorgError: the detector failed: then nothing is known, and nothing may be shown.
        """
        return self.detector(_checked(picture), self.settings.threshold)

    def __call__(self, picture: Picture, tracks: Sequence[str] | None = None) -> SceneResult:
        """Find the faces and replace them.

        Args:
            picture: (H, W, 3) uint8 RGB; it is not changed.
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

    def replace(self, picture: Picture, faces: Sequence[KnownFace]) -> SceneResult:
        """Replace known faces; whatever fails, they are filled.

        Args:
            picture: (H, W, 3) uint8 RGB; it is not changed.
            faces: all that is known of it; equal tracks are one person.

        Raises:
            ImageError: another kind of picture. Nothing is raised for a face.
        """
        picture, faces = _checked(picture), list(faces)
        try:
            return self._replace(picture, faces)
        except Exception as error:
            reason = f"an error while the picture was made ({type(error).__name__})"
            logger.error("all faces of a picture are filled: %s", reason)
        try:
            made = [Made(None, reason) for _ in faces]
            return self._finish(picture, faces, made)
        except Exception as error:
            reason = f"an error while the faces were filled ({type(error).__name__})"
            logger.error("a whole picture is filled: %s", reason)
        described = [SceneFace(f.detection, f.track, "filled", reason) for f in faces]
        return SceneResult(self.blank(picture), tuple(described))

    def blank(self, picture: Picture) -> Picture:
        """The whole picture in a solid colour: what is shown when nothing is known."""
        return np.full(_checked(picture).shape, FILL_COLOUR, dtype=np.uint8)

    def _replace(self, picture: Picture, faces: list[KnownFace]) -> SceneResult:
        made = self._maker.make(picture, faces)
        result = self._finish(picture, faces, made)
        doubts = self._maker.doubts(picture, result.image, faces)
        doubted = [
            entry if reason is None or entry.layer is None else Made(None, reason, entry.result)
            for entry, reason in zip(made, doubts, strict=True)
        ]
        if all(new is old for new, old in zip(doubted, made, strict=True)):
            return result
        return self._finish(picture, faces, doubted)

    def _finish(
        self, picture: Picture, faces: list[KnownFace], made: Sequence[Made]
    ) -> SceneResult:
        layers = []
        for i in draw_order([face.detection for face in faces]):
            layer = made[i].layer
            if layer is None:
                layer = fill_layer(picture, head_shapes(faces[i].detection))
            layers.append(layer)
        described = (
            SceneFace(
                face.detection,
                face.track,
                "filled" if entry.layer is None else self._maker.status,
                entry.reason,
                entry.result,
            )
            for face, entry in zip(faces, made, strict=True)
        )
        return SceneResult(compose(picture, layers), tuple(described))


class _Fill:
    """A solid colour over every head, asked for: no reason has to be given."""

    status: SceneStatus = "filled"

    def make(self, picture: Picture, faces: Sequence[KnownFace]) -> list[Made]:
        return [Made(fill_layer(picture, head_shapes(face.detection))) for face in faces]

    def doubts(
        self, source: Picture, made: Picture, faces: Sequence[KnownFace]
    ) -> list[str | None]:
        return [None] * len(faces)


class _Pixelate(_Fill):
    """A mosaic over every head."""

    status: SceneStatus = "pixelated"

    def make(self, picture: Picture, faces: Sequence[KnownFace]) -> list[Made]:
        return [Made(pixelate_layer(picture, head_shapes(face.detection))) for face in faces]


def _make_maker(anonymizer: Anonymizer | None, settings: SceneSettings) -> FaceMaker:
    if settings.method == "fill":
        return _Fill()
    if settings.method == "pixelate":
        return _Pixelate()
    if anonymizer is None:
        raise ConfigError(
            f"the method '{settings.method}' needs a bundle; load one, or choose the method "
            "'pixelate' or 'fill'"
        )
    raise ConfigError(f"the method '{settings.method}' is being built")


def _checked(picture: Any) -> Picture:
    if (
        not isinstance(picture, np.ndarray)
        or picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or picture.size == 0
    ):
        kind = f"{getattr(picture, 'shape', '')} {getattr(picture, 'dtype', type(picture))}"
        raise ImageError(f"a picture is {kind}, but must be (height, width, 3) uint8 RGB")
    return picture
