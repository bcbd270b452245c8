"""The correlation of two recognizers' scores, and its interval over people."""

from __future__ import annotations

import numpy as np
import pytest

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.agreement import correlation_figure


def test_it_is_pearsons_correlation() -> None:
    random = np.random.default_rng(1)
    first = random.normal(size=300) + 100  # a large mean costs no digits
    second = 0.6 * first + 0.8 * random.normal(size=300)
    found = correlation_figure(first, second, note="n")
    assert found.value == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-9)
    assert found.low < found.value < found.high
    # Fisher's interval, for normal scores.
    half = 1.96 / np.sqrt(297)
    low, high = np.tanh(np.arctanh(found.value) + np.array([-half, half]))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)
    assert (found.n, found.note) == (300, "n")


def test_of_pairs_the_diagonal_is_left_out() -> None:
    random = np.random.default_rng(2)
    first, second = random.normal(size=(2, 40, 40))
    off = ~np.eye(40, dtype=bool)
    expected = np.corrcoef(first[off], second[off])[0, 1]
    np.fill_diagonal(first, 50.0)
    np.fill_diagonal(second, -50.0)
    found = correlation_figure(first, second)
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.n == 40


def test_pairs_of_few_people_are_worth_as_little_as_their_people() -> None:
    """What two judges both think of a person is in all of that person's pairs."""
    random = np.random.default_rng(3)
    shared = random.normal(size=30)
    noise = random.normal(size=(2, 30, 30))
    first, second = shared[:, None] + 0.1 * noise
    other = random.normal(size=30)[:, None] + shared[:, None] * 0.5 + 0.1 * noise[1]
    found = correlation_figure(first, other)
    assert found.high - found.low > 0.2  # 870 independent pairs would give about .1
    assert correlation_figure(first, second).value > 0.95


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([1.0, 2.0], [1.0, 2.0], "at least 3 people"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], "at least 3 people"),
        (np.ones((3, 4)), np.ones((3, 4)), "at least 3 people"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "all alike"),
        ([1.0, 2.0, np.nan], [1.0, 2.0, 3.0], "NaN"),
    ],
)
def test_what_has_no_correlation_is_refused(first: object, second: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        correlation_figure(first, second)  # type: ignore[arg-type]
