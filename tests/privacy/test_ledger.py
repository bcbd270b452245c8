"""The epsilon ledger: it counts, refuses, holds one draw per track, and survives a restart."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lreorg_fast.errors import BudgetExceeded, ConfigError, OutputError, PrivacyError
from lreorg_fast.privacy import (
    AttributeAnonymizer,
    Codebook,
    GroupIdentityAnonymizer,
    Ledger,
    Replacement,
    make_mechanism,
)


def replacement(epsilon: float = 1.0) -> Replacement:
    return Replacement(np.ones(3), 0, epsilon, "window-rr", "for a test")


@pytest.fixture
def anonymizer() -> GroupIdentityAnonymizer:
    generator = np.random.default_rng(9)
    codebook = Codebook(
        generator.standard_normal((256, 16)), generator.standard_normal((256, 8, 16))
    )
    return GroupIdentityAnonymizer(codebook, make_mechanism("window-rr", 1.0, 256))


def test_three_hundred_frames_of_a_track_are_one_draw_paid_once(anonymizer):
    ledger = Ledger(budget=1.0)
    frames = np.random.default_rng(10).standard_normal((300, 14, 16))
    drawn = [
        ledger.held("track 1", lambda frame=frame: anonymizer.replacement(frame), 1.0)
        for frame in frames
    ]
    assert len({id(item) for item in drawn}) == 1
    assert len({item.group for item in drawn}) == 1
    assert ledger.total("track 1") == 1.0


def test_a_spend_past_the_budget_is_refused_and_not_recorded():
    ledger = Ledger(2.0)
    assert ledger.spend("a", 1.5) == 1.5
    with pytest.raises(BudgetExceeded, match="'a'"):
        ledger.spend("a", 0.6)
    assert ledger.total("a") == 1.5
    assert ledger.spend("a", 0.5) == 2.0
    assert ledger.spend("b", 2.0) == 2.0


def test_a_refused_track_is_never_drawn_for():
    ledger = Ledger(0.5)

    def forbidden() -> Replacement:
        raise AssertionError("drawn although refused")

    with pytest.raises(BudgetExceeded):
        ledger.held("a", forbidden, 1.0)
    assert ledger.total("a") == 0.0


def test_tenths_add_up_to_the_budget_that_a_person_wrote():
    ledger = Ledger(0.3)
    for _ in range(3):
        ledger.spend("a", 0.1)
    assert ledger.total("a") == 0.3
    with pytest.raises(BudgetExceeded):
        ledger.spend("a", 1e-12)


@given(st.lists(st.floats(0, 10), max_size=20), st.floats(0, 20))
def test_no_sequence_of_spends_passes_the_budget(spends, budget):
    ledger = Ledger(budget)
    accepted = []
    for epsilon in spends:
        try:
            ledger.spend(1, epsilon)
        except BudgetExceeded:
            assert math.fsum([*accepted, epsilon]) >= budget
        else:
            accepted.append(epsilon)
    assert ledger.total(1) <= budget
    assert ledger.total(1) == pytest.approx(math.fsum(accepted), rel=1e-15)


def test_infinite_epsilon_needs_a_ledger_without_budget():
    with pytest.raises(BudgetExceeded):
        Ledger(1e6).spend("a", math.inf)
    ledger = Ledger()
    ledger.spend("a", math.inf)
    assert ledger.total("a") == math.inf
    assert json.loads(json.dumps(ledger.report(), allow_nan=False))["tracks"] == {"a": "inf"}


def test_keywords_of_a_track_are_held_apart_and_add_up():
    ledger = Ledger(3.0)
    attribute = AttributeAnonymizer(np.eye(2), "randomized", 0.5)
    identity = ledger.held(7, replacement, 1.0)
    gender = ledger.held(7, lambda: attribute.replacement([1.0, 0.2]), 0.5, keyword="gender")
    assert ledger.held(7, replacement, 1.0) is identity
    assert ledger.held(7, replacement, 0.5, keyword="gender") is gender
    assert ledger.total(7) == ledger.total("7") == 1.5


def test_a_redraw_after_forgetting_costs_again():
    ledger = Ledger(2.0)
    first = ledger.held("a", replacement, 1.0)
    ledger.forget("a")
    ledger.forget("never seen")
    assert ledger.held("a", replacement, 1.0) is not first
    assert ledger.total("a") == 2.0
    ledger.forget("a")
    with pytest.raises(BudgetExceeded):
        ledger.held("a", replacement, 1.0)


def test_a_draw_that_costs_more_than_was_paid_is_not_handed_out():
    ledger = Ledger(5.0)
    with pytest.raises(PrivacyError, match="was paid"):
        ledger.held("a", lambda: replacement(math.inf), 1.0)
    assert ledger.total("a") == 1.0


def test_a_draw_that_fails_stays_paid():
    ledger = Ledger(5.0)
    with pytest.raises(ZeroDivisionError):
        ledger.held("a", lambda: 1 / 0, 1.0)
    assert ledger.total("a") == 1.0
    assert ledger.held("a", replacement, 1.0).epsilon == 1.0


def test_many_threads_cannot_overspend_or_draw_twice():
    ledger = Ledger(50.0)
    barrier = threading.Barrier(8)
    calls: list[int] = []

    def work(_: int) -> tuple[int, Replacement]:
        barrier.wait()
        refused = 0
        for _ in range(100):
            try:
                ledger.spend("shared", 0.1)
            except BudgetExceeded:
                refused += 1
        return refused, ledger.held("face", lambda: calls.append(1) or replacement(), 1.0)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert sum(refused for refused, _ in results) == 300
    assert ledger.total("shared") == 50.0
    assert len({id(held) for _, held in results}) == len(calls) == 1
    assert ledger.total("face") == 1.0


def test_a_second_frame_waits_for_the_draw_of_the_first():
    ledger = Ledger(5.0)
    got: list[Replacement] = []
    second = threading.Thread(target=lambda: got.append(ledger.held("a", replacement, 1.0)))

    def draw() -> Replacement:
        second.start()
        # A ledger that let the second frame in would finish it here, with a draw of its own.
        second.join(timeout=0.2)
        return replacement()

    first = ledger.held("a", draw, 1.0)
    second.join()
    assert got == [first]
    assert ledger.total("a") == 1.0


def test_report_always_says_what_epsilon_is_not():
    ledger = Ledger(3.0)
    ledger.spend(1, 1.0)
    ledger.spend(2, 2.5)
    assert ledger.report() == {
        "budget": 3.0,
        "tracks": {"1": 1.0, "2": 2.5},
        "largest": 2.5,
        "statement": (
            "This is not a guarantee for the picture. "
            "Measured re-identification: not measured here."
        ),
    }
    assert ledger.report("1 of 500")["statement"].endswith("re-identification: 1 of 500.")
    assert Ledger().report()["largest"] == 0.0


@settings(max_examples=25)  # every example waits for the disk
@given(
    budget=st.one_of(st.none(), st.floats(50, 100)),
    totals=st.dictionaries(st.text(max_size=20), st.floats(0, 50), max_size=5),
)
def test_a_saved_ledger_comes_back(budget, totals, tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    ledger = Ledger(budget)
    for track, epsilon in totals.items():
        ledger.spend(track, epsilon)
    ledger.save(path)
    loaded = Ledger.load(path)
    assert loaded.report() == ledger.report()


def test_only_totals_are_saved_and_an_older_file_is_replaced(anonymizer, tmp_path):
    path = tmp_path / "ledger.json"
    Ledger(1.0).save(path)
    ledger = Ledger(2.0)
    ledger.held("a", lambda: anonymizer.replacement(np.ones(16)), 1.0)
    ledger.save(path)
    assert json.loads(path.read_text()) == {
        "format": "lreorg-ledger",
        "version": 1,
        "budget": "2.0",
        "totals": {"a": "1.0"},
    }
    assert [item.name for item in tmp_path.iterdir()] == ["ledger.json"]
    loaded = Ledger.load(path)
    loaded.held("a", replacement, 1.0)
    assert loaded.total("a") == 2.0


def test_a_folder_that_is_missing_is_one_clear_error(tmp_path):
    with pytest.raises(OutputError, match="ledger"):
        Ledger().save(tmp_path / "missing" / "ledger.json")


GOOD = {"format": "lreorg-ledger", "version": 1, "budget": "2.0", "totals": {"a": "1.0"}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b'{"format": "lreorg-ledger", "format": "lreorg-ledger"}',
        json.dumps(GOOD).replace('{"a"', '{"a": "2.0", "a"').encode(),
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"format": "other"},
                {"version": 2},
                {"more": 1},
                {"budget": 2.0},
                {"budget": "Infinity"},
                {"budget": "-1"},
                {"budget": "NaN"},
                {"totals": []},
                {"totals": {"a": 1.0}},
                {"totals": {"a": "-1"}},
                {"totals": {"a": "sNaN"}},
                {"totals": {"a": "x"}},
                {"totals": {"a": "9" * 101}},
                {"totals": {"a": "2.1"}},
            )
        ),
    ],
    ids=lambda content: content[:60].decode("utf-8", "replace"),
)
def test_a_damaged_ledger_is_not_an_empty_one(content, tmp_path):
    path = tmp_path / "ledger.json"
    path.write_bytes(content)
    with pytest.raises(PrivacyError, match="cannot be read"):
        Ledger.load(path)


def test_a_missing_ledger_is_not_an_empty_one(tmp_path):
    with pytest.raises(PrivacyError, match="cannot be read"):
        Ledger.load(tmp_path / "none.json")


@pytest.mark.parametrize("budget", [-1.0, math.nan, math.inf, "1", True])
def test_bad_budgets_are_refused(budget):
    with pytest.raises(ConfigError, match="budget is"):
        Ledger(budget)


@pytest.mark.parametrize("epsilon", [-0.1, math.nan, "1", None, False])
def test_bad_epsilons_are_refused(epsilon):
    ledger = Ledger()
    for pay in (ledger.spend, lambda track, cost: ledger.held(track, replacement, cost)):
        with pytest.raises(ConfigError, match="epsilon is"):
            pay("a", epsilon)
    assert ledger.total("a") == 0.0


@pytest.mark.parametrize("track", [None, 1.0, True, b"a", ("a",)])
def test_bad_tracks_are_refused(track):
    with pytest.raises(ConfigError, match="track is of type"):
        Ledger().spend(track, 1.0)
