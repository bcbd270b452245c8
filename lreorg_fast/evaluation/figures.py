"""Figures with their uncertainty: no number about privacy stands without n and an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lreorg_fast.errors import ConfigError

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A measured value with the interval that it may lie in.

    Attributes:
        value: the estimate.
        n: number of observations that it rests on (pictures or pairs).
        low, high: limits of the confidence interval.
        note: what was measured and what was left out, for the report.
    """

    value: float
    n: int
    low: float
    high: float
    note: str = ""

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}], n = {self.n}"


def wilson_interval(
    successes: float, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Wilson's score interval for a share of independent trials (Wilson 1927).

    Args:
        successes: between 0 and n; a fraction counts trials that succeed with some probability.
        n: number of trials, at least 1.
        confidence: two-sided, between 0 and 1.

    Returns:
        (low, high) within [0, 1]. No success in 1,000 trials gives a high of .0038.

    Raises:
        ConfigError: an argument is out of range.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ConfigError(f"successes = {successes} of n = {n}: n must be positive and not smaller")
    z = NormalDist().inv_cdf(0.5 + _checked_confidence(confidence) / 2)
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    # Rounding must not exclude a share of exactly 0 or 1.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == n else min(1.0, center + half)
    return low, high


def bootstrap_interval(
    values: ArrayLike,
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, drawing whole subjects.

    Several pictures of one person are not independent, so people are drawn with replacement and
    all their values come along (Efron and Tibshirani 1993, ch. 8).

    Args:
        values: (n,) finite numbers.
        subjects: (n,) label of the person behind each value; None: each value is its own.
        confidence: two-sided, between 0 and 1.
        resamples: number of bootstrap samples, at least 100.
        seed: the same seed gives the same interval.

    Raises:
        ConfigError: fewer than two subjects, or an argument of another shape or range.
    """
    numbers = finite("values", values, axes=1)
    _checked_confidence(confidence)
    if resamples < 100:
        raise ConfigError(f"resamples = {resamples} must be at least 100 for an interval")
    members = _subject_index(subjects, len(numbers))
    sums, counts = np.bincount(members, numbers), np.bincount(members)
    people = len(counts)
    if people < 2:
        raise ConfigError(
            f"a bootstrap needs at least 2 subjects and got {people}; add pictures of other people"
        )
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for index in range(resamples):
        drawn = generator.integers(people, size=people)
        means[index] = sums[drawn].sum() / counts[drawn].sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def share_figure(
    successes: ArrayLike,
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    note: str = "",
) -> Figure:
    """A share with the interval that fits its data.

    Independent people: Wilson, which is on the cautious side for probabilities. Several
    observations of a person: subject-level bootstrap. Where that collapses to a point, because all
    people agree, it would claim certainty; then Wilson over the number of people.

    Args:
        successes: (n,) booleans or probabilities of success in [0, 1].
        subjects: (n,) label of the person behind each; None: all different.
        confidence: two-sided, between 0 and 1.
        note: for the report.

    Raises:
        ConfigError: no observations, or values outside [0, 1].
    """
    flags = finite("successes", successes, axes=1)
    if ((flags < 0) | (flags > 1)).any():
        raise ConfigError("successes must be booleans or probabilities between 0 and 1")
    value, n = float(flags.mean()), len(flags)
    people = len(np.unique(_subject_index(subjects, n)))
    low, high = value, value
    if 1 < people < n:
        low, high = bootstrap_interval(flags, subjects, confidence)
    if low == high:
        low, high = wilson_interval(value * people, people, confidence)
    return Figure(value, n, min(low, value), max(high, value), note)


def mean_figure(
    values: ArrayLike,
    subjects: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    note: str = "",
) -> Figure:
    """A mean with its subject-level bootstrap interval; errors as :func:`bootstrap_interval`."""
    numbers = finite("values", values, axes=1)
    low, high = bootstrap_interval(numbers, subjects, confidence)
    return Figure(float(numbers.mean()), len(numbers), low, high, note)


def finite(name: str, values: ArrayLike, axes: int) -> Floats:
    """``values`` as a non-empty float64 array of so many axes.

    Raises:
        ConfigError: another shape, no values, or NaN or infinity among them.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes or array.size == 0:
        raise ConfigError(
            f"{name} has the shape {array.shape} and must have {axes} axes and at least one value"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} holds NaN or infinity; remove failed pictures and count them")
    return array


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence = {confidence} must lie between 0 and 1, for example 0.95")
    return confidence


def _subject_index(subjects: ArrayLike | Sequence[Any] | None, n: int) -> NDArray[np.int64]:
    if subjects is None:
        return np.arange(n)
    labels = np.asarray(subjects)
    if labels.shape != (n,):
        raise ConfigError(f"subjects has the shape {labels.shape} and must have ({n},)")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
