"""What belongs to a face in a whole picture: its ellipse, and the head around it.

A region is a shape in a frame of its own, so one description serves a tilted face, a face that
leaves the picture, and pixels in numpy and in torch alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.faces.detection import Detection

Floats = NDArray[np.float64]

# Detectors' boxes reach from the middle of the forehead to the chin and hardly to the ears. These
# shares of the box's sides are added for the whole head: left and right, above, below.
HEAD_SIDE, HEAD_ABOVE, HEAD_BELOW = 0.35, 0.50, 0.25
# The ellipse through the middles of the box's sides, so much larger, covers the skin of the face.
FACE_SCALE = 1.2
# Landmarks are trusted for the tilt if they span at least this share of the box's height.
_LEAST_SPAN = 0.1


class Window(NamedTuple):
    """Pixels ``[top:bottom, left:right]`` of a picture; empty where nothing is inside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the pixels in ``(H, W, ...)``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def empty(self) -> bool:
        return self.right <= self.left or self.bottom <= self.top

    def meet(self, other: Window) -> Window:
        """What both have in common."""
        return Window(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def within(self, other: Window) -> Window:
        """The same pixels, counted from the corner of ``other``."""
        return Window(
            self.left - other.left,
            self.top - other.top,
            self.right - other.left,
            self.bottom - other.top,
        )


@dataclass(frozen=True, eq=False)
class Shape:
    """A superellipse ``|u|^power + |v|^power <= 1`` with soft surroundings.

    Attributes:
        centre: (2,) pixels.
        right, down: (2,) pixels: the half axes, where u or v is 1; orthogonal.
        power: 2 is an ellipse, infinity a rectangle.
        outer: in units of the axes, at least 1: within 1 all is covered, from ``outer`` on nothing.
    """

    centre: Floats
    right: Floats
    down: Floats
    power: float = 2.0
    outer: float = 1.0

    @property
    def corners(self) -> Floats:
        """(4, 2): the corners of the rectangle around all that is covered."""
        right, down = self.outer * self.right, self.outer * self.down
        return self.centre + np.stack([-right - down, -right + down, right + down, right - down])

    def radius(self, window: Window) -> NDArray[np.float32]:
        """``(H, W)`` of the window: 1 on the border of the shape, less within."""
        across, along = unit_coordinates(window, self.centre, self.right, self.down)
        across, along = np.abs(across), np.abs(along)
        if np.isinf(self.power):
            return np.maximum(across, along)
        if self.power == 2:
            return np.sqrt(across * across + along * along)
        # Through the larger of both, or powers of large coordinates overflow.
        most, least = np.maximum(across, along), np.minimum(across, along)
        ratio = least / np.maximum(most, np.float32(1e-12))
        return np.asarray(most * (1 + ratio**self.power) ** (1 / self.power), dtype=np.float32)


def unit_coordinates(
    window: Window, centre: Floats, right: Floats, down: Floats
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates u, v ``(H, W)`` of a window's pixels along the half axes ``right``, ``down``."""
    inverse = np.linalg.inv(np.stack([right, down], axis=1))
    x = np.arange(window.left, window.right) - centre[0]
    y = np.arange(window.top, window.bottom)[:, None] - centre[1]
    u, v = (row[0] * x + row[1] * y for row in inverse)
    return u.astype(np.float32), v.astype(np.float32)


def window_of(shapes: Sequence[Shape], size: tuple[int, int]) -> Window:
    """The pixels of a picture of ``size`` (width, height) that the shapes may touch."""
    corners = np.concatenate([shape.corners for shape in shapes])
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
    limits = np.array(size, dtype=np.float64)
    left, top = np.clip(low, 0, limits)
    right, bottom = np.clip(high, 0, limits)
    return Window(int(left), int(top), int(right), int(bottom))


def face_shape(detection: Detection, feather: float = 0.0) -> Shape:
    """The ellipse of the face, tilted as its landmarks are, with a soft border.

    ``feather`` is the width of the border as a share of the half axes.
    """
    right, down = _axes(detection)
    return Shape(_centre(detection), FACE_SCALE * right, FACE_SCALE * down, 2.0, 1.0 + feather)


def head_shapes(detection: Detection) -> tuple[Shape, ...]:
    """The whole head with hair and ears: a tilted rectangle, and the detector's own box."""
    right, down = _axes(detection)
    taller = (1 + HEAD_ABOVE + HEAD_BELOW) * down
    centre = _centre(detection) + (HEAD_BELOW - HEAD_ABOVE) * down
    return (
        Shape(centre, (1 + 2 * HEAD_SIDE) * right, taller, np.inf),
        _box_shape(detection),
    )


def _box_shape(detection: Detection) -> Shape:
    half = (detection.box[2:] - detection.box[:2]) / 2
    # Half a pixel more on each side: a pixel that the border crosses belongs to the face.
    right, down = np.array([half[0] + 0.5, 0.0]), np.array([0.0, half[1] + 0.5])
    return Shape(_centre(detection), right, down, np.inf)


def _centre(detection: Detection) -> Floats:
    return (detection.box[:2] + detection.box[2:]) / 2


def _axes(detection: Detection) -> tuple[Floats, Floats]:
    """Half axes of the box, turned by the tilt of the landmarks."""
    half_width, half_height = np.maximum((detection.box[2:] - detection.box[:2]) / 2, 0.5)
    right = tilt(detection)
    if abs(right[1]) > abs(right[0]):  # a face that lies on its side: the box's sides change roles
        half_width, half_height = half_height, half_width
    return half_width * right, half_height * np.array([-right[1], right[0]])


def tilt(detection: Detection) -> Floats:
    """(2,) unit vector from the left to the right of the face, (1, 0) where it cannot be known.

    From both the line of the eyes and that from the eyes down to the mouth, as FFHQ's alignment:
    in a profile the eyes are nearly one point.
    """
    eyes, mouth = detection.landmarks[:2], detection.landmarks[3:]
    down = mouth.mean(axis=0) - eyes.mean(axis=0)
    right = (eyes[1] - eyes[0]) + np.array([down[1], -down[0]])
    length = float(np.hypot(*right))
    if length < _LEAST_SPAN * detection.size:
        return np.array([1.0, 0.0])
    return np.asarray(right / length)
