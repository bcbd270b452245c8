"""What attackers learn with, on features that leave little to learn."""

from __future__ import annotations

import numpy as np
import pytest

from lreorg_fast.evaluation.attacks.learning import discriminant


@pytest.mark.parametrize("outputs", ["one colour", "one picture a person"])
def test_outputs_without_any_spread_are_learnt_from(outputs: str) -> None:
    """A fill gives every face the same features, which no covariance can be estimated from."""
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(12), 2)
    features = np.ones((24, 8)) if outputs == "one colour" else rng.normal(size=(12, 8))[people]
    project = discriminant(features, people, 64)
    made = project(features)
    assert np.isfinite(made).all()
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1)
    if outputs == "one picture a person":  # whoever they are, they are found
        nearest = (made @ made.T - 2 * np.eye(24)).argmax(axis=1)
        assert (people[nearest] == people).all()
