from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation import (
    attribute_preservation,
    bootstrap_interval,
    cosine_similarity,
    protection_success_rate,
    rank_first_rate,
    rank_last_rate,
    rank_of_original,
    share_figure,
    similarity_gap,
    threshold_at_far,
    true_accept_rate,
    wilson_interval,
)

# --- Frechet distance ---------------------------------------------------------------------


def named_normals(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normals that depend on the name only, rounded to float32 as the goldens were."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return generator.standard_normal(shape).astype(np.float32).astype(np.float64)


def features(name: str, n: int, d: int, mix: float, shift: float) -> NDArray[np.float64]:
    mixing = np.eye(d) + mix * named_normals(f"{name}.mix", (d, d)) / np.sqrt(d)
    return named_normals(name, (n, d)) @ mixing + shift


def statistics(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


def pair(n: int, d: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return features(f"fid.a.{d}", n, d, 0.3, 0.0), features(f"fid.b.{d}", n, d, 0.5, 0.25)


# What mseitzer/pytorch-fid and toshas/torch-fidelity return. With fewer samples than dimensions
# the square root of their singular product is good to 1e-8 .. 1e-7 only, hence the wider gate.
@pytest.mark.parametrize(
    ("n", "d", "published", "tolerance"),
    [
        (500, 64, 19.132768909430496, 1e-11),
        (40, 64, 67.03877637294605, 1e-6),
        (3000, 256, 70.0845805034204, 1e-11),
    ],
)
def test_frechet_distance_is_the_published_one(
    n: int, d: int, published: float, tolerance: float
) -> None:
    first, second = pair(n, d)
    distance = lf.evaluation.frechet_distance(*statistics(first), *statistics(second))
    assert distance == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize(("n", "m"), [(10, 10), (40, 40), (64, 65), (300, 300), (20, 300)])
def test_frechet_distance_is_exact_where_the_samples_are_few(n: int, m: int) -> None:
    # From the samples themselves: the singular values of A B^T need no covariance at all.
    first, second = pair(n, 64)[0], pair(m, 64)[1]
    centered = [(rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (first, second)]
    nuclear = np.linalg.svd(centered[0] @ centered[1].T, compute_uv=False).sum()
    exact = (
        ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
        + sum((rows**2).sum() for rows in centered)
        - 2 * nuclear
    )
    distance = lf.evaluation.frechet_distance(*statistics(first), *statistics(second))
    assert distance == pytest.approx(exact, rel=1e-10)


def test_frechet_distance_by_hand() -> None:
    # Diagonal: sum of (m1 - m2)^2 + (s1 - s2)^2 over the axes.
    distance = lf.evaluation.frechet_distance(
        [0, 1, 2], np.diag([1.0, 4.0, 0.0]), [3, 1, 2], np.diag([9.0, 4.0, 25.0])
    )
    assert distance == pytest.approx(9 + 4 + 0 + 25, rel=1e-12)
    zero = np.zeros((2, 2))
    assert lf.evaluation.frechet_distance([0, 0], zero, [3, 4], zero) == 25


@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 8), n=st.integers(2, 20))
def test_frechet_distance_invariants(seed: int, d: int, n: int) -> None:
    generator = np.random.default_rng(seed)

    def draw() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows = generator.normal(size=(n, d)) * generator.uniform(0.1, 10)
        return rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))

    (mu1, cov1), (mu2, cov2) = draw(), draw()
    scale = float(np.trace(cov1) + np.trace(cov2)) + 1
    distance = lf.evaluation.frechet_distance(mu1, cov1, mu2, cov2)
    assert distance >= 0
    assert lf.evaluation.frechet_distance(mu1, cov1, mu1, cov1) <= 1e-10 * scale
    swapped = lf.evaluation.frechet_distance(mu2, cov2, mu1, cov1)
    assert swapped == pytest.approx(distance, abs=1e-9 * scale)
    turn = np.linalg.qr(generator.normal(size=(d, d)))[0]
    turned = lf.evaluation.frechet_distance(
        turn @ mu1, _symmetric(turn @ cov1 @ turn.T), turn @ mu2, _symmetric(turn @ cov2 @ turn.T)
    )
    assert turned == pytest.approx(distance, abs=1e-7 * scale)
    shifted = lf.evaluation.frechet_distance(mu1 + 5, cov1, mu2 + 5, cov2)
    assert shifted == pytest.approx(distance, abs=1e-9 * scale)


