"""A trained attacker names the people behind outputs: what all such attacks have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lreorg_fast.evaluation.attacks.learning import Extractor, Learner, TrainingSet
from lreorg_fast.evaluation.calibration import NO_OTHER_PICTURE
from lreorg_fast.evaluation.figures import Floats, share_figure
from lreorg_fast.evaluation.identification import Identified, identify
from lreorg_fast.evaluation.measured import Measured, unavailable
from lreorg_fast.evaluation.metrics import MIN_ACCEPTED_IMPOSTORS, threshold_at_far
from lreorg_fast.evaluation.observations import mean_per_picture
from lreorg_fast.evaluation.pairs import genuine_pairs, impostors, paired_cosines, seen
from lreorg_fast.evaluation.protocol import Collection, Indices, Labels, Observed, Pictures

ORIGINALS_ENROLLED = "originals enrolled"
OUTPUTS_ENROLLED = "outputs enrolled"
GALLERIES = (ORIGINALS_ENROLLED, OUTPUTS_ENROLLED)
_CHUNK = 64


@dataclass(frozen=True)
class Target:
    """Who is attacked.

    Args:
        collection: N originals; what the attacker enrols, or not.
        outputs: what the method made of them.
        judged: what the judges said of the outputs: those that were not released are no probes.
            Those in which no face was found are: an attacker is not stopped by our detector.
    """

    collection: Collection
    outputs: Pictures
    judged: Observed

    @property
    def subjects(self) -> Indices:
        """(N,)."""
        return self.collection.subjects

    @property
    def usable(self) -> Labels:
        """(N,) outputs that are attacked."""
        return self.judged.released

    @property
    def left_out(self) -> str:
        """How many are not, for notes."""
        count = int((~self.usable).sum())
        return f"{count} of {len(self.usable)} outputs were not released: left out"


@dataclass(frozen=True)
class Sight:
    """How an attacker's recognizer sees originals and outputs, (N, D) each."""

    originals: Floats
    outputs: Floats

    def gallery(self, convention: str) -> Floats:
        """What is enrolled."""
        return self.originals if convention == ORIGINALS_ENROLLED else self.outputs


def look(extractor: Extractor, target: Target) -> Sight:
    """Both sides through one recognizer, a few pictures at a time."""
    every = np.ones(len(target.collection), bool)
    return Sight(
        looked_at(extractor, target.collection, every),
        looked_at(extractor, target.outputs, target.usable),
    )


def looked_at(extractor: Extractor, pictures: Pictures, wanted: Labels) -> Floats:
    """(N, D) of the ``wanted`` pictures, NaN for all others."""
    numbers = np.flatnonzero(wanted)
    found: Floats | None = None
    for start in range(0, len(numbers), _CHUNK):
        chunk = numbers[start : start + _CHUNK]
        given = [(i, pictures.picture(int(i))) for i in chunk]
        shown = [(i, picture) for i, picture in given if picture is not None]
        if not shown:
            continue
        rows = extractor([picture for _, picture in shown])
        if found is None:
            found = np.full((len(pictures), rows.shape[1]), np.nan)
        found[[i for i, _ in shown]] = rows
    return np.full((len(pictures), 1), np.nan) if found is None else found


def named(sight: Sight, target: Target, convention: str) -> Identified | None:
    """Where each output's person stands; :func:`identify`."""
    gallery = sight.gallery(convention)
    probes = target.usable & seen(sight.outputs)
    enrolled = seen(gallery) & (probes if convention == OUTPUTS_ENROLLED else True)
    return identify(sight.outputs, gallery, target.subjects, probes, enrolled)


def rank_1(
    metric: str, sight: Sight, target: Target, where: dict[str, str], convention: str, note: str
) -> Measured:
    """Share of outputs whose person is named first."""
    found = named(sight, target, convention)
    if found is None:
        return Measured(metric, None, where, NO_OTHER_PICTURE)
    size = found.standing.size
    figure = share_figure(
        found.standing.within(1),
        target.subjects[found.pictures],
        note=f"{size:,} people, chance {1 / size:.4g}; {note}; {target.left_out}",
    )
    return Measured(metric, figure, where)


def accepted(
    metric: str, sight: Sight, target: Target, where: dict[str, str], convention: str, far: float
) -> Measured:
    """Share of outputs that are accepted as another picture of their person, at a threshold on
    pairs of an output and a stranger's enrolled picture."""
    gallery = sight.gallery(convention)
    strangers = impostors(sight.outputs, target.subjects, others=gallery)
    needed = MIN_ACCEPTED_IMPOSTORS / far
    if len(strangers.scores) < needed:
        reason = (
            f"a false accept rate of {far:g} needs {needed:,.0f} pairs of different people and "
            f"there are {len(strangers.scores):,}; add people"
        )
        return Measured(metric, None, where, reason)
    threshold = threshold_at_far(strangers.scores, far)
    face, other = genuine_pairs(target.subjects, both_ways=True)
    both = seen(sight.outputs)[face] & seen(gallery)[other]
    if not both.any():
        return Measured(metric, None, where, NO_OTHER_PICTURE)
    face, other = face[both], other[both]
    scores = paired_cosines(sight.outputs, gallery, face, other)
    pictures, values = mean_per_picture(face, scores > threshold, len(target.subjects))
    note = f"above {threshold:.4g}, from {strangers}; {target.left_out}"
    return Measured(metric, share_figure(values, target.subjects[pictures], note=note), where)


def trained_rank_1(
    metric: str, target: Target, training: TrainingSet, learner: Learner, note: str
) -> Iterator[Measured]:
    """Train on originals and outputs of other people, enrol originals, name the outputs."""
    where = {"recognizer": learner.name}
    if training.refusal is not None:
        yield from unavailable([metric], training.refusal, **where)
        return
    sight = look(learner.train(*training.joint()), target)
    yield rank_1(metric, sight, target, where, ORIGINALS_ENROLLED, note)
