"""The black-box audit: a lower bound on epsilon from draws alone (layer 3), with controls.

The auditor sees draws under two faces. One half of the draws chooses the event (a set of groups)
that tells the faces apart best; the other half tests it, so the choice cannot flatter the bound.
Clopper-Pearson intervals at a joint error rate give: with probability >= 1 - ALPHA no bound is
above the mechanism's true epsilon.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import beta

from lreorg_fast.privacy import PaperWindow, Uniform, WindowRandomizedResponse

ALPHA = 1e-6
WINDOW = (33, 96)
Table = Callable[[np.ndarray], np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]


def epsilon_lower_bound(counts: np.ndarray, other: np.ndarray, alpha: float) -> float:
    """Lower bound on ln P(event | f) - ln P(event | f') from draws under both faces.

    Args:
        counts: (2, m) draws per group under f: choosing half, testing half.
        other: (2, m) the same under f'.
        alpha: error rate of this bound.
    """
    order = np.argsort(np.log(other[0] + 0.5) - np.log(counts[0] + 0.5), kind="stable")
    chosen = log_ratio_bound(
        np.cumsum(counts[0][order]), counts[0].sum(), np.cumsum(other[0][order]), alpha
    )
    event = order[: int(np.argmax(chosen)) + 1]
    inside, other_inside = counts[1][event].sum(), other[1][event].sum()
    return float(log_ratio_bound(inside, counts[1].sum(), other_inside, alpha))


def log_ratio_bound(
    inside: np.ndarray, draws: int, other_inside: np.ndarray, alpha: float
) -> np.ndarray:
    """ln(lower limit of one proportion / upper limit of the other), alpha shared by both."""
    lower = np.where(
        inside > 0, beta.ppf(alpha / 2, np.maximum(inside, 1), draws - inside + 1), 1e-300
    )
    misses = draws - other_inside
    upper = np.where(
        misses > 0, beta.ppf(1 - alpha / 2, other_inside + 1, np.maximum(misses, 1)), 1.0
    )
    return np.log(lower) - np.log(upper)


def audit(draw: Callable[[np.ndarray], np.ndarray], pairs: list[Pair]) -> float:
    """The largest lower bound over pairs of faces and both directions.

    Args:
        draw: distances of a face to (2, m) counts: two halves of the draws.
        pairs: distances of f and of f' to the groups.
    """
    alpha = ALPHA / (2 * len(pairs))
    bounds = []
    for first, second in pairs:
        a, b = draw(first), draw(second)
        bounds += [epsilon_lower_bound(a, b, alpha), epsilon_lower_bound(b, a, alpha)]
    return max(bounds)


def from_table(table: Table, draws: int) -> Callable[[np.ndarray], np.ndarray]:
    """Many draws at once from an exact table; test_window_rr shows that real draws follow it."""
    generator = np.random.default_rng(4)
    return lambda distances: generator.multinomial(draws // 2, table(distances), size=2)


def from_sampler(mechanism, draws: int) -> Callable[[np.ndarray], np.ndarray]:
    """Real draws from the operating system's generator."""

    def draw(distances: np.ndarray) -> np.ndarray:
        groups = [mechanism.draw(distances) for _ in range(draws)]
        halves = groups[: draws // 2], groups[draws // 2 :]
        return np.array([np.bincount(half, minlength=mechanism.num_groups) for half in halves])

    return draw


def normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def leave_own_group_out(distances: np.ndarray) -> np.ndarray:
    """Uniform, except that a face never gets its own group."""
    weights = np.ones(len(distances))
    weights[distances.argmin()] = 0
    return normalised(weights)


def coin_then_uniform(distances: np.ndarray) -> np.ndarray:
    """A wrong formula at epsilon 1: into the window with the probability of a binary response,
    although the window holds a quarter of the groups. Its true epsilon is 1 + ln 3."""
    inside = np.zeros(len(distances), bool)
    inside[np.argsort(distances)[WINDOW[0] - 1 : WINDOW[1]]] = True
    keep = np.e / (1 + np.e)
    return np.where(inside, keep / inside.sum(), (1 - keep) / (~inside).sum())


def forgotten_factor_two(distances: np.ndarray) -> np.ndarray:
    """The exponential mechanism at epsilon 1 as if cosine distance had range 1, not 2. Its true
    epsilon is about 2."""
    return normalised(np.exp(-distances))


@pytest.mark.parametrize(
    ("table", "draws"),
    [
        (PaperWindow(1.0, 256, WINDOW).probabilities, 20_000),
        (coin_then_uniform, 20_000),
        (leave_own_group_out, 200_000),
        (forgotten_factor_two, 200_000),
    ],
    ids=["paper window", "wrong formula", "leave own group out", "forgotten factor 2"],
)
def test_false_claims_of_epsilon_one_are_refuted(table, draws, pairs):
    assert audit(from_table(table, draws), pairs) > 1.0


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("draws", [20_000, 200_000])
def test_window_randomized_response_is_not_refuted(epsilon, draws, pairs):
    table = WindowRandomizedResponse(epsilon, 256, WINDOW).probabilities
    bound = audit(from_table(table, draws), pairs)
    assert bound <= epsilon
    # The auditor sees most of what there is to see, so passing means something.
    assert draws == 20_000 or bound > 0.85 * epsilon


def test_uniform_shows_nothing(pairs):
    assert audit(from_table(Uniform(256).probabilities, 200_000), pairs) <= 0


def test_real_draws_pass_and_fail_as_the_tables_do(pairs):
    honest = WindowRandomizedResponse(1.0, 256, WINDOW)
    assert audit(from_sampler(honest, 20_000), pairs[:1]) <= 1.0
    assert audit(from_sampler(PaperWindow(1.0, 256, WINDOW), 4_000), pairs[:1]) > 1.0
