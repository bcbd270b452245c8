"""Clips whose frames carry their number, and detectors that read it: they know the truth.

The number is in black and white blocks along the lower edge, large enough for every encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from clips import ClipFormat, write_clip

from lreorg_fast.avatars import AvatarClip, SceneConfig
from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.pictures import Picture

_BITS, _BLOCK = 10, 8
WIDTH, HEIGHT = 128, 96


def stamped(picture: Picture, number: int) -> Picture:
    """A copy with its number."""
    made = picture.copy()
    made[-_BLOCK:, : (_BITS + 2) * _BLOCK] = 0
    for bit in range(_BITS):
        if number >> bit & 1:
            made[-_BLOCK:, (bit + 1) * _BLOCK : (bit + 2) * _BLOCK] = 255
    made[-_BLOCK:, (_BITS + 1) * _BLOCK : (_BITS + 2) * _BLOCK] = 255
    return made


def number_of(picture: Picture) -> int | None:
    """The number of a frame; None for other pictures."""
    blocks = [
        picture[-_BLOCK + 2 : -2, i * _BLOCK + 2 : (i + 1) * _BLOCK - 2].mean()
        for i in range(_BITS + 2)
    ]
    if blocks[0] > 100 or blocks[-1] < 150:
        return None
    return sum((level > 127) << bit for bit, level in enumerate(blocks[1:-1]))


class Film:
    """A clip of avatars with its truth."""

    def __init__(
        self,
        frames: int = 48,
        paths: Sequence[str] = ("crossing", "crossing back"),
        size: int = 32,
        seed: int = 0,
    ) -> None:
        config = SceneConfig(WIDTH, HEIGHT - _BLOCK, frames, tuple(paths), size, seed)
        self.clip = AvatarClip(config)

    def __len__(self) -> int:
        return len(self.clip)

    def pictures(self) -> Iterator[Picture]:
        """Frame by frame."""
        for number, (picture, _) in enumerate(self.clip):
            lower = np.full((_BLOCK, WIDTH, 3), 90, np.uint8)
            yield stamped(np.concatenate([picture, lower]), number)

    def write(self, path: Path, how: ClipFormat | None = None) -> Path:
        """As a file."""
        return write_clip(path, self.pictures(), how)

    def known(self, number: int, least: float = 0.4) -> list[Detection]:
        """Who can be seen in a frame."""
        faces = self.clip.faces(number)
        return [Detection(f.box, 0.9, f.landmarks) for f in faces if f.visible >= least]


class TrueDetector:
    """Says who is in the frame whose number it reads; nobody in other pictures.

    ``change`` gets (number, detections) and returns what is said instead, or raises.
    """

    def __init__(
        self, film: Film, change: Callable[[int, list[Detection]], list[Detection]] | None = None
    ) -> None:
        self.film = film
        self.change = change
        self.calls: list[int] = []

    def __call__(self, picture: Picture, threshold: float) -> list[Detection]:
        number = number_of(picture)
        if number is None or number >= len(self.film):
            return []
        self.calls.append(number)
        found = self.film.known(number)
        return found if self.change is None else self.change(number, found)


def exposed(film: Film, source: Sequence[Picture], made: Sequence[Picture]) -> list[int]:
    """Numbers of the frames in which a face of the truth can still be seen.

    A face that was replaced, filled or blanked differs by more than 15 levels in its middle; one
    that was only encoded by less than 6.
    """
    assert len(source) == len(made) == len(film)
    seen = []
    for number, (before, after) in enumerate(zip(source, made, strict=True)):
        for face in film.known(number):
            x0, y0, x1, y1 = np.rint(face.box).astype(int)
            third = (x1 - x0) // 4, (y1 - y0) // 4
            inside = (
                slice(max(y0 + third[1], 0), max(y1 - third[1], 0)),
                slice(max(x0 + third[0], 0), max(x1 - third[0], 0)),
            )
            part = np.abs(before[inside].astype(int) - after[inside])
            if part.size and part.mean() < 10:
                seen.append(number)
    return seen
