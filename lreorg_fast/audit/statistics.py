"""Bounds that hold with a stated probability, however the draws fall."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lreorg_fast.errors import MissingExtra
from lreorg_fast.privacy.arrays import Float64Array

ALPHA = 1e-6
"""Joint error rate of each finding: a true claim is refuted once in a million audits."""
Counts = NDArray[np.int64]


def scipy_stats() -> Any:
    """scipy.stats; MissingExtra without it."""
    try:
        import scipy.stats
    except ImportError as error:
        raise MissingExtra("the audit needs scipy: pip install 'lreorg_fast[evaluate]'") from error
    return scipy.stats


def epsilon_lower_bound(counts: Counts, other: Counts, alpha: float) -> float:
    """Lower bound on ln P(event | f) - ln P(event | f') from draws under both faces.

    One half of the draws chooses the event (the set of symbols that tells the faces apart best),
    the other half tests it, so the choice cannot flatter the bound.

    Args:
        counts: (2, m) draws per symbol under f: choosing half, testing half.
        other: (2, m) the same under f'.
        alpha: error rate of this bound.
    """
    order = np.argsort(np.log(other[0] + 0.5) - np.log(counts[0] + 0.5), kind="stable")
    chosen = log_ratio_bound(
        np.cumsum(counts[0][order]), int(counts[0].sum()), np.cumsum(other[0][order]), alpha
    )
    event = order[: int(np.argmax(chosen)) + 1]
    inside, other_inside = counts[1][event].sum(), other[1][event].sum()
    return float(log_ratio_bound(inside, int(counts[1].sum()), other_inside, alpha))


def log_ratio_bound(
    inside: ArrayLike, draws: int, other_inside: ArrayLike, alpha: float
) -> Float64Array:
    """ln(lower limit of one share / upper limit of the other), Clopper-Pearson, alpha shared."""
    beta = scipy_stats().beta
    hits, others = np.asarray(inside), np.asarray(other_inside)
    lower = np.where(hits > 0, beta.ppf(alpha / 2, np.maximum(hits, 1), draws - hits + 1), 1e-300)
    misses = draws - others
    upper = np.where(misses > 0, beta.ppf(1 - alpha / 2, others + 1, np.maximum(misses, 1)), 1.0)
    bound: Float64Array = np.log(lower) - np.log(upper)
    return bound


def chi_square_p(counts: Counts, probabilities: Float64Array) -> float:
    """p-value of draws against a table; 0 if something impossible was drawn."""
    possible = probabilities > 0
    if counts[~possible].any():
        return 0.0
    found = counts[possible]
    expected = probabilities[possible] / probabilities[possible].sum() * found.sum()
    return float(scipy_stats().chisquare(found, expected).pvalue)


def one_run_lower_bound(correct: int, guesses: int, alpha: float = ALPHA) -> float:
    """Lower bound on epsilon from guessed coins of different people.

    Under epsilon-local differential privacy a coin that chose between two inputs is guessed from
    the output with probability at most e^eps / (1 + e^eps), whatever the guesser knows, and so is
    each of a set of guesses that was chosen by the outputs. The number of right ones is then at
    most binomial (Steinke, Nasr and Jagielski 2023, for pure local privacy). Clopper-Pearson.

    Returns:
        0 if the guesses are no better than chance.
    """
    if not guesses or not correct:
        return 0.0
    share = float(scipy_stats().beta.ppf(alpha, correct, guesses - correct + 1))
    return max(0.0, math.log(share) - math.log1p(-share))
