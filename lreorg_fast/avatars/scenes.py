"""Clips of moving avatars with ground truth: who is where in every frame, exactly.

Every person is a square portrait that moves over a background, changes its expression and turns
its head. The paths hold what trackers and blending get wrong: two people who cross and hide each
other, one who leaves the picture and comes back, one who stays half outside of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lreorg_fast.avatars.landmarks import face_boxes, landmarks
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import Avatars, sample_avatars
from lreorg_fast.errors import ConfigError
from lreorg_fast.media.pictures import Picture

Way = Callable[[float], tuple[float, float]]


def _crossing(t: float) -> tuple[float, float]:
    return 0.2 + 0.6 * t, 0.5 + 0.1 * math.sin(2 * math.pi * t)


def _crossing_back(t: float) -> tuple[float, float]:
    return 0.8 - 0.6 * t, 0.5


def _leaving_and_returning(t: float) -> tuple[float, float]:
    return 0.75 + 0.6 * math.sin(math.pi * t), 0.3


def _at_the_border(t: float) -> tuple[float, float]:
    return 0.1 + 0.15 * t, 0.98 - 0.1 * math.sin(math.pi * t)


def _waiting(t: float) -> tuple[float, float]:
    return 0.5, 0.18 + 0.02 * math.sin(2 * math.pi * t)


# Centre of the portrait, in shares of width and height, over the clip; later people stand in
# front of earlier ones.
PATHS: dict[str, Way] = {
    "crossing": _crossing,
    "crossing back": _crossing_back,
    "leaving and returning": _leaving_and_returning,
    "at the border": _at_the_border,
    "waiting": _waiting,
}


@dataclass(frozen=True)
class SceneConfig:
    """What a clip shows.

    Args:
        width, height: of the frames, in pixels, 16 to 4096.
        frames: length, at least 1.
        paths: names of :data:`PATHS`, one person each, from the back to the front.
        size: side of a person's portrait in pixels, 16 to 1024. Detectors that are trained on
            photographs know avatars best at about 64.
        seed: decides who the people are.
    """

    width: int = 320
    height: int = 192
    frames: int = 48
    paths: tuple[str, ...] = ("crossing", "crossing back")
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        _check("width", self.width, 16, 4096)
        _check("height", self.height, 16, 4096)
        _check("size", self.size, 16, 1024)
        _check("frames", self.frames, 1, 10_000_000)
        unknown = [name for name in self.paths if name not in PATHS]
        if unknown:
            raise ConfigError(f"paths has {unknown[0]!r}, but must be of {', '.join(PATHS)}")


@dataclass(frozen=True, eq=False)
class TrueFace:
    """One person in one frame.

    Attributes:
        person: number of the path; the same in every frame of the clip.
        box: (4,) float64 x0, y0, x1, y1 of the face in pixels (0 is the middle of the first); may
            leave the frame.
        landmarks: (5, 2) float64 left eye, right eye, nose, mouth corners as seen.
        visible: share of the box that lies in the frame and behind nobody's portrait, 0 to 1.
    """

    person: int
    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    visible: float


@dataclass(frozen=True)
class _Frame:
    picture: Picture
    faces: tuple[TrueFace, ...]


class AvatarClip:
    """A clip as a sequence of frames, each rendered when it is asked for: any length, no memory.

    A pure function of its configuration.
    """

    def __init__(self, config: SceneConfig | None = None) -> None:
        self.config = config or SceneConfig()
        generator = torch.Generator().manual_seed(self.config.seed)
        self._people = sample_avatars(len(self.config.paths), generator)

    def __len__(self) -> int:
        return self.config.frames

    def __iter__(self) -> Iterator[tuple[Picture, tuple[TrueFace, ...]]]:
        return ((frame.picture, frame.faces) for frame in map(self._frame, range(len(self))))

    def picture(self, number: int) -> Picture:
        """Frame ``number`` as (height, width, 3) uint8 RGB."""
        return self._frame(number).picture

    def faces(self, number: int) -> tuple[TrueFace, ...]:
        """Who is in frame ``number``; also those that are hidden or outside (``visible`` 0)."""
        return self._truth(number, self._at(number))

    # ---- one frame

    def _frame(self, number: int) -> _Frame:
        people = self._at(number)
        size = self.config.size
        picture = self._background.copy()
        if not len(people):
            return _Frame(picture, ())
        portraits = render(people, size).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
        for portrait, (left, top) in zip(portraits, self._corners(number), strict=True):
            y0, y1 = max(top, 0), min(top + size, self.config.height)
            x0, x1 = max(left, 0), min(left + size, self.config.width)
            if y0 < y1 and x0 < x1:
                picture[y0:y1, x0:x1] = portrait[y0 - top : y1 - top, x0 - left : x1 - left]
        return _Frame(picture, self._truth(number, people))

    def _truth(self, number: int, people: Avatars) -> tuple[TrueFace, ...]:
        corners = np.array(self._corners(number), dtype=np.float64).reshape(-1, 2)
        points = landmarks(people).double().numpy() * self.config.size + corners[:, None] - 0.5
        boxes = face_boxes(people).double().numpy() * self.config.size + np.tile(corners, 2) - 0.5
        return tuple(
            TrueFace(i, boxes[i], points[i], self._visible(boxes[i], corners[i + 1 :]))
            for i in range(len(people))
        )

    def _visible(self, box: NDArray[np.float64], in_front: NDArray[np.float64]) -> float:
        x0, y0, x1, y1 = box
        area = max(round(x1) - round(x0), 1) * max(round(y1) - round(y0), 1)
        seen = np.ones((self.config.height, self.config.width), dtype=bool)
        for left, top in in_front.astype(int):
            rows = slice(max(top, 0), max(top + self.config.size, 0))
            seen[rows, max(left, 0) : max(left + self.config.size, 0)] = False
        rows, columns = (
            slice(max(round(low), 0), max(round(high), 0)) for low, high in ((y0, y1), (x0, x1))
        )
        return float(seen[rows, columns].sum() / area)

    def _at(self, number: int) -> Avatars:
        """The people as they look in frame ``number``: smiling, turning and tilting slowly."""
        phase = torch.arange(len(self._people)) * 1.7 + number * 2 * math.pi / 60
        nuisance = self._people.nuisance.clone()
        nuisance[:, 3] = 0.6 * torch.sin(phase * 0.7)
        nuisance[:, 4] = 0.8 * torch.sin(phase)
        attributes = dict(self._people.attributes)
        attributes["expression"] = 0.7 * torch.sin(phase * 0.5)
        return Avatars(self._people.identity, attributes, nuisance)

    def _corners(self, number: int) -> list[tuple[int, int]]:
        t = number / max(self.config.frames - 1, 1)
        centres = [PATHS[name](t) for name in self.config.paths]
        half = self.config.size // 2
        return [
            (round(x * self.config.width) - half, round(y * self.config.height) - half)
            for x, y in centres
        ]

    @cached_property
    def _background(self) -> Picture:
        """Two soft gradients and a fixed pattern: nothing that looks like a face."""
        y, x = np.mgrid[: self.config.height, : self.config.width].astype(np.float64)
        x, y = x / self.config.width, y / self.config.height
        stripes = 12 * np.sin(40 * x) * np.sin(25 * y)
        planes = [90 + 70 * x + stripes, 110 + 50 * y + stripes, 140 - 40 * x * y + stripes]
        background: Picture = np.stack(planes, axis=2).round().astype(np.uint8)
        return background


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}, but must be {low} to {high}")
