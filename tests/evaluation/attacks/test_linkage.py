"""Linkage: two anonymizations of one person."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from toy_evaluation import ToyCollection, judges, observed, people, points, strangers

from lreorg_fast.evaluation.attacks.linkage import auc_figure, linkage

SUBJECTS = people(150)


def figure(embeddings: np.ndarray, **given: np.ndarray):
    (entry,) = linkage(ToyCollection(SUBJECTS), observed(embeddings, **given), judges())
    assert entry.metric == "linkage_auc"
    assert entry.figure is not None, entry.reason
    return entry.figure


def test_unprotected_pictures_are_linked() -> None:
    assert figure(points(SUBJECTS)).value > 0.999


def test_independent_outputs_are_not() -> None:
    found = figure(strangers(SUBJECTS))
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.2
    assert found.n == 150


def test_a_pseudonym_is_linked_without_being_the_person() -> None:
    other_faces = points(SUBJECTS, seed=99)
    assert figure(other_faces).value > 0.999


def test_equal_outputs_tell_nothing() -> None:
    assert figure(np.repeat(strangers(SUBJECTS)[:1], 300, axis=0)).value == pytest.approx(0.5)


def test_nobody_with_two_outputs() -> None:
    released = np.arange(300) % 2 == 0
    (entry,) = linkage(
        ToyCollection(SUBJECTS), observed(points(SUBJECTS), released=released), judges()
    )
    assert "fewer than 2 people" in str(entry.reason)


def test_the_area_is_scikit_learns_with_ties_too() -> None:
    random = np.random.default_rng(0)
    genuine = random.integers(0, 8, 200) / 4
    others = random.integers(0, 7, 500) / 4
    number = random.integers(0, 40, (2, 500))
    found = auc_figure(genuine, np.arange(200) % 40, others, (number[0], number[1]))
    wanted = roc_auc_score(np.repeat([1, 0], [200, 500]), np.concatenate([genuine, others]))
    assert found.value == pytest.approx(wanted)


def test_the_interval_is_that_of_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two outputs per person that share a little: what 40 other draws of people give."""
    monkeypatch.setattr("lreorg_fast.evaluation.attacks.linkage.MOST_STRANGERS", 2_000)
    values, widths = [], []
    for seed in range(40):
        found = figure(points(SUBJECTS, spread=3.0, seed=seed))
        values.append(found.value)
        widths.append(found.high - found.low)
    assert 0.6 < np.mean(values) < 0.95
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.4)


def test_the_bootstrap_draws_people_and_all_their_pairs() -> None:
    """Against one area per resample, counted pair by pair."""
    random = np.random.default_rng(1)
    people, seed = 8, 3
    own = np.arange(people)
    genuine = random.normal(0.5, 1, people)
    one, two = np.triu_indices(people, k=1)
    # Everybody is easy or hard to tell from others, which pairs of strangers share.
    ease = random.normal(0, 1, people)
    others = ease[one] + ease[two] + random.normal(0, 0.1, len(one))
    found = auc_figure(genuine, own, others, (one, two), seed)
    areas = []
    draws = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), 1_000)
    for counts in draws:
        weights = counts[own][:, None] * (counts[one] * counts[two])[None]
        if weights.any():
            areas.append((weights * (genuine[:, None] > others[None])).sum() / weights.sum())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))