def _symmetric(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu2": [0.0]}, "do not belong together"),
        ({"cov2": np.eye(3)}, "do not belong together"),
        ({"mu1": [[0.0, 0.0]]}, "must have 1 axes"),
        ({"mu1": [np.nan, 0.0]}, "NaN or infinity"),
        ({"cov1": [[1.0, np.inf], [np.inf, 1.0]]}, "NaN or infinity"),
        ({"cov1": [[1.0, 0.5], [0.0, 1.0]]}, "not symmetric"),
        ({"cov1": [[1.0, 0.0], [0.0, -0.5]]}, "negative eigenvalue"),
    ],
)
def test_frechet_distance_refuses(change: dict[str, Any], message: str) -> None:
    arguments = {"mu1": [0.0, 0.0], "cov1": np.eye(2), "mu2": [0.0, 0.0], "cov2": np.eye(2)}
    with pytest.raises(ConfigError, match=message):
        lf.evaluation.frechet_distance(**{**arguments, **change})


# --- intervals ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 1000, 0.0, 0.003827),  # 3.8415 / 1003.8415
        (1000, 1000, 1 - 0.003827, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 10, 0.0179, 0.4042),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
    ],
)
def test_wilson_interval_by_hand(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 5000), data=st.data())
def test_wilson_interval_holds_the_share_and_mirrors(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high
    mirrored = wilson_interval(n - successes, n)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)
    wider = wilson_interval(successes, n, confidence=0.99)
    assert wider[0] <= low
    assert wider[1] >= high


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0)])
def test_wilson_interval_refuses(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError):
        wilson_interval(*arguments)


def test_bootstrap_covers_a_known_mean() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        low, high = bootstrap_interval(generator.normal(3, 1, 80), resamples=400, seed=trial)
        covered += low <= 3 <= high
    assert covered >= 51  # 95% of 60 is 57; fewer than 51 has probability 2e-3


def test_bootstrap_draws_people_and_not_pictures() -> None:
    # 20 people with 50 equal pictures each: as uncertain as 20 values, not as 1,000.
    people = np.random.default_rng(2).normal(size=20)
    values, subjects = np.repeat(people, 50), np.repeat(np.arange(20), 50)
    low, high = bootstrap_interval(values, subjects)
    naive_low, naive_high = bootstrap_interval(values)
    assert (high - low) > 5 * (naive_high - naive_low)
    assert (low, high) == pytest.approx(bootstrap_interval(people), abs=1e-12)


def test_bootstrap_is_repeatable_and_labels_do_not_matter() -> None:
    values, subjects = [1.0, 2.0, 3.0, 4.0, 9.0], [0, 0, 1, 1, 2]
    assert bootstrap_interval(values, subjects) == bootstrap_interval(values, list("aabbc"))
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": []},
        {"values": [1.0]},
        {"values": [1.0, np.nan]},
        {"values": [1.0, 2.0], "subjects": [0]},
        {"values": [1.0, 2.0], "subjects": [0, 0]},
        {"values": [1.0, 2.0], "resamples": 10},
        {"values": [1.0, 2.0], "confidence": 95},
    ],
)
def test_bootstrap_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        bootstrap_interval(**arguments)


def test_a_share_of_independent_people_is_wilsons() -> None:
    figure = share_figure([True] * 3 + [False] * 7, note="x")
    assert (figure.value, figure.n, figure.note) == (0.3, 10, "x")
    assert (figure.low, figure.high) == wilson_interval(3, 10)
    assert share_figure([1, 0], subjects=["a", "b"]) == share_figure([1, 0])


def test_a_share_of_repeated_people_is_never_a_point() -> None:
    # All agree: the bootstrap would claim certainty; 10 people are what it rests on.
    figure = share_figure([True] * 100, np.repeat(np.arange(10), 10))
    assert (figure.value, figure.n) == (1.0, 100)
    assert (figure.low, figure.high) == wilson_interval(10, 10)
    mixed = share_figure([True, True, False, False, True, False], [0, 0, 1, 1, 2, 2])
    assert mixed.low < mixed.value == 0.5 < mixed.high
    assert str(mixed).endswith("n = 6")


