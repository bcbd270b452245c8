"""The words follow the figures, and the front is what it claims to be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.evaluation import Figure
from lreorg_fast.evaluation.measured import Evaluation, Measured, MethodResult, unavailable
from lreorg_fast.evaluation.report import summary
from lreorg_fast.evaluation.report.front import naive_front, parrot_front
from lreorg_fast.evaluation.report.sections import compose


def share(metric: str, value: float, half: float = 0.01, **where: str) -> Measured:
    return Measured(metric, Figure(value, 1000, max(0, value - half), min(1, value + half)), where)


def method(name: str, *measured: Measured, guarantee: str = "none") -> MethodResult:
    return MethodResult(name, name, "", guarantee, "", measured)


def placed(name: str, psr: float, apr: float, **more: float) -> MethodResult:
    entries = [share("psr", psr, recognizer="a", far="0.001"), share("apr_mean", apr)]
    return method(name, *entries, *(share(metric, value) for metric, value in more.items()))


def words(
    *methods: MethodResult, judged: tuple[Measured, ...] = (), domain: str = "avatars"
) -> str:
    data = {"name": "x", "domain": domain, "pictures": 2, "subjects": 1}
    document = compose(Evaluation(data, {}, judged, methods, {}), {}, ())
    return "\n".join(p for bullets in document.sections[0].lists for p in bullets.points)


def test_the_winner_is_the_one_with_the_better_figures() -> None:
    text = words(placed("lreorg", 0.99, 0.85), placed("k-anonymity", 0.98, 0.64))
    assert "no method has better values than: lreorg (99.0% protected by a, 85.0%" in text
    assert "lreorg against k-anonymity: protects as much as far as the intervals tell" in text
    assert "preserves more, 85.0% against 64.0%, intervals apart" in text
    text = words(placed("lreorg", 0.90, 0.60), placed("k-anonymity", 0.98, 0.64))
    assert "no method has better values than: k-anonymity" in text
    assert "protects less, 90.0% against 98.0%, intervals apart" in text


def test_who_is_beaten_within_the_intervals_is_said_to_be_as_good() -> None:
    close = words(placed("lreorg", 0.99, 0.85), placed("blur", 0.985, 0.845))
    assert "As good within the intervals: blur." in close
    apart = words(placed("lreorg", 0.99, 0.85), placed("blur", 0.985, 0.70))
    assert "As good within the intervals" not in apart


def test_the_parrot_is_reported_whatever_it_says() -> None:
    found = words(placed("lreorg", 0.99, 0.85, parrot_rank_1=0.4, rank_1=0.01))
    assert "lreorg: 40.0% [39.0, 41.0], n = 1,000; without that training at most 1.0%" in found
    gone = method("lreorg", *unavailable(["parrot_rank_1"], "one picture per person."))
    assert "lreorg: not known, one picture per person." in words(gone)
    assert "The parrot attack, the decisive one, was not part of this run." in words()


def test_the_control_of_an_attack_stands_beside_it() -> None:
    figure = Figure(0.4, 100, 0.3, 0.5, "of originals 90.0%")
    text = words(method("m", Measured("parrot_rank_1", figure, {"recognizer": "p"})))
    assert "m: 40.0% [30.0, 50.0], n = 100 (of originals 90.0%)" in text


def test_a_recognizer_that_does_not_work_is_a_warning() -> None:
    good, bad = share("tar", 0.97, recognizer="good"), share("tar", 0.42, recognizer="bad")
    lines = words(judged=(good, bad)).splitlines()
    assert [line for line in lines if "Warning" in line and line.startswith("bad:")]
    assert not [line for line in lines if "Warning" in line and line.startswith("good:")]
    assert "not known: it was not measured" in words()
    assert "not known: no pairs" in words(judged=tuple(unavailable(["tar"], "no pairs")))


def test_what_the_figures_do_not_say_follows_the_data() -> None:
    assert "say nothing about photographs" in words(domain="avatars")
    assert "say nothing about photographs" not in words(domain="photographs")
    assert "None of the methods here promises anything" in words(placed("blur", 0.9, 0.7))
    assert "None of the methods here promises" in words(method("k", guarantee="none: known rule"))
    promised = method("lreorg", guarantee="epsilon 1")
    assert "A promise is made of lreorg" in words(promised)
    missing = method("blur", *unavailable(["fid", "psr"], "no net"))
    assert "2 figures could not be measured" in words(missing)


def test_the_attack_that_finds_most_is_named() -> None:
    text = words(placed("blur", 0.9, 0.7, residual_rank_1=0.3, reverse_rank_1=0.1, rank_last=0.2))
    assert "blur: residual attack (rank 1), 30.0%" in text


def test_protection_is_by_the_worst_recognizer_at_the_loosest_rate() -> None:
    entries = [
        share("psr", 0.95, recognizer="a", far="0.001"),
        share("psr", 0.90, recognizer="b", far="0.001"),
        share("psr", 0.20, recognizer="b", far="0.0001"),
        share("psr", 0.10, recognizer="b", far="0.001", group="age: old"),
        share("apr_mean", 0.8),
    ]
    front = naive_front([method("m", *entries)])
    (point,) = front.points
    assert point.protection.value == 0.90
    assert front.axis == "PSR at FAR 0.001"
    assert point.source[0].where["recognizer"] == "b"


def test_without_thresholds_the_closed_set_counts() -> None:
    entries = [share("psr_closed_set", 0.7, recognizer="a"), share("apr_mean", 0.8)]
    front = naive_front([method("m", *entries)])
    assert front.axis == "PSR, closed set"
    assert front.points[0].protection.value == 0.7


def test_the_parrot_front_is_by_the_parrot_that_finds_most() -> None:
    entries = [
        share("parrot_rank_1", 0.1, recognizer="a"),
        share("parrot_rank_1", 0.3, recognizer="b"),
        share("apr_mean", 0.8),
    ]
    (point,) = parrot_front([method("m", *entries)]).points
    assert point.protection.value == pytest.approx(0.7)
    assert (point.protection.low, point.protection.high) == pytest.approx((0.69, 0.71))


def test_who_has_no_place_has_a_reason() -> None:
    gone = method("fill", *unavailable(["psr"], "nothing was released"), share("apr_mean", 0.0))
    only = method("x", share("psr", 0.9, recognizer="a", far="0.001"))
    front = naive_front([placed("original", 0.1, 1.0), gone, only, placed("blur", 0.9, 0.5)])
    assert [point.method.name for point in front.points] == ["blur"]
    assert [(m.name, reason) for m, reason in front.missing] == [
        ("fill", "nothing was released"),
        ("x", "no apr_mean in this run"),
    ]


def test_methods_of_other_tables_are_not_compared() -> None:
    names = ("lreorg+gender", "lreorg+age-not-recovered", "hide-age", "lreorg", "lreorg-mine")
    front = naive_front([placed(name, 0.9, 0.5) for name in names])
    assert [point.method.name for point in front.points] == ["lreorg", "lreorg-mine"]


shares = st.integers(0, 20).map(lambda value: value / 20)


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=12))
def test_the_front_beats_all_others_and_is_beaten_by_none(
    places: list[tuple[float, float]],
) -> None:
    front = naive_front([placed(f"m{i}", *place) for i, place in enumerate(places)])
    best = front.best
    assert best
    for point in front.points:
        values = (point.protection.value, point.usefulness.value)
        better = [p for p in places if p != values and p[0] >= values[0] and p[1] >= values[1]]
        assert (point in best) == (not better)
        assert point in best or any(other.beats(point) for other in best)
    useful = [point.usefulness.value for point in best]
    assert useful == sorted(useful)


def test_a_false_accept_rate_that_is_no_number_comes_last() -> None:
    entries = [share("psr", v, recognizer="a", far=f) for f, v in (("?", 0.1), ("1e-3", 0.9))]
    front = naive_front([method("m", *entries, share("apr_mean", 0.5))])
    assert front.axis == "PSR at FAR 1e-3"


def test_sentences_end_once() -> None:
    reasons = unavailable(["psr", "apr_mean", "parrot_rank_1"], "no net is here; install one.")
    text = words(method("m", *reasons), judged=tuple(unavailable(["tar"], "none.")))
    assert not re.search(r"\.\.|\.\)|\.;", text)


def test_counts_are_said() -> None:
    said = summary.judged(
        Evaluation(
            {"pictures": 30000, "subjects": 6000, "name": "n", "domain": "d"}, {}, (), (), {}
        )
    )
    assert said == "0 methods were judged on 30,000 pictures of 6,000 people (n, d)."
