"""Frames with marked faces, a detector that finds them unless told not to, and a plain tracker.

A face is a disc of one colour that appears nowhere else, so whether it is exposed can be read
from any picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lreorg_fast.faces.detection import Detection, overlap
from lreorg_fast.scene import SceneAnonymizer, SceneSettings

SIZE = (64, 96)  # height, width
FACE = 16
_AXIS = np.arange(FACE) - (FACE - 1) / 2
DISC = np.hypot(_AXIS, _AXIS[:, None]) <= FACE / 2
COLOURS = np.array([(250, 10, 30), (10, 240, 60)], np.uint8)


def frame(number: int, people: int = 1) -> np.ndarray:
    """People walk to the right, two pixels a frame, one below the other."""
    picture = np.full((*SIZE, 3), 60, np.uint8)
    picture[::2, ::2] = 80
    for person in range(people):
        y, x = 8 + 32 * person, 4 + (2 * number) % (SIZE[1] - FACE - 8)
        picture[y : y + FACE, x : x + FACE][DISC] = COLOURS[person]
    return picture


def frames(count: int, people: int = 1) -> Iterator[np.ndarray]:
    return (frame(number, people) for number in range(count))


def exposed(picture: np.ndarray) -> int:
    """Pixels that show a face."""
    return int(sum((picture == colour).all(axis=2).sum() for colour in COLOURS))


def is_blank(picture: np.ndarray) -> bool:
    return bool((picture == 128).all())


@dataclass
class MarkDetector:
    """Finds the marks; at call ``number`` it does what ``faults`` says instead."""

    faults: dict[int, object] = field(default_factory=dict)
    calls: int = 0

    def __call__(self, picture: np.ndarray, threshold: float) -> list[Detection]:
        number, self.calls = self.calls, self.calls + 1
        fault = self.faults.get(number)
        if callable(fault):
            fault()
        if isinstance(fault, BaseException):
            raise fault
        if fault == "nothing":
            return []
        return [d for colour in COLOURS for d in _marks(picture, colour)]


def _marks(picture: np.ndarray, colour: np.ndarray) -> list[Detection]:
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    if not len(rows):
        return []
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    points = [(0.3, 0.35), (0.7, 0.35), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
    landmarks = [(x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u, v in points]
    return [Detection(np.array([x0, y0, x1, y1]), 0.9, np.array(landmarks))]


@dataclass
class Face:
    detection: Detection
    track: int
    seen: bool = True


class NearestTracker:
    """The same number for boxes that overlap from frame to frame."""

    def __init__(self) -> None:
        self._last: dict[int, Detection] = {}
        self._next = 0

    def update(self, detections: Sequence[Detection], time: float) -> list[Face]:
        faces = []
        for detection in detections:
            near = [t for t, d in self._last.items() if overlap(d.box, detection.box) > 0.2]
            if not near:
                near, self._next = [self._next], self._next + 1
            self._last[near[0]] = detection
            faces.append(Face(detection, near[0]))
        return faces


def filling(detector: MarkDetector | None = None) -> SceneAnonymizer:
    return SceneAnonymizer(None, detector or MarkDetector(), SceneSettings(method="fill"))
