"""People as points on a sphere: collections, judges and observations without any picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import Indices, Judges, Labels, Observed
from lreorg_fast.media.pictures import Picture

NAME = "toy"


@dataclass
class ToyCollection:
    subjects: Indices
    attributes: Mapping[str, Labels] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: str = "points"
    domain: str = "avatars"

    @property
    def names(self) -> list[str]:
        return [str(i) for i in range(len(self))]

    def __len__(self) -> int:
        return len(self.subjects)

    def picture(self, index: int) -> Picture:
        return np.full((8, 8, 3), index % 256, np.uint8)

    def fingerprint(self, index: int) -> str:
        return str(index)


@dataclass
class ToyRecognizer:
    name: str = NAME
    description: str = "tells points apart"

    def embed(self, pictures: Sequence[Picture]) -> Floats:
        raise AssertionError("the measures look at what was observed")


class ToyReader:
    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.description = "reads what is written"

    def read(self, pictures: Sequence[Picture]) -> Labels:
        raise AssertionError("the measures look at what was observed")


class ToyFinder:
    description = "finds everything"

    def find(self, pictures: Sequence[Picture]) -> tuple[Labels, Floats | None]:
        raise AssertionError("the measures look at what was observed")


def unit(rows: NDArray[np.float64]) -> Floats:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def points(subjects: Indices, spread: float = 0.3, seed: int = 0, dim: int = 32) -> Floats:
    """Unit rows: everybody's centre and noise of length ``spread``."""
    random = np.random.default_rng(seed)
    centres = unit(random.standard_normal((int(subjects.max()) + 1, dim)))
    noise = unit(random.standard_normal((len(subjects), dim)))
    return unit(centres[subjects] + spread * noise)


def strangers(subjects: Indices, seed: int = 1, dim: int = 32) -> Floats:
    """Rows that have nothing to do with anybody."""
    return unit(np.random.default_rng(seed).standard_normal((len(subjects), dim)))


def people(count: int, pictures: int = 2) -> Indices:
    return np.repeat(np.arange(count), pictures)


def observed(
    embeddings: Floats,
    *,
    released: Labels | None = None,
    found: Labels | None = None,
    attributes: Labels | None = None,
    landmarks: Floats | None = None,
    statistics: Mapping[str, tuple[Floats, Floats, int]] | None = None,
) -> Observed:
    every = np.ones(len(embeddings), bool)
    out = every if released is None else released
    seen = np.where(out[:, None], embeddings, np.nan)
    return Observed(
        released=out,
        embeddings={NAME: seen},
        attributes=attributes,
        found=out if found is None else found,
        landmarks=landmarks,
        statistics=statistics or {},
    )


def judges(
    reader: ToyReader | None = None,
    finder: ToyFinder | None = None,
    missing: Mapping[str, str] | None = None,
) -> Judges:
    return Judges((ToyRecognizer(),), reader, finder, (), missing or {})
