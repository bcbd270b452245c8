"""People as coloured patterns: what a small network learns to tell apart in a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from toy_evaluation import unit

from lreorg_fast.evaluation.attacks import Target, TrainingSet
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import Indices, Labels, Observed
from lreorg_fast.media.pictures import Picture

SIZE = 16
Method = Callable[[Sequence[Picture]], list[Picture | None]]


def draw(count: int, each: int, seed: int, noise: float = 12.0) -> tuple[list[Picture], Indices]:
    """``each`` pictures of ``count`` people: four by four coloured fields, and noise."""
    random = np.random.default_rng(seed)
    fields = random.integers(40, 216, (count, 4, 4, 3)).astype(np.float64)
    subjects = np.repeat(np.arange(count), each)
    large = np.kron(fields[subjects], np.ones((1, SIZE // 4, SIZE // 4, 1)))
    shown = large + noise * random.standard_normal(large.shape)
    return list(np.clip(shown, 0, 255).astype(np.uint8)), subjects


def same(pictures: Sequence[Picture]) -> list[Picture | None]:
    """Unprotected."""
    return list(pictures)


def independent(pictures: Sequence[Picture]) -> list[Picture | None]:
    """Somebody else, drawn for every picture."""
    made, _ = draw(len(pictures), 1, seed=len(pictures) + 10_000)
    return list(made)


def secret_code(pictures: Sequence[Picture]) -> list[Picture | None]:
    """Always the same exchange of colours: confuses who never saw it."""
    return [np.ascontiguousarray(p[:, :, [1, 2, 0]]) for p in pictures]


def opposite_corner(pictures: Sequence[Picture]) -> list[Picture | None]:
    """Independent, but for the fields around the edge."""
    made = []
    for new, old in zip(independent(pictures), pictures, strict=True):
        assert new is not None
        mixed = old.copy()
        mixed[4:12, 4:12] = new[4:12, 4:12]
        made.append(mixed)
    return made


def colours(pictures: Sequence[Picture]) -> Floats:
    """An untrained recognizer: the mean colours of the fields, centred."""
    stacked = np.stack(pictures).astype(np.float64) / 127.5 - 1
    return unit(
        stacked.reshape(len(stacked), 4, 4, 4, 4, 3).mean(axis=(2, 4)).reshape(len(stacked), -1)
    )


@dataclass
class Shown:
    """Pictures in memory; also a collection."""

    pictures: Sequence[Picture | None]
    subjects: Indices
    attributes: Mapping[str, Labels] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: str = "patterns"
    domain: str = "avatars"

    @property
    def names(self) -> list[str]:
        return [str(i) for i in range(len(self))]

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> Picture | None:
        return self.pictures[index]

    def fingerprint(self, index: int) -> str:
        return str(index)


def no_judge(outputs: Sequence[Picture | None]) -> Observed:
    released = np.array([output is not None for output in outputs])
    return Observed(released, {}, None, released, None, {})


def attacked(
    method: Method,
    count: int = 60,
    pictures: tuple[list[Picture], Indices] | None = None,
    attributes: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Target:
    """Two pictures each of ``count`` people, and what the method makes of them."""
    given, subjects = pictures or draw(count, 2, seed=1)
    outputs = method(given)
    collection = Shown(given, subjects, attributes or {})
    return Target(collection, Shown(outputs, subjects), no_judge(outputs))


def learnt(method: Method, count: int = 60, each: int = 4, seed: int = 2) -> TrainingSet:
    """The same method on other people."""
    given, subjects = draw(count, each, seed)
    return TrainingSet(given, method(given), subjects)
