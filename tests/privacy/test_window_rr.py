"""Window randomized response: the table that is drawn from, and its guarantee (layers 1 and 2)."""

from __future__ import annotations

import math
from decimal import Context, Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

import lreorg_fast.privacy.randomness as randomness
from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.privacy import (
    Uniform,
    WindowRandomizedResponse,
    default_window,
)

WINDOW = (33, 96)
EPSILONS = (0.0, 1e-9, 0.1, 0.5, 1.0, math.log(3), 2.0, 4.0, 8.0, 20.0)
UNIT = 1 << 40


def respects(epsilon: float, larger: int, smaller: int) -> bool:
    """larger <= e^epsilon smaller, decided with 100 digits."""
    digits = Context(prec=100)
    return Decimal(larger) <= digits.multiply(digits.exp(Decimal(epsilon)), Decimal(smaller))


@pytest.mark.parametrize(
    ("epsilon", "in_window", "own_group"),
    [(0, 0.25, 0.0039), (1, 0.48, 0.0027), (2, 0.71, 0.0015), (4, 0.95, 0.0003)],
)
def test_table_has_the_worked_values(epsilon, in_window, own_group):
    distances = np.random.default_rng(0).permutation(256) / 256
    table = WindowRandomizedResponse(epsilon, 256, window=WINDOW).probabilities(distances)
    ranked = table[np.argsort(distances)]

    assert table.shape == (256,)
    assert table.dtype == np.float64
    assert round(ranked[32:96].sum(), 2) == in_window
    assert round(ranked[0], 4) == own_group
    assert len(set(ranked[32:96])) == 1
    assert len(set(ranked[:32]) | set(ranked[96:])) == 1


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_no_pair_of_faces_exceeds_epsilon(epsilon, distances):
    """White box: every ratio between any two of about 500 faces, in exact integers."""
    mechanism = WindowRandomizedResponse(epsilon, 256, window=WINDOW)
    weights = [mechanism.weights(row) for row in distances]

    assert len({sum(row) for row in weights}) == 1
    for column in zip(*weights, strict=True):
        assert min(column) > 0
        assert respects(epsilon, max(column), min(column))


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 4.0, 8.0])
def test_float_table_keeps_the_bound_too(epsilon, distances):
    mechanism = WindowRandomizedResponse(epsilon, 256)
    tables = np.array([mechanism.probabilities(row) for row in distances[::16]])
    assert np.log(tables.max(axis=0) / tables.min(axis=0)).max() <= epsilon


@given(
    data=st.data(),
    groups=st.integers(2, 40),
    epsilon=st.one_of(st.floats(0, 20), st.sampled_from(EPSILONS)),
)
def test_any_two_rankings_keep_the_bound(data, groups, epsilon):
    first = data.draw(st.integers(1, groups))
    last = data.draw(st.integers(first, groups))
    numbers = st.lists(st.floats(-1e300, 1e300), min_size=groups, max_size=groups)
    mechanism = WindowRandomizedResponse(epsilon, groups, (first, last))
    a, b = (mechanism.weights(data.draw(numbers)) for _ in range(2))

    assert sum(a) == sum(b)
    assert all(respects(epsilon, max(pair), min(pair)) for pair in zip(a, b, strict=True))
    assert sum(weight != UNIT for weight in a) in (0, last - first + 1)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_weight_is_the_largest_integer_that_keeps_the_bound(epsilon):
    inside = max(WindowRandomizedResponse(epsilon, 8, (2, 3)).weights(range(8)))
    assert respects(epsilon, inside, UNIT)
    assert not respects(epsilon, inside + 1, UNIT)


def test_ties_go_to_the_lower_index():
    table = WindowRandomizedResponse(2.0, 256, (3, 90)).probabilities(np.arange(256) % 3)
    ranking = [*range(0, 256, 3), *range(1, 256, 3)]
    assert np.flatnonzero(table == table.max()).tolist() == sorted(ranking[2:90])


@pytest.mark.parametrize("window", [(1, 1), (2, 3), (4, 7), (7, 7), (1, 7)])
def test_every_integer_of_the_draw_lands_where_the_table_says(window, monkeypatch):
    """Both ends of each group's share of [0, T), in place of all of its numbers."""
    mechanism = WindowRandomizedResponse(1.0, 7, window)
    distances = [0.3, 0.1, 0.9, 0.2, 0.4, 0.8, 0.5]
    weights = mechanism.weights(distances)
    ranking = np.argsort(distances).tolist()
    inside = ranking[window[0] - 1 : window[1]]
    outside = [group for group in ranking if group not in inside]

    start = 0
    for group in inside + outside:
        for number in (start, start + weights[group] - 1):

            def pretended(total: int, number: int = number) -> int:
                assert total == sum(weights)
                return number

            monkeypatch.setattr(randomness.secrets, "randbelow", pretended)
            assert mechanism.draw(distances) == group
        start += weights[group]
    assert start == sum(weights)


