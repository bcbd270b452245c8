"""Can two anonymized pictures of one person be told to belong together?

Not a fault where one draw is held for a person on purpose (a video, a pseudonym); a leak where
every picture was drawn for itself.
"""

from __future__ import annotations

import numpy as np

from lreorg_fast.evaluation.figures import CONFIDENCE, Figure, Floats
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.pairs import genuine_pairs, paired_cosines
from lreorg_fast.evaluation.protection import shown_pictures
from lreorg_fast.evaluation.protocol import Collection, Indices, Judges, Observed

# The AUC of 20,000 pairs of strangers is known to .002; every resample goes through all of them.
MOST_STRANGERS = 20_000
_RESAMPLES = 1_000


def linkage(
    collection: Collection, outputs: Observed, judges: Judges, seed: int = 0
) -> list[Measured]:
    """``linkage_auc`` of every recognizer: pairs of outputs of one person against pairs of two.

    Args:
        collection: whose people they are.
        outputs: what the judges said of the method's outputs.
        judges: whose recognizers are asked.
        seed: of the pairs of strangers and of the bootstrap, which draws people.
    """
    return [_linkage(collection.subjects, outputs, r.name, seed) for r in judges.recognizers]


def _linkage(subjects: Indices, outputs: Observed, name: str, seed: int) -> Measured:
    where = {"recognizer": name}
    embeddings = outputs.embeddings[name]
    usable = shown_pictures(outputs, embeddings)
    first, second = genuine_pairs(subjects, both_ways=False)
    both = usable[first] & usable[second]
    first, second = first[both], second[both]
    people = np.unique(subjects[first])
    if len(people) < 2:
        reason = "fewer than 2 people have two outputs that were released and embedded"
        return Measured("linkage_auc", None, where, reason)
    one, other = _strangers(np.flatnonzero(usable), subjects, np.random.default_rng(seed))
    figure = auc_figure(
        paired_cosines(embeddings, embeddings, first, second),
        subjects[first],
        paired_cosines(embeddings, embeddings, one, other),
        (subjects[one], subjects[other]),
        seed,
    )
    return Measured("linkage_auc", figure, where)


def _strangers(
    usable: Indices, subjects: Indices, random: np.random.Generator
) -> tuple[Indices, Indices]:
    """Random pairs of different people."""
    one, other = usable[random.integers(len(usable), size=(2, 2 * MOST_STRANGERS))]
    different = subjects[one] != subjects[other]
    return one[different][:MOST_STRANGERS], other[different][:MOST_STRANGERS]


def auc_figure(
    genuine: Floats,
    people: Indices,
    strangers: Floats,
    pairs: tuple[Indices, Indices],
    seed: int = 0,
) -> Figure:
    """Area under the ROC curve with a bootstrap over people.

    A person who is drawn k times brings their genuine pairs k times, and a pair of strangers counts
    by the product of both persons' counts.

    Args:
        genuine: (n,) scores of pairs of one person.
        people: (n,) who it is.
        strangers: (m,) scores of pairs of two.
        pairs: who they are, (m,) each.
        seed: of the bootstrap.
    """
    everybody, number = np.unique(np.concatenate([people, *pairs]), return_inverse=True)
    own, one, two = np.split(number, np.cumsum([len(people), len(pairs[0])]))
    order = np.argsort(strangers, kind="stable")
    ordered = strangers[order]
    below, level = (np.searchsorted(ordered, genuine, side) for side in ("left", "right"))
    random = np.random.default_rng(seed)

    def area(counts: Floats) -> float:
        weights = np.concatenate([[0.0], np.cumsum((counts[one] * counts[two])[order])])
        placed = (weights[below] + weights[level]) / 2
        total = weights[-1] * counts[own].sum()
        return float((counts[own] * placed).sum() / total) if total else np.nan

    value = area(np.ones(len(everybody)))
    even = np.full(len(everybody), 1 / len(everybody))
    drawn = random.multinomial(len(everybody), even, _RESAMPLES)
    areas = np.array([area(counts.astype(np.float64)) for counts in drawn])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(areas, [tail, 1 - tail])
    note = (
        f"{len(genuine):,} pairs of one person, {len(strangers):,} pairs of two "
        f"(a sample); intervals draw people"
    )
    return Figure(value, len(genuine), min(float(low), value), max(float(high), value), note)
