"""How a stored picture is turned before it is seen: the eight ways of a display matrix."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from lreorg_fast.errors import VideoError
from lreorg_fast.media.pictures import Picture

MATRIX_BYTES = 36
_ONE = 1 << 16  # the matrix holds 16.16 fixed-point numbers, but for its last column


@dataclass(frozen=True)
class Orientation:
    """Turn the axes, then mirror them: what brings a stored picture upright.

    Attributes:
        transpose: swap rows and columns first.
        flip_x, flip_y: then mirror left-right, top-bottom.
        matrix: the nine integers of the container's display matrix; None if it has none.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    matrix: tuple[int, ...] | None = None

    @classmethod
    def of_matrix(cls, content: bytes) -> Orientation:
        """Read the display matrix of FFmpeg's side data: nine 32-bit integers, row by row.

        Raises:
            VideoError: it scales, shears or turns by something else than quarter turns.
        """
        if len(content) != MATRIX_BYTES:
            raise VideoError(f"the display matrix has {len(content)} bytes instead of 36")
        matrix = struct.unpack("=9i", content)
        a, b, c, d = (value / _ONE for value in (matrix[0], matrix[1], matrix[3], matrix[4]))
        rounded = tuple(round(value) for value in (a, b, c, d))
        near = all(abs(v - r) < 0.01 for v, r in zip((a, b, c, d), rounded, strict=True))
        if near and abs(rounded[0]) == abs(rounded[3]) == 1 and rounded[1] == rounded[2] == 0:
            return cls(False, rounded[0] < 0, rounded[3] < 0, matrix)
        if near and abs(rounded[1]) == abs(rounded[2]) == 1 and rounded[0] == rounded[3] == 0:
            return cls(True, rounded[2] < 0, rounded[1] < 0, matrix)
        raise VideoError(
            "the video is turned by something else than quarter turns, so faces would not be "
            "upright; turn it with another tool first"
        )

    def upright(self, stored: Picture) -> Picture:
        """``(H, W, ...)`` as stored to how it is seen."""
        picture = stored.swapaxes(0, 1) if self.transpose else stored
        return np.ascontiguousarray(picture[self._flips])

    def stored(self, upright: Picture) -> Picture:
        """The inverse of :meth:`upright`."""
        picture = upright[self._flips]
        return np.ascontiguousarray(picture.swapaxes(0, 1) if self.transpose else picture)

    @property
    def _flips(self) -> tuple[slice, slice]:
        rows, columns = (
            slice(None, None, -1 if flip else 1) for flip in (self.flip_y, self.flip_x)
        )
        return rows, columns
