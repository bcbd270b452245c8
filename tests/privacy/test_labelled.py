"""Mechanisms without a guarantee: they do what they say, and say that it is no guarantee."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, laplace

import lreorg_fast.privacy.randomness as randomness
from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.privacy import (
    DEFAULT_MECHANISM,
    MECHANISMS,
    GroupMechanism,
    InsecureTestSampler,
    KAnonymityFarthest,
    LaplaceFeature,
    PaperWindow,
    SystemSampler,
    make_mechanism,
)

WINDOW = (33, 96)


def test_paper_window_is_not_private(means):
    """Some group is possible for one face and impossible for the other, in 100 of 100 pairs."""
    mechanism = PaperWindow(1.0, 256, WINDOW)
    generator = np.random.default_rng(5)
    deltas = []
    for _ in range(100):
        first, second = generator.standard_normal((2, 512))
        p, q = (
            mechanism.probabilities(1 - means @ (face / np.linalg.norm(face)))
            for face in (first, second)
        )
        assert ((p > 0) & (q == 0)).any()
        deltas.append(p[q == 0].sum())
    assert round(float(np.mean(deltas)), 2) == 0.75


def test_paper_window_gives_opposite_faces_disjoint_groups(distances):
    mechanism = PaperWindow(1.0, 256, WINDOW)
    p, q = (mechanism.probabilities(row) for row in (distances[0], 2 - distances[0]))
    assert not ((p > 0) & (q > 0)).any()


def test_paper_window_follows_its_exponential(distances):
    row = distances[0]
    table = PaperWindow(8.0, 256, WINDOW).probabilities(row)
    window = np.argsort(row)[32:96]
    expected = np.exp(-8.0 * row[window] / 4)
    assert np.flatnonzero(table).tolist() == sorted(window.tolist())
    np.testing.assert_array_almost_equal_nulp(
        np.round(table[window], 9), np.round(expected / expected.sum(), 9)
    )


def test_paper_window_draws_from_its_table(distances):
    mechanism = PaperWindow(8.0, 64, (5, 20))
    row = distances[0][:64]
    table = mechanism.probabilities(row)
    counts = np.bincount([mechanism.draw(row) for _ in range(20_000)], minlength=64)
    possible = table > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], 20_000 * table[possible]).pvalue > 1e-6


def test_every_integer_of_the_paper_draw_lands_where_the_table_says(monkeypatch):
    mechanism = PaperWindow(2.0, 7, (2, 4))
    distances = [0.3, 0.1, 0.9, 0.2, 0.4, 0.8, 0.5]
    weights = mechanism.weights(distances)
    assert [group for group, weight in enumerate(weights) if weight] == [0, 3, 4]
    start = 0
    for group in (0, 3, 4):
        for number in (start, start + weights[group] - 1):
            monkeypatch.setattr(randomness.secrets, "randbelow", lambda _, number=number: number)
            assert mechanism.draw(distances) == group
        start += weights[group]


def test_k_anonymity_takes_the_farthest_group_every_time(distances):
    mechanism = KAnonymityFarthest(256)
    for row in distances[::100]:
        assert {mechanism.draw(row) for _ in range(3)} == {int(np.argmax(row))}
        assert mechanism.probabilities(row)[np.argmax(row)] == 1.0


def test_laplace_noise_has_its_distribution(insecure):
    """The noise before normalisation is recovered up to scale from the direction."""
    mechanism = LaplaceFeature(1.0, InsecureTestSampler(1))
    noisy = mechanism.perturb(np.eye(1, 4_000)[0])[1:]
    assert kstest(noisy / np.mean(np.abs(noisy)), laplace.cdf).pvalue > 1e-3


def test_laplace_gives_a_unit_vector_that_follows_the_face_at_little_noise(faces):
    near, far = (
        np.mean([face @ LaplaceFeature(nominal).perturb(face) for face in faces[-20:]])
        for nominal in (20.0, 0.01)
    )
    assert near > far
    assert abs(far) < 0.1
    noisy = LaplaceFeature(1.0).perturb(torch.tensor(faces[0]))
    assert round(float(np.linalg.norm(noisy)), 12) == 1.0


@pytest.mark.parametrize(
    "bad", [np.zeros(8), np.full(8, np.nan), np.zeros((2, 8)), np.array([np.inf, 1.0]), "feature"]
)
def test_laplace_refuses_hostile_features(bad):
    with pytest.raises(PrivacyError):
        LaplaceFeature(1.0).perturb(bad)


@pytest.mark.parametrize("epsilon", [0.0, 1e-4, -1.0, math.nan, 21.0])
def test_laplace_refuses_epsilon_out_of_range(epsilon):
    with pytest.raises(ConfigError, match="epsilon"):
        LaplaceFeature(epsilon)


def test_registry_names_labels_and_makes_every_mechanism():
    assert set(MECHANISMS) == {
        *("window-rr", "rank-weights", "uniform"),
        *("paper-window", "k-anonymity", "laplace"),
    }
    for name, entry in MECHANISMS.items():
        mechanism = make_mechanism(name, None, 64)
        assert mechanism.name == name
        assert mechanism.guarantee == entry.promise
        assert math.isfinite(mechanism.epsilon) == entry.private
        assert entry.private != entry.promise.startswith("no guarantee")
        if isinstance(mechanism, GroupMechanism):
            assert mechanism.num_groups == 64
    assert make_mechanism(DEFAULT_MECHANISM, None, 64).epsilon == 1.0
    assert make_mechanism("window-rr", 2.5, 64, (1, 9)).window == (1, 9)
    assert make_mechanism("paper-window", 3.0, 64, (2, 9)).nominal_epsilon == 3.0


@pytest.mark.parametrize(
    ("name", "epsilon", "window"),
    [
        ("window", 1.0, None),
        ("uniform", 1.0, None),
        ("k-anonymity", 1.0, None),
        ("uniform", None, (1, 2)),
        ("laplace", 1.0, (1, 2)),
    ],
)
def test_unknown_names_and_settings_without_effect_are_refused(name, epsilon, window):
    with pytest.raises(ConfigError, match="choose one"):
        make_mechanism(name, epsilon, 64, window)


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_a_seeded_sampler_takes_every_guarantee_away(name, insecure):
    mechanism = make_mechanism(name, None, 8, sampler=InsecureTestSampler(3))
    assert mechanism.epsilon == math.inf
    assert mechanism.guarantee.startswith("privacy: none")


@pytest.mark.parametrize("value", [None, "", "0", "true", "11"])
def test_the_seeded_sampler_is_fenced(value, monkeypatch):
    if value is None:
        monkeypatch.delenv("LREORG_INSECURE_TEST", raising=False)
    else:
        monkeypatch.setenv("LREORG_INSECURE_TEST", value)
    with pytest.raises(PrivacyError, match="LREORG_INSECURE_TEST=1"):
        InsecureTestSampler(0)


def test_the_seeded_sampler_repeats_itself(insecure):
    draws = [
        [make_mechanism("window-rr", 1.0, 64, sampler=sampler).draw(range(64)) for _ in range(20)]
        for sampler in (InsecureTestSampler(7), InsecureTestSampler(7))
    ]
    assert draws[0] != draws[1] or len(set(draws[0])) > 1
    first, second = InsecureTestSampler(7), InsecureTestSampler(7)
    assert [first.randbelow(99) for _ in range(9)] == [second.randbelow(99) for _ in range(9)]


def test_no_other_sampler_is_let_in():
    class Pretender(SystemSampler):
        def randbelow(self, n: int) -> int:
            return 0

    for pretender in (Pretender(), object(), np.random.default_rng(0)):
        with pytest.raises(ConfigError, match="sampler"):
            make_mechanism("window-rr", 1.0, 64, sampler=pretender)
