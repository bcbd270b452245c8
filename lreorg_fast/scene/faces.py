"""The faces of a whole picture: known, made, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.regions import Window
from lreorg_fast.privacy.randomness import Sampler
from lreorg_fast.scene.canvas import Canvas, DrawnLayer, Image

if TYPE_CHECKING:
    from lreorg_fast.result import FaceResult

STILL_SEEN = "the face in the finished picture still resembles the original"
SceneStatus = Literal["replaced", "filled", "pixelated"]


@dataclass(frozen=True, eq=False)
class KnownFace:
    """A face that must not be seen: where it is, and whose track it belongs to."""

    detection: Detection
    track: str
    sampler: Sampler | None = None
    """Draws of a pseudonym, for the method ``reorganize``; None is the system's generator."""


@dataclass(frozen=True, eq=False)
class SceneFace:
    """What became of one known face.

    Attributes:
        detection, track: as given.
        status: ``replaced`` (a new face), ``filled`` (a solid colour) or ``pixelated``.
        reason: why it was filled although something else was asked for; None otherwise.
        result: of the aligned face, where the method is ``reorganize``.
        quad: (4, 2) corners of the square that was replaced, where it was.
        window: the pixels of the picture that may have changed for it; None is all of them.
    """

    detection: Detection
    track: str
    status: SceneStatus
    reason: str | None = None
    result: FaceResult | None = None
    quad: NDArray[np.float64] | None = None
    window: Window | None = None

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
    """The picture, in the form of the input, and its faces in the order they were given."""

    image: Image
    faces: tuple[SceneFace, ...]

    @property
    def filled(self) -> tuple[SceneFace, ...]:
        """Faces that were filled although another method was asked for."""
        return tuple(face for face in self.faces if face.reason is not None)


@dataclass(frozen=True, eq=False)
class Made:
    """What a method made of one face: a layer, or the reason why there is none.

    Attributes:
        layer: what is drawn.
        reason: why there is none.
        result: of the aligned face.
        quad: (4, 2) corners of the square that was replaced.
    """

    layer: DrawnLayer | None
    reason: str | None = None
    result: FaceResult | None = None
    quad: NDArray[np.float64] | None = None


class FaceMaker(Protocol):
    """One method. It may raise: then all faces of the picture are filled."""

    status: SceneStatus

    def make(self, canvas: Canvas, faces: Sequence[KnownFace]) -> list[Made]:
        """One entry per face."""

    def doubts(self, source: Canvas, finished: Canvas, made: Sequence[Made]) -> list[str | None]:
        """Why each face of the finished picture may not leave; None where it may."""