@given(
    flags=st.lists(st.booleans(), min_size=1, max_size=30),
    people=st.integers(1, 5),
)
def test_every_share_lies_in_its_interval(flags: list[bool], people: int) -> None:
    for subjects in (None, [index % people for index in range(len(flags))]):
        figure = share_figure(flags, subjects)
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.low < figure.high
        assert figure.n == len(flags)


# --- similarity, threshold, protection ----------------------------------------------------


def test_cosine_similarity_by_hand() -> None:
    matrix = cosine_similarity([[2.0, 0.0], [1.0, 1.0]], [[0.0, 3.0], [-5.0, 0.0], [2.0, 2.0]])
    half = math.sqrt(0.5)
    np.testing.assert_allclose(matrix, [[0, -1, half], [half, -half, 1]], atol=1e-15)
    assert np.abs(matrix).max() <= 1


@pytest.mark.parametrize("first", [[[0.0, 0.0]], [[1.0, np.nan]], [[1.0]], [1.0, 2.0]])
def test_cosine_similarity_refuses(first: Any) -> None:
    with pytest.raises(ConfigError):
        cosine_similarity(first, [[1.0, 2.0]])


def test_threshold_by_hand() -> None:
    scores = np.arange(1000) / 1000
    assert threshold_at_far(scores, 0.01) == 0.989  # .990 ... .999 are accepted: 10 of 1,000
    assert (scores > 0.989).sum() == 10


@given(
    far=st.sampled_from([0.01, 0.05, 0.1, 0.3]),
    levels=st.integers(1, 2000),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_threshold_never_accepts_more_and_no_smaller_one_will_do(
    far: float, levels: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(levels, size=1037) / levels
    threshold = threshold_at_far(scores, far)
    assert (scores > threshold).mean() <= far
    assert (scores >= threshold).mean() > far


@pytest.mark.parametrize(("n", "far"), [(9_999, 1e-3), (99_999, 1e-4), (100, 0.0), (100, 1.0)])
def test_too_few_impostors_are_refused(n: int, far: float) -> None:
    with pytest.raises(ConfigError, match="far = "):
        threshold_at_far(np.zeros(n), far)
    assert threshold_at_far(np.zeros(10_000), 1e-3) == 0


def test_true_accept_rate_by_hand() -> None:
    figure = true_accept_rate([0.9, 0.5, 0.2, 0.51], threshold=0.5)
    assert (figure.value, figure.n) == (0.5, 4)


def test_protection_by_hand() -> None:
    figure = protection_success_rate([0.1, 0.5, 0.9, 0.2], threshold=0.5)
    assert (figure.value, figure.n) == (0.75, 4)
    assert (figure.low, figure.high) == wilson_interval(3, 4)


def test_a_missed_face_is_not_a_protected_face() -> None:
    figure = protection_success_rate(
        [0.9, 0.9, np.nan, 0.0], threshold=0.5, detected=[True, True, False, False]
    )
    assert (figure.value, figure.n) == (0.0, 2)
    assert "2 of 4 outputs without a detected face" in figure.note
    with pytest.raises(ConfigError, match="no face was detected"):
        protection_success_rate([0.1], threshold=0.5, detected=[False])
    with pytest.raises(ConfigError, match="NaN"):
        protection_success_rate([np.nan, 0.1], threshold=0.5)
    with pytest.raises(ConfigError, match="detected has the shape"):
        protection_success_rate([0.1, 0.2], threshold=0.5, detected=[True])


def test_protection_of_several_pictures_of_a_person() -> None:
    scores = np.tile([0.9, 0.1, 0.1, 0.1], 10)
    subjects = np.tile([0, 1, 2, 3], 10)
    clustered = protection_success_rate(scores, 0.5, subjects)
    independent = protection_success_rate(scores, 0.5)
    assert clustered.value == independent.value == 0.75
    assert clustered.high - clustered.low > independent.high - independent.low


# --- ranks --------------------------------------------------------------------------------

GALLERY = [[0.9, 0.1, 0.5], [0.2, 0.2, 0.7], [0.3, 0.3, 0.3]]


def test_ranks_by_hand() -> None:
    np.testing.assert_array_equal(rank_of_original(GALLERY, [0, 0, 1]), [1, 2.5, 2])
    first, last = rank_first_rate(GALLERY, [0, 0, 1]), rank_last_rate(GALLERY, [0, 0, 1])
    assert first.value == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert last.value == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert "chance 0.3333" in first.note


def test_equal_outputs_identify_nobody() -> None:
    """A solid fill gives every picture the same embedding: exactly chance, from both ends."""
    same = np.full((200, 50), 0.4)
    for rate in (rank_first_rate, rank_last_rate):
        assert rate(same, np.arange(200) % 50).value == pytest.approx(1 / 50)


def test_the_opposite_face_is_found_from_the_other_end() -> None:
    people = np.random.default_rng(3).normal(size=(100, 32))
    similarities = cosine_similarity(-people, people)
    assert rank_last_rate(similarities, np.arange(100)).value == 1
    assert rank_first_rate(similarities, np.arange(100)).value == 0
    gap = similarity_gap(np.diag(similarities), similarities.mean(axis=1))
    assert gap.high < 0


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12), levels=st.integers(1, 6))
def test_ranks_mirror_and_the_rates_of_all_columns_sum_to_one(
    seed: int, size: int, levels: int
) -> None:
    scores = np.random.default_rng(seed).integers(levels, size=(4, size)).astype(float)
    firsts, lasts = np.zeros(size), np.zeros(size)
    for column in range(size):
        original = np.full(4, column)
        ranks = rank_of_original(scores, original)
        np.testing.assert_allclose(ranks + rank_of_original(-scores, original), size + 1)
        firsts[column] = rank_first_rate(scores, original).value
        lasts[column] = rank_last_rate(scores, original).value
    assert firsts.sum() == pytest.approx(1)
    assert lasts.sum() == pytest.approx(1)


