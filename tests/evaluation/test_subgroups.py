"""Groups: what a mean hides, and what is not shown because too few people are behind it."""

from __future__ import annotations

import numpy as np
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

from lreorg_fast.evaluation.calibration import calibrate
from lreorg_fast.evaluation.protection import protection
from lreorg_fast.evaluation.subgroups import MAIN, subgroups

SUBJECTS = people(300)
GROUP = np.where(SUBJECTS < 100, "old", np.where(SUBJECTS < 285, "young", "rare"))
ROWS = points(SUBJECTS)
SEEN = np.zeros((600, 1), bool)
JUDGES = judges(ToyReader(["gender"]), ToyFinder())
COLLECTION = ToyCollection(SUBJECTS, groups={"age": list(GROUP), "hair": [""] * 600})


def found(outputs: np.ndarray, originals: np.ndarray = ROWS) -> dict:
    entries = subgroups(
        COLLECTION,
        observed(originals, attributes=SEEN),
        observed(outputs, attributes=SEEN),
        JUDGES,
    )
    return {(entry.where["group"], entry.metric): entry for entry in entries}


def test_a_group_that_is_left_unprotected_is_seen() -> None:
    outputs = np.where((GROUP == "old")[:, None], ROWS, strangers(SUBJECTS))
    entries = found(outputs)
    assert entries["age: old", "psr"].figure.value < 0.01
    assert entries["age: old", "rank_1"].figure.value > 0.99
    assert entries["age: young", "psr"].figure.value > 0.99
    assert entries["age: young", "rank_1"].figure.value < 0.05
    assert entries["age: old", "psr"].figure.n == 200
    assert {metric for _, metric in entries} == {*MAIN, "tar"}
    assert {entry.where.get("far", "1e-3") for entry in entries.values()} == {"1e-3"}


def test_few_people_are_not_shown() -> None:
    entries = found(ROWS)
    for metric in (*MAIN, "tar"):
        entry = entries["age: rare", metric]
        assert entry.figure is None
        assert "15 people and is shown from 20" in entry.reason


def test_unknown_labels_are_no_group() -> None:
    assert {group for group, _ in found(ROWS)} == {"age: old", "age: young", "age: rare"}
    seen = observed(ROWS)
    assert subgroups(ToyCollection(SUBJECTS), seen, seen, judges()) == []


def test_a_recognizer_that_fails_in_one_group_says_nothing_there() -> None:
    originals = np.where((GROUP == "old")[:, None], strangers(SUBJECTS, seed=7), ROWS)
    entries = found(strangers(SUBJECTS), originals)
    assert entries["age: old", "tar"].figure.value < 0.1
    assert "the group's originals" in entries["age: old", "psr"].reason
    assert entries["age: young", "psr"].figure.value > 0.99


def test_groups_that_are_hardly_released_are_not_shown() -> None:
    released = (GROUP != "old") | (SUBJECTS < 5)
    outputs = observed(ROWS, released=released, attributes=SEEN)
    entries = subgroups(COLLECTION, observed(ROWS, attributes=SEEN), outputs, JUDGES)
    psr = next(e for e in entries if e.metric == "psr" and e.where["group"] == "age: old")
    assert "only 5 of the group's 100 people" in str(psr.reason)


def test_one_group_of_all_has_the_figures_of_all() -> None:
    originals = observed(ROWS, attributes=SEEN)
    outputs = observed(points(SUBJECTS, spread=1.0, seed=0), attributes=SEEN)
    everybody = ToyCollection(SUBJECTS, groups={"all": ["yes"] * 600})
    calibration = calibrate(SUBJECTS, originals, JUDGES)
    whole = {
        (e.metric, e.where.get("far")): e.figure
        for e in protection(everybody, originals, outputs, JUDGES, calibration)
    }
    for entry in subgroups(everybody, originals, outputs, JUDGES, calibration):
        if entry.metric in ("psr", "rank_1", "similarity_gap", "detection"):
            assert entry.figure == whole[entry.metric, entry.where.get("far")]
