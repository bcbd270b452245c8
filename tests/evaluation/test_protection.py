"""Protection: what recognizers that know nothing of the method still find."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from toy_evaluation import (
    ToyCollection,
    ToyFinder,
    judges,
    observed,
    people,
    points,
    strangers,
    unit,
)

from lreorg_fast.evaluation.calibration import calibrate
from lreorg_fast.evaluation.identification import enrol, identify
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.pairs import genuine_pairs, impostors, paired_cosines, stranger_means
from lreorg_fast.evaluation.protection import protection
from lreorg_fast.evaluation.protocol import Observed

SUBJECTS = people(300)
ORIGINALS = observed(points(SUBJECTS))


def measured(outputs: Observed, originals: Observed = ORIGINALS, **given: object) -> dict:
    collection = ToyCollection(given.get("subjects", SUBJECTS))
    found = protection(collection, originals, outputs, given.get("judges", judges()))
    return {(m.metric, m.where.get("far")): m for m in found}


def value(entry: Measured) -> float:
    assert entry.figure is not None, entry.reason
    assert entry.figure.low <= entry.figure.value <= entry.figure.high
    return entry.figure.value


def test_originals_are_recognised_and_nothing_is_protected() -> None:
    found = measured(ORIGINALS)
    for far in ("1e-3", "1e-4"):
        assert value(found["psr", far]) < 0.01
    assert value(found["rank_1", None]) > 0.99
    assert value(found["reverse_rank_1", None]) > 0.99
    assert value(found["psr_closed_set", None]) < 0.01
    assert value(found["rank_last", None]) == 0
    assert value(found["similarity_gap", None]) > 0.8
    tar = calibrate(SUBJECTS, ORIGINALS, judges()).measured()
    assert [entry.where["far"] for entry in tar] == ["1e-3", "1e-4"]
    assert all(value(entry) > 0.99 and entry.figure.n == 300 for entry in tar)


def test_strangers_faces_protect_and_leave_chance() -> None:
    found = measured(observed(strangers(SUBJECTS)))
    assert value(found["psr", "1e-3"]) > 0.99
    chance = 1 / 300
    assert found["rank_1", None].figure.low <= chance <= found["rank_1", None].figure.high
    assert value(found["rank_5", None]) < 0.05
    assert value(found["similarity_gap", None]) == pytest.approx(0, abs=0.03)
    assert found["psr", "1e-3"].figure.n == 600


def test_the_opposite_face_passes_psr_and_is_given_away_by_the_last_rank() -> None:
    found = measured(observed(-points(SUBJECTS)))
    assert value(found["psr", "1e-3"]) == 1
    assert value(found["rank_last", None]) > 0.99
    assert value(found["similarity_gap", None]) < -0.8


def test_the_same_picture_is_never_compared_with_itself() -> None:
    """Two pictures of a person that have nothing in common: identity by picture is no success."""
    lonely = observed(strangers(SUBJECTS))
    found = measured(lonely, originals=lonely)
    assert value(found["rank_1", None]) < 0.02
    assert found["psr", "1e-3"].figure is None
    assert "means nothing" in found["psr", "1e-3"].reason
    assert value(found["similarity", None]) < 0.1


def test_missed_and_filled_faces_are_no_protection() -> None:
    released = np.ones(600, bool)
    released[:100] = False
    seen = released.copy()
    seen[100:200] = False
    outputs = observed(points(SUBJECTS), released=released, found=seen)
    found = measured(outputs, judges=judges(finder=ToyFinder()))
    psr = found["psr", "1e-3"].figure
    assert psr.n == 400
    assert psr.value < 0.01
    assert "100 of 600 outputs without a detected face, 100 not released" in psr.note
    # No detector stops an attacker: every picture that was released is named.
    assert found["rank_1", None].figure.n == 500
    assert found["rank_1", None].figure.value > 0.99
    assert found["reverse_rank_1", None].figure.value > 0.99
    assert value(found["released", None]) == pytest.approx(5 / 6)
    assert value(found["detection", None]) == pytest.approx(4 / 6)
    assert "no detector" in measured(outputs)["detection", None].reason


def test_a_method_that_releases_nothing_has_no_psr() -> None:
    found = measured(observed(points(SUBJECTS), released=np.zeros(600, bool)))
    for key in (("psr", "1e-3"), ("similarity", None)):
        assert "no face was detected in any output" in found[key].reason
    for key in (("rank_1", None), ("rank_5", None), ("reverse_rank_1", None)):
        assert "nothing was released" in found[key].reason
    assert value(found["released", None]) == 0


def test_one_picture_of_each_person() -> None:
    alone = np.arange(600)
    originals = observed(points(alone))
    found = measured(originals, originals, subjects=alone)
    for key in (("psr", "1e-3"), ("rank_1", None), ("rank_last", None), ("similarity", None)):
        assert "add second pictures" in found[key].reason


def test_one_person() -> None:
    same = np.zeros(20, np.int64)
    originals = observed(points(same))
    found = measured(originals, originals, subjects=same)
    assert "the originals give 0" in found["psr", "1e-3"].reason
    assert "not two people" in found["rank_1", None].reason
    assert "no strangers" in found["similarity_gap", None].reason


def test_too_few_pairs_say_which_rate_could_be_had() -> None:
    subjects = people(80)
    originals = observed(points(subjects))
    found = measured(originals, originals, subjects=subjects)
    assert found["psr", "1e-3"].figure is not None
    reason = found["psr", "1e-4"].reason
    assert "100,000 impostor pairs" in reason
    assert "12,640" in reason
    assert "7.9e-04" in reason


def test_a_recognizer_that_saw_no_face_counts_as_missed() -> None:
    rows = points(SUBJECTS)
    rows[:60] = np.nan
    found = measured(observed(rows))
    assert found["psr", "1e-3"].figure.n == 540
    assert "60 of 600 outputs without" in found["psr", "1e-3"].figure.note


# ---- what is compared with what


def test_enrolment_uses_every_picture_once_and_never_itself() -> None:
    subjects = np.array([3, 3, 3, 5, 7, 7, 9])
    every = np.ones(7, bool)
    trials = list(enrol(subjects, every, every))
    probed = np.concatenate([trial.probes for trial in trials])
    assert sorted(probed) == [0, 1, 2, 4, 5]
    for trial in trials:
        assert len(set(subjects[trial.gallery])) == len(trial.gallery) == 4
        assert (subjects[trial.gallery[trial.own]] == subjects[trial.probes]).all()
        assert (trial.gallery[trial.own] != trial.probes).all()


def test_enrolment_of_what_is_left() -> None:
    subjects = np.array([0, 0, 1, 1])
    trials = list(enrol(subjects, np.ones(4, bool), np.array([True, False, True, True])))
    assert sorted(np.concatenate([trial.probes for trial in trials])) == [1, 2, 3]
    assert not list(enrol(subjects, np.ones(4, bool), np.zeros(4, bool)))


def test_equal_outputs_are_told_apart_by_lot() -> None:
    subjects = people(50)
    same = np.repeat(unit(np.ones((1, 32))), 100, axis=0)
    every = np.ones(100, bool)
    found = identify(points(subjects), same, subjects, every, every)
    assert found is not None
    assert found.standing.within(1) == pytest.approx(np.full(100, 1 / 50))


def test_genuine_pairs_are_all_of_them_and_bounded() -> None:
    subjects = np.array([0, 0, 0, 1, 2, 2])
    first, second = genuine_pairs(subjects, both_ways=False)
    pairs = sorted(zip(first.tolist(), second.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 2), (1, 2), (4, 5)]
    assert len(genuine_pairs(subjects, both_ways=True)[0]) == 8
    many = np.zeros(1000, np.int64)
    assert len(genuine_pairs(many, both_ways=True)[0]) == 20_000


def test_strangers_mean_is_the_mean_over_strangers() -> None:
    rng = np.random.default_rng(0)
    subjects = rng.integers(7, size=40)
    rows, gallery = points(subjects, seed=2), points(subjects, seed=3)
    gallery[5] = np.nan
    wanted = [
        np.mean([rows[i] @ gallery[j] for j in range(40) if subjects[j] != subjects[i] and j != 5])
        for i in range(40)
    ]
    assert stranger_means(rows, gallery, np.arange(40), subjects) == pytest.approx(wanted)


def test_a_sample_of_pairs_stands_for_all_of_them() -> None:
    subjects = people(400)
    rows = points(subjects, spread=1.5)
    every, sample = impostors(rows, subjects), impostors(rows, subjects, most=40_000)
    assert not every.sampled
    assert len(every.scores) == 800 * 799 // 2 - 400
    assert sample.sampled
    assert "a sample" in str(sample)
    assert len(sample.scores) == pytest.approx(40_000, rel=0.02)
    for share in (0.5, 0.99):
        a, b = np.quantile(every.scores, share), np.quantile(sample.scores, share)
        assert a == pytest.approx(b, abs=0.02)
    again = impostors(rows, subjects, most=40_000)
    assert (again.scores == sample.scores).all()


def test_thirty_thousand_pictures_need_no_matrix_of_them() -> None:
    """All pairs would be 3.6 GB in float32."""
    subjects = people(15_000)
    rows = points(subjects, dim=8)
    tracemalloc.start()
    pairs = impostors(rows, subjects)
    face, other = genuine_pairs(subjects, both_ways=True)
    paired_cosines(rows, rows, face, other)
    stranger_means(rows, rows, np.arange(30_000), subjects)
    few = np.arange(30_000) < 4_000  # ranks in blocks of 512: the same memory for all of them
    found = identify(rows, rows, subjects, few, np.ones(30_000, bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert found.standing.size == 15_000
    assert 4_900_000 < len(pairs.scores) < 5_100_000
    assert peak < 400e6
