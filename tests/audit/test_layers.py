"""The audit's parts: exact ratios, bounds that hold, controls with the faults that they claim."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.audit import AuditReport, Finding, false_claims, honest_claims
from lreorg_fast.audit.statistics import (
    chi_square_p,
    epsilon_lower_bound,
    log_ratio_bound,
    one_run_lower_bound,
)
from lreorg_fast.audit.tables import (
    audit_faces,
    audit_pairs,
    isotropic_directions,
    largest_ratio,
    real_draws,
    sampler,
    white_box,
    within,
)
from lreorg_fast.errors import MissingExtra
from lreorg_fast.privacy import WindowRandomizedResponse

DIRECTIONS = isotropic_directions(256, 64)


def silent(_: int) -> None:
    pass


@pytest.fixture(scope="module")
def distances() -> np.ndarray:
    return 1.0 - audit_faces(DIRECTIONS) @ DIRECTIONS.T


def test_faces_are_of_every_kind_and_unit_length(distances: np.ndarray) -> None:
    faces = audit_faces(DIRECTIONS)
    assert faces.shape == (504, 64)
    assert np.allclose(np.linalg.norm(faces, axis=1), 1)
    assert (np.abs(distances.min(axis=1)) < 1e-9).sum() >= 126  # centres
    assert (np.abs(distances.max(axis=1) - 2) < 1e-9).sum() >= 126  # opposites
    assert audit_faces(isotropic_directions(16, 8)).shape == (3 * 16 + 126, 8)
    assert len(audit_pairs(DIRECTIONS)) == 8


def test_white_box_passes_the_honest_and_refutes_the_false(distances: np.ndarray) -> None:
    claims = (*honest_claims(256, 1.0), *false_claims(256))
    found = {f.name: f for f in white_box(claims, distances, silent)}
    assert all(finding.as_expected for finding in found.values())
    assert found["window-rr"].measured == pytest.approx(1.0, abs=1e-9)
    assert found["uniform"].measured == 0
    assert found["paper-window"].measured == math.inf
    assert found["own group left out"].measured == math.inf
    # The default window holds a quarter of the groups.
    assert found["wrong formula"].measured == pytest.approx(1 + math.log(3), abs=1e-6)
    assert 1.5 < found["forgotten factor 2"].measured < 2.1


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 4.0, 20.0])
def test_the_bound_is_compared_exactly(epsilon: float, distances: np.ndarray) -> None:
    ratio = largest_ratio(WindowRandomizedResponse(epsilon, 256), distances[:40])
    assert ratio is not None
    assert within(ratio, epsilon)
    assert not within(ratio + Fraction(1, 1 << 39), epsilon)
    assert not within(None, epsilon)


def test_the_sampler_is_compared_with_its_own_and_another_table(distances: np.ndarray) -> None:
    found = list(sampler(honest_claims(256, 1.0), distances[0], silent, 20_000))
    assert [f.honest for f in found] == [True, False] * len(honest_claims(256, 1.0))
    assert all(f.as_expected for f in found)


def test_controls_draw_from_their_tables(distances: np.ndarray) -> None:
    for claim in false_claims(256):
        counts = real_draws(claim.mechanism, distances[0], 2_000)
        assert chi_square_p(counts, claim.mechanism.probabilities(distances[0])) > 1e-6
        assert claim.mechanism.epsilon == math.inf


def test_what_is_impossible_and_was_drawn_has_no_probability() -> None:
    table = np.array([0.5, 0.5, 0.0])
    assert chi_square_p(np.array([10, 9, 1]), table) == 0
    assert chi_square_p(np.array([10, 10, 0]), table) > 0.5


def test_bounds_of_one_run() -> None:
    # 250 right of 250: the lower limit of the share is alpha^(1/250).
    share = 1e-6 ** (1 / 250)
    assert one_run_lower_bound(250, 250) == pytest.approx(math.log(share / (1 - share)))
    assert one_run_lower_bound(250, 250) > 2  # 500 images refute a false claim of 2
    assert one_run_lower_bound(125, 250) == 0
    assert one_run_lower_bound(0, 250) == 0
    assert one_run_lower_bound(0, 0) == 0


@given(epsilon=st.floats(0, 4), seed=st.integers(0, 10_000))
def test_a_true_epsilon_is_not_refuted_by_one_run(epsilon: float, seed: int) -> None:
    """Guesses that are right exactly as often as the theory allows."""
    share = math.exp(epsilon) / (1 + math.exp(epsilon))
    correct = int(np.random.default_rng(seed).binomial(250, share))
    assert one_run_lower_bound(correct, 250) <= epsilon


def test_bounds_hold_at_their_rate_and_not_only_at_a_millionth() -> None:
    """At an error rate of 10% a true ratio is passed in fewer than 10% of 300 audits."""
    generator = np.random.default_rng(6)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    above = 0
    for _ in range(300):
        a, b = (generator.multinomial(1000, table, size=2) for table in (p, q))
        above += epsilon_lower_bound(a, b, 0.1) > math.log(2.5)
    assert above < 30
    # A bound that chose and tested on the same draws of 100 equal groups would see what is not.
    even = np.full(100, 0.01)
    for _ in range(50):
        a, b = (generator.multinomial(1000, even, size=2) for _ in range(2))
        assert epsilon_lower_bound(a, b, 1e-6) <= 0


def test_limits_of_shares_are_those_of_clopper_and_pearson() -> None:
    # The textbook case: 0 of n at alpha / 2 is 1 - (alpha / 2)^(1 / n).
    bound = log_ratio_bound([100], 100, [0], 0.05)
    lower, upper = 0.025 ** (1 / 100), 1 - 0.025 ** (1 / 100)
    assert bound[0] == pytest.approx(math.log(lower / upper))
    assert log_ratio_bound([0], 100, [100], 0.05)[0] < -600


def finding(**changes: object) -> Finding:
    fields = {
        "layer": 3,
        "name": "window-rr",
        "claimed": 1.0,
        "honest": True,
        "measured": 0.9,
        "what": "lower bound on epsilon",
        "sample": "20,000 draws a side",
        "as_expected": True,
    }
    return Finding(**(fields | changes))  # type: ignore[arg-type]


def test_a_report_says_what_passed_and_what_not() -> None:
    good = AuditReport("toy", {"epsilon": 1.0}, (finding(), finding(layer=4, as_expected=None)))
    assert good.passed
    text = good.to_markdown()
    assert "Everything is as it must be." in text
    assert (
        "| window-rr | 1 | lower bound on epsilon: **0.9** | 20,000 draws a side | passes |" in text
    )
    assert "not a guarantee for the picture" in text
    missed = finding(honest=False, measured=math.inf, as_expected=False)
    bad = AuditReport("toy", {}, (finding(), missed))
    assert not bad.passed
    assert "NOT everything passed" in bad.to_markdown()
    assert "**infinite**" in bad.to_markdown()
    assert bad.to_dict()["findings"][1]["measured"] == "inf"
    assert bad.to_dict()["findings"][1]["verdict"] == "NOT REFUTED"


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingExtra, match=r"lreorg_fast\[evaluate\]"):
        one_run_lower_bound(1, 2)


def test_names_of_claims_are_distinct() -> None:
    names = Counter(claim.name for claim in (*honest_claims(16, 1.0), *false_claims(16)))
    assert set(names.values()) == {1}
