"""What is measured on anonymized pictures: pure functions on arrays, float64, numpy only.

Similarities are cosines of identity embeddings, higher for the same person. A pair is accepted as
the same person when its similarity is **above** the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.figures import (
    CONFIDENCE,
    Figure,
    Floats,
    finite,
    mean_figure,
    share_figure,
)

# A threshold that fewer accepted impostor pairs decide is known to less than about a third.
MIN_ACCEPTED_IMPOSTORS = 10


def cosine_similarity(first: ArrayLike, second: ArrayLike) -> Floats:
    """All cosines between rows: (n, d) and (m, d) -> (n, m) in [-1, 1].

    Raises:
        ConfigError: shapes that do not fit, NaN or infinity, or a row of zeros.
    """
    rows = finite("first", first, axes=2)
    columns = finite("second", second, axes=2)
    if rows.shape[1] != columns.shape[1]:
        raise ConfigError(
            f"embeddings have {rows.shape[1]} and {columns.shape[1]} dimensions; use one recognizer"
        )
    cosines = _unit_rows("first", rows) @ _unit_rows("second", columns).T
    return np.asarray(np.clip(cosines, -1.0, 1.0))


def threshold_at_far(impostor_scores: ArrayLike, far: float) -> float:
    """The smallest threshold that at most a share ``far`` of impostor pairs exceed.

    Args:
        impostor_scores: (n,) similarities of pairs of different people. For a fair protection
            figure take hard pairs (people who look alike), not random ones.
        far: false accept rate, such as 1e-3.

    Returns:
        A threshold; a pair is accepted above it.

    Raises:
        ConfigError: fewer than 10 / far pairs, on which the rate could not be told from zero.
    """
    scores = finite("impostor_scores", impostor_scores, axes=1)
    if not 0 < far < 1:
        raise ConfigError(f"far = {far} must lie between 0 and 1, for example 1e-3")
    needed = int(np.ceil(MIN_ACCEPTED_IMPOSTORS / far - 1e-9))
    if len(scores) < needed:
        raise ConfigError(
            f"far = {far:g} needs at least {needed} impostor pairs and got {len(scores)}; add "
            "pairs or choose a larger rate"
        )
    accepted = int(np.floor(far * len(scores) + 1e-9))
    return float(np.partition(scores, len(scores) - 1 - accepted)[len(scores) - 1 - accepted])


def true_accept_rate(
    genuine_scores: ArrayLike,
    threshold: float,
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Figure:
    """Share of genuine pairs (two pictures of one person) that are accepted.

    On originals it says whether the recognizer works at all; a protection figure from a recognizer
    with a low rate means nothing.

    Args:
        genuine_scores: (n,) similarities.
        threshold: from :func:`threshold_at_far`.
        subjects: (n,) person of each pair, if some have several.
        confidence: of the interval.
    """
    scores = finite("genuine_scores", genuine_scores, axes=1)
    note = f"genuine pairs above {threshold:.4g}"
    return share_figure(scores > threshold, subjects, confidence, note)


def protection_success_rate(
    similarities: ArrayLike,
    threshold: float,
    subjects: ArrayLike | None = None,
    detected: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Figure:
    """Share of anonymized faces that a recognizer does not accept as the original person.

    Args:
        similarities: (n,) of each anonymized face to **another** picture of the same person (the
            same picture would also share its light and background).
        threshold: from :func:`threshold_at_far` on other originals.
        subjects: (n,) person of each face, if some have several.
        detected: (n,) False where no face was found in the output. Those are counted apart in the
            note and not as protection; their similarity may be anything, also NaN.
        confidence: of the interval.

    Raises:
        ConfigError: shapes that do not fit, or no face detected at all.
    """
    scores = np.asarray(similarities, dtype=np.float64)
    found = np.ones(scores.shape, bool) if detected is None else np.asarray(detected, dtype=bool)
    if found.shape != scores.shape:
        raise ConfigError(f"detected has the shape {found.shape} and must have {scores.shape}")
    if not found.any():
        raise ConfigError("no face was detected in any output, so protection cannot be measured")
    scores = finite("similarities", scores[found], axes=1)
    people = None if subjects is None else np.asarray(subjects)[found]
    missed = int((~found).sum())
    note = f"not above {threshold:.4g}; {missed} of {len(found)} outputs without a detected face"
    return share_figure(scores <= threshold, people, confidence, note)


@dataclass(frozen=True)
class Standing:
    """Where the original stands in a gallery, for each of n faces.

    Attributes:
        above: (n,) how many of the gallery are more similar.
        ties: (n,) how many are equally similar, the original included.
        size: of the gallery.
    """

    above: Floats
    ties: Floats
    size: int

    def within(self, k: int) -> Floats:
        """(n,) probability that it is among the first ``k`` when ties are broken by lot."""
        return np.asarray(np.clip((k - self.above) / self.ties, 0.0, 1.0))

    def last(self) -> Floats:
        """(n,) probability that it is the very last when ties are broken by lot."""
        return np.where(self.above + self.ties == self.size, 1 / self.ties, 0.0)


def standing(similarities: ArrayLike, original: ArrayLike) -> Standing:
    """Counts behind all ranks; arguments and errors as :func:`rank_of_original`."""
    scores = finite("similarities", similarities, axes=2)
    columns = np.asarray(original)
    n, size = scores.shape
    if columns.shape != (n,) or columns.dtype.kind not in "iu":
        raise ConfigError(
            f"original must be ({n},) integers and is {columns.shape} {columns.dtype}"
        )
    if ((columns < 0) | (columns >= size)).any():
        raise ConfigError(f"original names columns outside the gallery of {size}")
    own = scores[np.arange(n), columns][:, None]
    above = (scores > own).sum(axis=1).astype(np.float64)
    ties = (scores == own).sum(axis=1).astype(np.float64)
    return Standing(above, ties, size)


def rank_of_original(similarities: ArrayLike, original: ArrayLike) -> Floats:
    """Where the original stands in a gallery sorted by similarity to the anonymized face.

    Args:
        similarities: (n, g) of each anonymized face to each gallery picture.
        original: (n,) column of the person behind each face.

    Returns:
        (n,) ranks, 1 = most similar, g = least; ties share the mean of their ranks.

    Raises:
        ConfigError: shapes that do not fit or columns that do not exist.
    """
    found = standing(similarities, original)
    return found.above + (found.ties + 1) / 2


def rank_first_rate(
    similarities: ArrayLike,
    original: ArrayLike,
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Figure:
    """Success of the attacker who names the **most** similar person (rank-1 re-identification).

    Ties are broken by lot. Arguments as :func:`rank_of_original`; chance is 1 / g.
    """
    found = standing(similarities, original)
    note = f"most similar of {found.size}; chance {1 / found.size:.4g}"
    return share_figure(found.within(1), subjects, confidence, note)


def rank_last_rate(
    similarities: ArrayLike,
    original: ArrayLike,
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Figure:
    """Success of the attacker who names the **least** similar person.

    A network rewarded for dissimilarity draws the opposite face and gives the original away; a
    rate above chance shows it. Arguments as :func:`rank_of_original`; chance is 1 / g.
    """
    found = standing(similarities, original)
    note = f"least similar of {found.size}; chance {1 / found.size:.4g}"
    return share_figure(found.last(), subjects, confidence, note)


def similarity_gap(
    to_original: ArrayLike,
    to_strangers: ArrayLike,
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Figure:
    """Mean similarity to the original minus that to strangers: 0 is right, below 0 is a leak too.

    Args:
        to_original: (n,) similarity of each anonymized face to its own person.
        to_strangers: (n,) mean similarity of the same face to other people.
        subjects: (n,) person of each face, if some have several.
        confidence: of the interval.
    """
    own = finite("to_original", to_original, axes=1)
    others = finite("to_strangers", to_strangers, axes=1)
    if own.shape != others.shape:
        raise ConfigError(f"to_original {own.shape} and to_strangers {others.shape} must agree")
    return mean_figure(own - others, subjects, confidence, "0: as strangers are to each other")


@dataclass(frozen=True)
class AttributePreservation:
    """Share of faces that keep each attribute, and the mean over attributes."""

    attributes: Mapping[str, Figure]
    mean: Figure


def attribute_preservation(
    original: ArrayLike,
    output: ArrayLike,
    names: Sequence[str],
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> AttributePreservation:
    """How often a classifier says the same of the output as is true of the original (APR).

    Args:
        original: (n, a) integer or boolean labels of the originals.
        output: (n, a) labels predicted on the outputs.
        names: the a attributes.
        subjects: (n,) person of each face, if some have several.
        confidence: of the intervals.

    Raises:
        ConfigError: shapes that do not fit, or labels that are not whole numbers.
    """
    true, seen = _labels("original", original), _labels("output", output)
    if true.shape != seen.shape or true.shape[1] != len(names) or len(set(names)) != len(names):
        raise ConfigError(
            f"original {true.shape}, output {seen.shape} and {len(names)} names do not belong "
            "together; give (n, a), (n, a) and a different names"
        )
    same = true == seen
    figures = {
        name: share_figure(same[:, column], subjects, confidence, "same label as the original")
        for column, name in enumerate(names)
    }
    mean = share_figure(same.mean(axis=1), subjects, confidence, f"mean over {', '.join(names)}")
    return AttributePreservation(figures, mean)


def _unit_rows(name: str, rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise ConfigError(f"{name} holds an embedding of length 0; remove the failed picture")
    return np.asarray(rows / lengths)


def _labels(name: str, labels: ArrayLike) -> NDArray[np.int64]:
    array = finite(name, labels, axes=2)
    whole = array.astype(np.int64)
    if (whole != array).any():
        raise ConfigError(f"{name} must hold whole numbers or booleans; threshold scores first")
    return whole