@pytest.mark.parametrize("original", [[0, 1], [0, 1, 3], [0, 1, -1], [0.0, 1.0, 2.0]])
def test_ranks_refuse(original: Any) -> None:
    with pytest.raises(ConfigError, match="original"):
        rank_of_original(GALLERY, original)


def test_similarity_gap_by_hand() -> None:
    figure = similarity_gap([0.2, 0.4], [0.1, 0.1])
    assert figure.value == pytest.approx(0.2)
    assert figure.n == 2
    with pytest.raises(ConfigError, match="must agree"):
        similarity_gap([0.1], [0.1, 0.2])


# --- attributes ---------------------------------------------------------------------------


def test_attribute_preservation_by_hand() -> None:
    result = attribute_preservation(
        [[0, 1], [1, 1], [1, 0], [0, 0]], [[0, 1], [1, 0], [1, 0], [0, 1]], ["gender", "age"]
    )
    assert result.attributes["gender"].value == 1.0
    assert result.attributes["age"].value == 0.5
    assert result.attributes["age"].n == 4
    assert result.mean.value == 0.75
    assert result.mean.low <= 0.75 <= result.mean.high
    assert "gender, age" in result.mean.note
    # All kept is not certainty, here either.
    kept = attribute_preservation([[0, 1]] * 20, [[0, 1]] * 20, ["gender", "age"])
    assert (kept.mean.low, kept.mean.high) == wilson_interval(20, 20)


@pytest.mark.parametrize(
    ("original", "output", "names"),
    [
        ([[0, 1]], [[0, 1], [0, 1]], ["a", "b"]),
        ([[0, 1]], [[0, 1]], ["a"]),
        ([[0, 1]], [[0, 1]], ["a", "a"]),
        ([[0.5, 1]], [[0, 1]], ["a", "b"]),
        ([0, 1], [0, 1], ["a", "b"]),
    ],
)
def test_attribute_preservation_refuses(original: Any, output: Any, names: list[str]) -> None:
    with pytest.raises(ConfigError):
        attribute_preservation(original, output, names)
