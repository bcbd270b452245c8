"""What attackers have who learn: a way to train, and a method's outputs for people of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lreorg_fast.evaluation.attacks.learning import (
    FEWEST_PEOPLE,
    Extractor,
    Learner,
    Projected,
    TrainingSet,
)
from lreorg_fast.evaluation.attacks.trained import Target
from lreorg_fast.evaluation.protocol import Collection, Indices, Judges, Labels, Observed
from lreorg_fast.media.pictures import Picture, resized

# Originals and outputs of this many pictures, made small, are in memory at once: 1.6 GB at most.
MOST_TRAINING = 1_000
TRAINING_SIDE = 512
_SEED = 0  # of who is learnt from and who is attacked


@dataclass(frozen=True, eq=False)
class Attackers:
    """What attackers learn with.

    Attributes:
        learners: of the parrot attack.
        extractor: frozen features, off which hidden attributes are read.
        features: what those are, for notes.
    """

    learners: Sequence[Learner]
    extractor: Extractor
    features: str


@dataclass(frozen=True, eq=False)
class Attacked:
    """Who is attacked, and the people that the attackers learn from.

    Attributes:
        attackers: what they learn with.
        target: outputs of the people who are attacked.
        originals: what the judges said of those people's originals.
        training: the method's outputs for other people.
        labels: true attributes of the training pictures.
    """

    attackers: Attackers
    target: Target
    originals: Observed
    training: TrainingSet
    labels: Mapping[str, Labels]


class TrainedOnce:
    """A learner that is not trained twice on the same list: the control of all methods is one.

    Args:
        learner: does the work.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self.name, self.description = learner.name, learner.description
        self._last: tuple[Sequence[Picture], Extractor] | None = None

    def train(self, pictures: Sequence[Picture], subjects: Indices) -> Extractor:
        """See :class:`Learner`; of equal objects, not of equal content."""
        if self._last is not None and self._last[0] is pictures:
            return self._last[1]
        trained = self._learner.train(pictures, subjects)
        if isinstance(pictures, tuple):  # such as nobody can change
            self._last = (pictures, trained)
        return trained


def photograph_attackers(judges: Judges) -> Attackers:
    """A discriminant on each recognizer's embeddings; there is no network to train on a CPU.

    Args:
        judges: with at least one recognizer.
    """
    return Attackers(
        [
            TrainedOnce(
                Projected(r.embed, f"{r.name}, discriminant", f"embeddings of {r.description}")
            )
            for r in judges.recognizers
        ],
        judges.recognizers[0].embed,
        f"embeddings of {judges.recognizers[0].name}",
    )


def split_people(subjects: Indices) -> tuple[Indices, Indices] | str:
    """Pictures to learn from and pictures that are attacked, of different people; or why not.

    Half of the people who have several pictures are learnt from, at most :data:`MOST_TRAINING`
    pictures; everybody else is attacked.

    Args:
        subjects: (N,).
    """
    people, counts = np.unique(subjects, return_counts=True)
    several = people[counts > 1]
    if len(several) < 2 * FEWEST_PEOPLE:
        return (
            f"attacks that learn need {2 * FEWEST_PEOPLE} people with two pictures or more, half "
            f"to learn from and half to attack, and there are {len(several)}"
        )
    order = np.random.default_rng(_SEED).permutation(several)[: len(several) // 2]
    sizes = np.cumsum([int(counts[people == person][0]) for person in order])
    known = order[: max(FEWEST_PEOPLE, int((sizes <= MOST_TRAINING).sum()))]
    chosen = np.isin(subjects, known)
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def training_pictures(collection: Collection) -> tuple[Picture, ...]:
    """All originals of a collection to learn from, made small.

    Raises:
        ImageError: one cannot be read.
    """
    pictures = (collection.picture(index) for index in range(len(collection)))
    return tuple(small(picture, TRAINING_SIDE) for picture in pictures if picture is not None)


def small(picture: Picture, side: int) -> Picture:
    """With sides of at most ``side`` pixels."""
    height, width = picture.shape[:2]
    share = min(1.0, side / max(height, width))
    return resized(picture, (max(1, round(width * share)), max(1, round(height * share))))


def part_of(observed: Observed, indices: Indices) -> Observed:
    """What was said of some pictures; of features, whose distribution counts, nothing."""

    def chosen(rows: np.ndarray | None) -> np.ndarray | None:
        return None if rows is None else rows[indices]

    return Observed(
        observed.released[indices],
        {name: rows[indices] for name, rows in observed.embeddings.items()},
        chosen(observed.attributes),
        observed.found[indices],
        chosen(observed.landmarks),
        {},
    )
