"""Rank weights: epsilon is ln(max / min) for any two rankings, and draws follow the table."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lreorg_fast.audit.tables import largest_ratio, within
from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.privacy import RankWeights, WindowRandomizedResponse, make_mechanism


@given(
    weights=st.lists(st.integers(1, 1000), min_size=2, max_size=12),
    seed=st.integers(0, 1000),
)
def test_any_two_rankings_keep_the_bound_and_reach_it(weights: list[int], seed: int) -> None:
    mechanism = RankWeights(weights)
    generator = np.random.default_rng(seed)
    rankings = [generator.random(len(weights)) for _ in range(20)]
    rankings += [np.roll(np.arange(len(weights)), k) for k in range(len(weights))]
    ratio = largest_ratio(mechanism, np.array(rankings))
    assert ratio == Fraction(max(weights), min(weights))  # every group has every rank once
    assert within(ratio, mechanism.epsilon)
    assert mechanism.epsilon <= math.log(max(weights) / min(weights)) + 1e-11


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 4.0, 20.0])
def test_weights_around_a_window_keep_the_bound(epsilon: float, distances: np.ndarray) -> None:
    mechanism = make_mechanism("rank-weights", epsilon, 256)
    assert mechanism.epsilon == epsilon
    ratio = largest_ratio(mechanism, distances[:60])
    assert within(ratio, epsilon)
    assert ratio is not None
    assert math.log(ratio) == pytest.approx(epsilon, abs=1e-9)


def test_the_window_has_the_largest_weight_and_the_ends_the_least() -> None:
    table = RankWeights.around(1.0, 256, (33, 96)).probabilities(range(256))
    assert np.all(table[32:96] == table.max())
    assert table[0] == table[255] == table.min()
    assert np.all(np.diff(table[:33]) > 0)
    assert np.all(np.diff(table[95:]) < 0)


def test_a_window_at_an_end_has_one_slope() -> None:
    table = RankWeights.around(1.0, 8, (1, 3)).probabilities(range(8))
    assert np.all(table[:3] == table.max())
    assert np.all(np.diff(table[2:]) < 0)
    assert len(set(RankWeights.around(1.0, 8, (1, 8)).probabilities(range(8)))) == 1


def test_window_randomized_response_is_the_case_of_two_weights(distances: np.ndarray) -> None:
    known = WindowRandomizedResponse(1.0, 256, (33, 96))
    inside, outside = max(known.weights(range(256))), min(known.weights(range(256)))
    weights = [inside if 33 <= k <= 96 else outside for k in range(1, 257)]
    assert RankWeights(weights).weights(distances[0]) == known.weights(distances[0])


def test_real_draws_follow_the_table(distances: np.ndarray) -> None:
    mechanism = RankWeights.around(2.0, 256)
    drawn = [mechanism.draw(distances[0]) for _ in range(50_000)]
    counts = np.bincount(drawn, minlength=256)
    assert chisquare(counts, mechanism.probabilities(distances[0]) * 50_000).pvalue > 1e-6
    other = mechanism.probabilities(distances[1]) * 50_000
    assert chisquare(counts, other).pvalue < 1e-6


def test_every_integer_lands_where_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    mechanism = RankWeights([2, 1, 3])
    monkeypatch.setattr("secrets.randbelow", lambda n: next(numbers))
    numbers = iter(range(6))
    assert [mechanism.draw([0.3, 0.1, 0.2]) for _ in range(6)] == [1, 1, 2, 0, 0, 0]


@pytest.mark.parametrize(
    "weights", [[], [1], [0, 1], [-1, 1], [1.0, 2], ["1", 2], [True, 2], [1, 2**129], [1, 10**9]]
)
def test_other_weights_are_refused(weights: list) -> None:
    with pytest.raises(ConfigError):
        RankWeights(weights)


@pytest.mark.parametrize("bad", [[1.0, 2.0], [1.0, 2.0, math.nan]])
def test_hostile_distances_are_refused(bad: list[float]) -> None:
    with pytest.raises(PrivacyError):
        RankWeights([1, 2, 3]).draw(bad)
