"""What outputs are still good for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_evaluation import (
    ToyCollection,
    ToyFinder,
    ToyReader,
    judges,
    observed,
    people,
    points,
    strangers,
)

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.fid import FeatureStatistics
from lreorg_fast.evaluation.frechet import frechet_distance, frechet_figure
from lreorg_fast.evaluation.geometry import _HEAD, head_pose
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.preservation import SAME_PICTURE, preservation, recovery
from lreorg_fast.evaluation.protocol import Judges

SUBJECTS = people(100)
ROWS = points(SUBJECTS)
NAMES = ("gender", "age")


def entries(found: list[Measured]) -> dict:
    return {(m.metric, *m.where.values()): m for m in found}


def labels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((200, 2)) < 0.5


class Features:
    metric = "fid"
    convention = "pytorch-fid"


# ---- attributes


def test_true_labels_are_used_where_they_are_known() -> None:
    read, truth = labels(0), labels(1)
    collection = ToyCollection(SUBJECTS, attributes={"age": truth[:, 1]})
    shown = np.stack([read[:, 0], truth[:, 1]], axis=1)
    found = entries(
        preservation(
            collection,
            observed(ROWS, attributes=read),
            observed(ROWS, attributes=shown),
            judges(ToyReader(NAMES)),
        )
    )
    assert found["apr", "gender"].figure.value == 1
    assert "reader's word" in found["apr", "gender"].figure.note
    assert found["apr", "age"].figure.value == 1
    assert "true label" in found["apr", "age"].figure.note
    assert found["apr_mean",].figure.value == 1


def test_what_is_not_released_preserves_nothing() -> None:
    nothing = np.zeros((200, 2), bool)
    released = np.arange(200) % 4 > 0
    found = entries(
        preservation(
            ToyCollection(SUBJECTS),
            observed(ROWS, attributes=nothing),
            observed(ROWS, attributes=nothing, released=released),
            judges(ToyReader(NAMES)),
        )
    )
    for key in (("apr", "gender"), ("apr_mean",)):
        assert found[key].figure.value == 0.75
        assert found[key].figure.n == 200


def test_every_missing_judge_has_its_reason() -> None:
    missing = {"attributes": "no reader here", "fid": "no Inception here", "finder": "no detector"}
    seen = observed(ROWS)
    found = entries(preservation(ToyCollection(SUBJECTS), seen, seen, judges(missing=missing)))
    assert found["apr",].reason == found["apr_mean",].reason == "no reader here"
    assert found["fid",].reason == "no Inception here"
    assert found["landmark_error",].reason == found["pose_error",].reason == "no detector"
    assert "gaze" in found["gaze_error",].reason


# ---- look


def statistics(seed: int, shift: float, n: int = 300) -> tuple:
    made = FeatureStatistics(6)
    made.add(np.random.default_rng(seed).standard_normal((n, 6)) + shift)
    return made.mean, made.covariance, made.n


def test_the_distance_has_its_convention_and_counts() -> None:
    given = Judges((), features=(Features(),))
    first = observed(ROWS, statistics={"pytorch-fid": statistics(0, 0)})
    second = observed(ROWS, statistics={"pytorch-fid": statistics(1, 1, 200)})
    found = entries(preservation(ToyCollection(SUBJECTS), first, second, given))
    entry = found["fid", "pytorch-fid"]
    assert entry.figure.n == 200
    assert entry.figure.low < 6 < entry.figure.high
    nothing = observed(ROWS, released=np.zeros(200, bool))
    found = entries(preservation(ToyCollection(SUBJECTS), first, nothing, given))
    assert "2 released" in found["fid", "pytorch-fid"].reason


def test_the_interval_of_the_distance_is_that_of_repetition() -> None:
    """500 repetitions of two samples: the true distance of 95% of them, give or take 3%."""
    random = np.random.default_rng(0)
    mix = random.standard_normal((4, 4)) / 2 + np.eye(4)
    shift = np.array([2.0, 0, 0, 1.0])  # so that both terms of the variance count
    truth = frechet_distance(np.zeros(4), np.eye(4), shift, mix @ mix.T)
    covered, values, halves = 0, [], []
    for _ in range(500):
        sets = []
        for n, turn, mean in ((1500, np.eye(4), np.zeros(4)), (1000, mix, shift)):
            rows = random.standard_normal((n, 4)) @ turn.T + mean
            sets.append((rows.mean(0), np.cov(rows, rowvar=False), n))
        figure = frechet_figure(*sets)
        assert figure.value == pytest.approx(frechet_distance(*sets[0][:2], *sets[1][:2]))
        covered += figure.low <= truth <= figure.high
        values.append(figure.value)
        halves.append((figure.high - figure.low) / 2)
    assert covered / 500 == pytest.approx(0.95, abs=0.03)
    assert np.mean(halves) == pytest.approx(1.96 * np.std(values), rel=0.1)


def test_few_pictures_in_many_dimensions_are_flagged() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 10, 20))
    sets = [(r.mean(0), np.cov(r, rowvar=False), 10) for r in rows]
    assert "mostly bias" in frechet_figure(*sets).note
    with pytest.raises(ConfigError, match="at least 2"):
        frechet_figure((*sets[0][:2], 1), sets[1])


# ---- geometry


def turned(yaw: float, pitch: float, roll: float, scale: float = 1.0) -> np.ndarray:
    """Landmarks of the average head, turned: about the vertical, the horizontal, the axis."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = [[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]]
    about_z = [[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]
    matrix = np.array(about_z) @ np.array(about_y) @ np.array(about_x)
    return scale * (_HEAD @ matrix.T)[None, :, :2] + np.array([30.0, 40.0])


@given(
    yaw=st.floats(-60, 60),
    pitch=st.floats(-40, 40),
    roll=st.floats(-170, 170),
    scale=st.floats(0.1, 10),
)
def test_the_pose_of_an_average_head_is_found(
    yaw: float, pitch: float, roll: float, scale: float
) -> None:
    found = head_pose(turned(yaw, pitch, roll, scale))[0]
    assert found == pytest.approx([yaw, pitch, roll], abs=1e-6)


def test_geometry_compares_each_output_with_its_original() -> None:
    before = np.repeat(turned(0, 0, 0), 200, axis=0)
    after = np.repeat(turned(10, 0, 175), 200, axis=0)
    after[:50] = np.nan
    found = entries(
        preservation(
            ToyCollection(SUBJECTS),
            observed(ROWS, landmarks=before),
            observed(ROWS, landmarks=after),
            judges(finder=ToyFinder()),
        )
    )
    assert found["landmark_error",].figure.n == 150
    assert found["pose_error", "yaw"].figure.value == pytest.approx(10)
    assert found["pose_error", "pitch"].figure.value == pytest.approx(0, abs=1e-6)
    assert found["pose_error", "roll"].figure.value == pytest.approx(175)
    assert "estimate" in found["pose_error", "roll"].figure.note
    moved = np.repeat(turned(0, 0, 0) + np.array([6.3, 0]), 200, axis=0)
    found = entries(
        preservation(
            ToyCollection(SUBJECTS),
            observed(ROWS, landmarks=before),
            observed(ROWS, landmarks=moved),
            judges(finder=ToyFinder()),
        )
    )
    assert found["landmark_error",].figure.value == pytest.approx(0.1)


# ---- variety


def test_diversity_is_the_mean_over_pairs_of_people() -> None:
    rows = points(SUBJECTS, spread=0.5)
    found = entries(preservation(ToyCollection(SUBJECTS), observed(rows), observed(rows), judges()))
    different = SUBJECTS[:, None] != SUBJECTS[None]
    wanted = 1 - (rows @ rows.T)[different].mean()
    assert found["diversity", "toy"].figure.value == pytest.approx(wanted)
    alike = observed(np.repeat(rows[:1], 200, axis=0))
    found = entries(preservation(ToyCollection(SUBJECTS), alike, alike, judges()))
    assert found["diversity", "toy"].figure.value == pytest.approx(0, abs=1e-9)


def test_the_interval_of_diversity_is_that_of_repetition() -> None:
    """A shared direction of random strength: what varies is common to a picture's pairs."""
    subjects = np.arange(80)
    values, widths = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        rows = random.standard_normal((80, 8))
        rows[:, 0] = random.exponential(4, 80)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        seen = observed(rows)
        figure = entries(preservation(ToyCollection(subjects), seen, seen, judges()))[
            "diversity", "toy"
        ].figure
        values.append(figure.value)
        widths.append(figure.high - figure.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.25)


# ---- recovery


def test_recovery_of_the_same_and_of_another_picture() -> None:
    subjects = people(300)
    rows = points(subjects)
    seen = labels(0).repeat(3, axis=0)
    originals = observed(rows, attributes=seen)
    restored = observed(rows, attributes=np.where([True, False], seen, ~seen))
    found = entries(
        recovery(ToyCollection(subjects), originals, restored, judges(ToyReader(NAMES)))
    )
    assert found["recovery", "toy", "1e-3"].figure.value > 0.99
    assert found["recovery", "toy", "1e-3", SAME_PICTURE].figure.value == 1
    assert found["recovery", "gender"].figure.value == 1
    assert found["recovery", "age"].figure.value == 0
    half = np.arange(600) < 300
    lost = observed(np.where(half[:, None], rows, strangers(subjects)), found=np.arange(600) < 150)
    found = entries(recovery(ToyCollection(subjects), originals, lost, judges()))
    assert found["recovery", "toy", "1e-3", SAME_PICTURE].figure.value == pytest.approx(0.25)
    assert found["recovery",].reason is not None


def test_recovery_needs_something_restored_and_a_recognizer_that_works() -> None:
    subjects = people(300)
    nothing = observed(points(subjects), released=np.zeros(600, bool))
    originals = observed(points(subjects))
    found = entries(recovery(ToyCollection(subjects), originals, nothing, judges()))
    assert found["recovery", "toy", "1e-3"].reason == "nothing was restored"
    blind = observed(strangers(subjects))
    found = entries(recovery(ToyCollection(subjects), blind, blind, judges()))
    assert "means nothing" in found["recovery", "toy", "1e-3"].reason
