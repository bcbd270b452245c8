"""How calm a person is: identity and landmarks of the result against those of the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Spread:
    """Running mean and spread of vectors, in one pass (Welford)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Floats = np.zeros(0)
        self._sum = 0.0

    def add(self, vector: Floats) -> None:
        """One more."""
        self.count += 1
        if self.count == 1:
            self._mean = np.zeros_like(vector, dtype=np.float64)
        step = vector - self._mean
        self._mean = self._mean + step / self.count
        self._sum += float(step @ (vector - self._mean))

    @property
    def deviation(self) -> float | None:
        """Root mean square distance from the mean; None for fewer than two."""
        return (self._sum / self.count) ** 0.5 if self.count > 1 else None


class Jitter:
    """How landmarks shake: their second differences over three neighbouring frames, relative to
    the size of the face. Even motion gives 0."""

    def __init__(self) -> None:
        self._last: list[tuple[int, Floats]] = []
        self._sum, self._count = 0.0, 0

    def add(self, frame: int, landmarks: Floats, size: float) -> None:
        """Landmarks (5, 2) in pixels of one frame; frames come in order."""
        self._last = [*self._last[-2:], (frame, landmarks)]
        if [number for number, _ in self._last] == [frame - 2, frame - 1, frame]:
            a, b, c = (points for _, points in self._last)
            self._sum += float(((a - 2 * b + c) ** 2).mean()) / size**2
            self._count += 1

    @property
    def deviation(self) -> float | None:
        """Root mean square, in sizes of the face; None where no three frames were neighbours."""
        return (self._sum / self._count) ** 0.5 if self._count else None


@dataclass
class Flicker:
    """Of one track, source and result: spread of the recognizer's unit vectors, jitter."""

    identity: tuple[Spread, Spread] = field(default_factory=lambda: (Spread(), Spread()))
    landmarks: tuple[Jitter, Jitter] = field(default_factory=lambda: (Jitter(), Jitter()))

    def to_dict(self) -> dict[str, float | None] | None:
        """JSON-able; None where nothing was measured."""
        values: dict[str, Callable[[], float | None]] = {
            "identity_source": lambda: self.identity[0].deviation,
            "identity_result": lambda: self.identity[1].deviation,
            "landmarks_source": lambda: self.landmarks[0].deviation,
            "landmarks_result": lambda: self.landmarks[1].deviation,
        }
        found = {name: value() for name, value in values.items()}
        if all(value is None for value in found.values()):
            return None
        return {name: None if v is None else round(v, 5) for name, v in found.items()}