@pytest.mark.parametrize(
    "mechanism", [WindowRandomizedResponse(1.0, 64), Uniform(64)], ids=lambda item: item.name
)
def test_real_draws_follow_the_table(mechanism, distances):
    """Layer 2: chi-square of 1e5 draws from the operating system's generator.

    A right sampler fails once in a million runs, the price of testing real randomness.
    """
    face = distances[0][:64]
    counts = np.bincount([mechanism.draw(face) for _ in range(100_000)], minlength=64)
    assert chisquare(counts, 100_000 * mechanism.probabilities(face)).pvalue > 1e-6


def test_chi_square_notices_a_wrong_table(distances):
    """The test above can fail: draws at epsilon 1 against the table of epsilon 1.25."""
    face = distances[0][:64]
    right = WindowRandomizedResponse(1.0, 64).probabilities(face)
    wrong = WindowRandomizedResponse(1.25, 64).probabilities(face)
    counts = np.random.default_rng(0).multinomial(100_000, right)
    assert chisquare(counts, 100_000 * wrong).pvalue < 1e-6


def test_uniform_ignores_the_face(distances):
    mechanism = Uniform(256)
    assert mechanism.epsilon == 0
    assert {tuple(mechanism.weights(row)) for row in distances[::50]} == {(1,) * 256}


def test_epsilon_zero_is_the_uniform_draw():
    assert set(WindowRandomizedResponse(0, 256).weights(range(256))) == {UNIT}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_tensors_are_accepted(dtype):
    values = torch.arange(8).to(dtype)
    mechanism = WindowRandomizedResponse(1.0, 8, (2, 3))
    assert (mechanism.probabilities(values) == mechanism.probabilities(np.arange(8))).all()
    assert 0 <= mechanism.draw(values.requires_grad_(values.is_floating_point())) < 8


@pytest.mark.parametrize(
    ("groups", "window"), [(256, (33, 96)), (8, (2, 3)), (3, (2, 2)), (2, (2, 2)), (100, (13, 37))]
)
def test_default_window_spares_the_own_group(groups, window):
    assert default_window(groups) == window
    assert WindowRandomizedResponse(1.0, groups).window == window


@pytest.mark.parametrize(
    "bad",
    [
        np.full(8, np.nan),
        np.array([0, 1, 2, 3, 4, 5, 6, np.inf]),
        -np.array([0, 1, 2, 3, 4, 5, 6, np.inf]),
        torch.full((8,), float("nan")),
        np.zeros(7),
        np.zeros((1, 8)),
        np.zeros(0),
        np.zeros(8, complex),
        np.zeros(8, bool),
        ["a"] * 8,
        [[0], [1, 2]],
        None,
    ],
    ids=lambda bad: type(bad).__name__,
)
@pytest.mark.parametrize("mechanism", [WindowRandomizedResponse(1.0, 8), Uniform(8)])
def test_hostile_distances_are_refused(mechanism, bad):
    with pytest.raises(PrivacyError):
        mechanism.draw(bad)
    with pytest.raises(PrivacyError):
        mechanism.probabilities(bad)


@pytest.mark.parametrize("epsilon", [-1e-9, 20.5, math.nan, math.inf, -math.inf, "1", None, True])
def test_epsilon_out_of_range_is_refused(epsilon):
    with pytest.raises(ConfigError, match="epsilon is"):
        WindowRandomizedResponse(epsilon, 256)


@pytest.mark.parametrize("groups", [1, 0, -1, 2.0, "8", True, None])
def test_number_of_groups_out_of_range_is_refused(groups):
    with pytest.raises(ConfigError, match="num_groups is"):
        WindowRandomizedResponse(1.0, groups)


@pytest.mark.parametrize(
    "window", [(0, 3), (3, 2), (1, 9), (1,), (1, 2, 3), 5, (1.0, 2.0), (True, 2), "12"]
)
def test_window_out_of_range_is_refused(window):
    with pytest.raises(ConfigError, match="window"):
        WindowRandomizedResponse(1.0, 8, window)
