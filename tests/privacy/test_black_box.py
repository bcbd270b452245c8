"""The black-box audit: a lower bound on epsilon from draws alone (layer 3), with controls.

With probability >= 1 - 1e-6 no bound is above the mechanism's true epsilon.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lreorg_fast.audit import Claim, false_claims, honest_claims
from lreorg_fast.audit.claims import FEW_DRAWS, MANY_DRAWS
from lreorg_fast.audit.tables import audited_bound, black_box, from_mechanism
from lreorg_fast.privacy import PaperWindow, Uniform, WindowRandomizedResponse
from lreorg_fast.privacy.arrays import Float64Array

WINDOW = (33, 96)
_GENERATOR = np.random.default_rng(4)


def silent(_: int) -> None:
    pass


def from_table(claim: Claim, distances: Float64Array, draws: int) -> np.ndarray:
    """Many draws at once, repeatably; test_window_rr shows that real draws follow the table."""
    table = claim.mechanism.probabilities(distances)
    return _GENERATOR.multinomial(draws // 2, table / table.sum(), size=2)


def bound(mechanism, pairs, draws: int, drawer=from_table) -> float:
    return audited_bound(Claim("", 0.0, mechanism, True, draws), pairs, drawer, silent)


@pytest.mark.parametrize("claim", false_claims(256), ids=lambda claim: claim.name)
def test_false_claims_of_epsilon_one_are_refuted(claim: Claim, pairs):
    (finding,) = black_box([claim], pairs, silent, from_table)
    assert claim.epsilon == 1.0
    assert finding.measured > 1.0
    assert finding.as_expected
    assert finding.verdict == "refuted, as it must be"


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("draws", [FEW_DRAWS, MANY_DRAWS])
def test_window_randomized_response_is_not_refuted(epsilon, draws, pairs):
    found = bound(WindowRandomizedResponse(epsilon, 256, WINDOW), pairs, draws)
    assert found <= epsilon
    # The auditor sees most of what there is to see, so passing means something.
    assert draws == FEW_DRAWS or found > 0.85 * epsilon


def test_uniform_shows_nothing(pairs):
    assert bound(Uniform(256), pairs, MANY_DRAWS) == 0


def test_real_draws_pass_and_fail_as_the_tables_do(pairs):
    honest = WindowRandomizedResponse(1.0, 256, WINDOW)
    assert bound(honest, pairs[:1], FEW_DRAWS, from_mechanism) <= 1.0
    assert bound(PaperWindow(1.0, 256, WINDOW), pairs[:1], 4_000, from_mechanism) > 1.0


def test_a_mechanism_that_lies_about_itself_is_found(pairs):
    """What the audit is for: a claim of half of what the mechanism really costs."""
    lying = replace(honest_claims(256, 2.0)[0], epsilon=1.0)
    (finding,) = black_box([lying], pairs, silent, from_table)
    assert finding.as_expected is False
    assert finding.verdict == "REFUTED"
