"""OpenDP as a second opinion on randomized response: its privacy map, and its own draws.

Its mechanism knows one kept category, which is the window of ranks 1..1 here.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from lreorg_fast.privacy import RankWeights, WindowRandomizedResponse

dp = pytest.importorskip("opendp.prelude", reason="OpenDP has no wheel for this machine")
CASES = [(2, 0.5), (2, 1.0), (3, 1.0), (10, 2.0), (256, 4.0)]


@pytest.fixture(autouse=True)
def _enabled() -> None:
    dp.enable_features("contrib")


def theirs(contents: int, keep: float):
    return dp.m.make_randomized_response(list(range(contents)), keep)


@pytest.mark.parametrize(("contents", "epsilon"), CASES)
def test_its_map_gives_the_epsilon_that_we_report(contents: int, epsilon: float) -> None:
    for mechanism in (
        WindowRandomizedResponse(epsilon, contents, (1, 1)),
        RankWeights(WindowRandomizedResponse(epsilon, contents, (1, 1)).weights(range(contents))),
    ):
        keep = float(mechanism.probabilities(range(contents))[0])
        # Ours is floored to be safe, by less than one part in 2^40; theirs is computed upwards.
        assert theirs(contents, keep).map(1) == pytest.approx(mechanism.epsilon, abs=1e-10)
        assert theirs(contents, keep).map(1) <= mechanism.epsilon + 1e-12


def test_its_draws_and_ours_are_of_one_distribution() -> None:
    contents, draws = 5, 20_000
    mechanism = WindowRandomizedResponse(1.0, contents, (1, 1))
    measurement = theirs(contents, float(mechanism.probabilities(range(contents))[0]))
    other = WindowRandomizedResponse(1.2, contents, (1, 1))
    counts = [
        np.bincount([draw() for _ in range(draws)], minlength=contents)
        for draw in (
            lambda: measurement(0),
            lambda: mechanism.draw(range(contents)),
            lambda: other.draw(range(contents)),
        )
    ]
    assert chi2_contingency(counts[:2]).pvalue > 1e-6
    # The same check notices an epsilon of 1.2.
    assert chi2_contingency([counts[0], counts[2]]).pvalue < 1e-6
