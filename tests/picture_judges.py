"""Judges that look at pixels, so that what they say can be known beforehand; picklable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import Judges, Labels
from lreorg_fast.media.pictures import Picture

DIM = 6


def embedding(picture: Picture) -> Floats:
    random = np.random.default_rng(int(picture[0, 0, 0]))
    row = random.standard_normal(DIM)
    return row / np.linalg.norm(row)


class Pixels:
    """A recognizer, reader, finder and feature net in one; counts what it was shown."""

    name = "pixels"
    description = "looks at the first pixel"
    names = ("bright", "red")
    metric = "feature_distance"
    convention = "pixels"

    def __init__(self, fingerprint: str = "1", width: int = DIM, fatal: int | None = None) -> None:
        self.fingerprint = fingerprint
        self.width, self.fatal = width, fatal
        self.shown: list[int] = []
        self.largest = 0

    def embed(self, pictures: Sequence[Picture]) -> Floats:
        shades = [int(picture[0, 0, 0]) for picture in pictures]
        if self.fatal in shades:
            os._exit(9)
        self.shown += shades
        self.largest = max(self.largest, sum(picture.size // 3 for picture in pictures))
        rows = np.array([embedding(picture)[: self.width] for picture in pictures])
        rows[np.array(shades) == 13] = np.nan
        return rows

    def read(self, pictures: Sequence[Picture]) -> Labels:
        return np.array([[p[0, 0, 0] > 100, p[0, 0, 0] % 2 == 1] for p in pictures], dtype=bool)

    def find(self, pictures: Sequence[Picture]) -> tuple[Labels, Floats | None]:
        found = np.array([int(p[0, 0, 0]) != 13 for p in pictures])
        landmarks = np.array([np.full((5, 2), float(p[0, 0, 0])) for p in pictures])
        landmarks[~found] = np.nan
        return found, landmarks

    def features(self, pictures: Sequence[Picture]) -> Floats:
        return np.array([embedding(p)[:3] for p in pictures])


class Broken(Pixels):
    def embed(self, pictures: Sequence[Picture]) -> Floats:
        return np.zeros((len(pictures) + 1, DIM))


def make(judge: Pixels | None = None) -> Judges:
    one = judge or Pixels()
    return Judges((one,), one, one, (one,), {})


def fatal(shade: int) -> Judges:
    return make(Pixels(fatal=shade))


def only_a_recognizer() -> Judges:
    return Judges((Pixels(),))


def noted(log: Path) -> Judges:
    """As :func:`make`; each process leaves a file of its own in ``log``."""
    (log / f"{os.getpid()}").touch()
    return make()


def noted_in(log: Path) -> partial[Judges]:
    return partial(noted, log)
