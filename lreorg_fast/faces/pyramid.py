"""Faces of every size: a detector shown a picture at several scales, in tiles where it is large.

At full size the small faces are found, at each level below larger ones. A level that is too
large for one look is cut into tiles that overlap; a face that no tile holds whole is small enough
to be whole at a coarser level. Memory is bounded by one tile, whatever the picture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from PIL import Image

from lreorg_fast.errors import ConfigError
from lreorg_fast.faces.decoders import Candidates
from lreorg_fast.faces.detection import Detection, merged
from lreorg_fast.media.pictures import Picture

# One look of CenterFace at so many pixels takes about 0.3 GB.
_TILE = 1536
_MAX_TILE_PIXELS = _TILE**2
_OVERLAP = 256
_MULTIPLE = 32
# Pictures up to this size are also looked at twice as large: in one of 40 pixels a face of 8 gets
# the score 0.13 as it is, and 0.55 then.
_SMALL_PICTURE = 320
# Level on level, until the picture is so small that the largest face in it is easily found.
_SMALLEST_SIDE = 96
# A picture with more candidates than this at one level is noise, or an attack on the merging.
_MOST_CANDIDATES = 4000


class LooksAtTiles(Protocol):
    size: tuple[int, int] | None

    def __call__(self, tile: Picture, threshold: float) -> Candidates: ...


class PyramidDetector:
    """A :class:`lreorg_fast.faces.detection.Detector` made of a network that looks at tiles."""

    def __init__(
        self, network: LooksAtTiles, longest_side: int | None = None, per_halving: int = 2
    ) -> None:
        if longest_side is not None and longest_side < 64:
            raise ConfigError(f"longest_side is {longest_side}; it must be at least 64 pixels")
        if not 1 <= per_halving <= 4:
            raise ConfigError(f"per_halving is {per_halving}; it must be 1 to 4 levels")
        self.network = network
        self._per_halving = per_halving
        self._longest_side = longest_side

    def __call__(self, picture: Picture, threshold: float) -> list[Detection]:
        """See :class:`lreorg_fast.faces.detection.Detector`.

        Raises:
            ConfigError: a threshold outside of (0, 1].
            CheckpointError: the network failed.
        """
        if not 0 < threshold <= 1:
            raise ConfigError(f"the detection threshold is {threshold}; it must be in (0, 1]")
        found: list[Detection] = []
        for level in self._levels(picture):
            found.extend(self._look(level, picture, threshold))
        return merged(found)

    def _levels(self, picture: Picture) -> Iterator[Picture]:
        longest = max(picture.shape[:2])
        start = longest if self._longest_side is None else min(longest, self._longest_side)
        if start == longest <= _SMALL_PICTURE:
            start = 2 * longest
        made: list[Picture] = []
        for step in itertools.count():
            side = start / 2 ** (step / self._per_halving)
            if step and side < _SMALLEST_SIDE:
                return
            scale = side / longest
            width, height = (max(1, round(n * scale)) for n in picture.shape[1::-1])
            # From the level twice as large: only the first ones read the whole picture.
            larger = made.pop(0) if step >= self._per_halving else picture
            level = _resized(larger, (width, height))
            made.append(level)
            yield level

    def _look(self, level: Picture, picture: Picture, threshold: float) -> list[Detection]:
        scale = np.array(picture.shape[1::-1]) / level.shape[1::-1]
        found = []
        for left, top, tile in self._tiles(level):
            candidates = self.network(tile, threshold)
            corner = np.array([left, top])
            for i in np.argsort(-candidates.scores, kind="stable")[:_MOST_CANDIDATES]:
                box = (candidates.boxes[i].reshape(2, 2) + corner) * scale
                if (box[1] <= box[0]).any():
                    continue
                points = (candidates.points[i] + corner) * scale
                found.append(Detection(box.ravel(), min(1.0, float(candidates.scores[i])), points))
        return merged(found)

    def _tiles(self, level: Picture) -> Iterator[tuple[int, int, Picture]]:
        """Left, top, and pixels: black beyond the level."""
        height, width = level.shape[:2]
        if self.network.size is not None:
            tile_height, tile_width = self.network.size
        elif height * width <= _MAX_TILE_PIXELS:
            tile_height, tile_width = (
                math.ceil(n / _MULTIPLE) * _MULTIPLE for n in level.shape[:2]
            )
        else:
            tile_height = tile_width = _TILE
        for top in _starts(height, tile_height):
            for left in _starts(width, tile_width):
                part = level[top : top + tile_height, left : left + tile_width]
                margins = (
                    (0, tile_height - part.shape[0]),
                    (0, tile_width - part.shape[1]),
                    (0, 0),
                )
                yield left, top, np.pad(part, margins) if np.any(margins) else part


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin so that they cover ``length`` with the overlap, the last flush."""
    if length <= tile:
        return [0]
    step = max(1, tile - min(_OVERLAP, tile // 2))
    count = math.ceil((length - tile) / step)
    return [min(i * step, length - tile) for i in range(count + 1)]


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
