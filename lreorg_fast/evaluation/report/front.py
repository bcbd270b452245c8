"""Protection against usefulness: where each method stands, and who is beaten by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lreorg_fast.evaluation.figures import Figure
from lreorg_fast.evaluation.measured import Measured, MethodResult
from lreorg_fast.evaluation.paper import JOINT_NOT_RECOVERED, JOINT_RECOVERED
from lreorg_fast.evaluation.report.text import rate

ORIGINAL = "original"
OWN = "lreorg"
_JOINT = {row.method for table in (JOINT_RECOVERED, JOINT_NOT_RECOVERED) for row in table.rows}


def is_joint(name: str) -> bool:
    """Hides an attribute beside the identity: of the paper's tables or alike."""
    return (name in _JOINT or name.startswith(f"{OWN}+")) and name != OWN


def is_alone(name: str) -> bool:
    """Hides one attribute and leaves the identity as it is."""
    return name.startswith("hide-")


def main_methods(methods: Sequence[MethodResult]) -> list[MethodResult]:
    """Those that hide the identity and nothing else, in order; the original among them."""
    return [m for m in methods if not is_joint(m.name) and not is_alone(m.name)]


@dataclass(frozen=True)
class Point:
    """One method in the plane of protection and usefulness.

    Attributes:
        protection, usefulness: shares, both the higher the better.
        source: the entries that they come from.
    """

    method: MethodResult
    protection: Figure
    usefulness: Figure
    source: tuple[Measured, Measured]

    def beats(self, other: Point) -> bool:
        """At least as good in both and better in one, by the values."""
        mine = (self.protection.value, self.usefulness.value)
        theirs = (other.protection.value, other.usefulness.value)
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))

    def clearly_beats(self, other: Point) -> bool:
        """Beats it, and in at least one of both with intervals apart."""
        return self.beats(other) and (
            self.protection.low > other.protection.high
            or self.usefulness.low > other.usefulness.high
        )


@dataclass(frozen=True)
class Front:
    """All points of one pair of axes, and the methods that have none, with the reason.

    Attributes:
        axis: what protection is.
        points: in the order of the methods, without the original.
        missing: method and reason.
    """

    axis: str
    points: tuple[Point, ...]
    missing: tuple[tuple[MethodResult, str], ...]

    def beaten_by(self, point: Point) -> list[Point]:
        """Everything that beats it."""
        return [other for other in self.points if other.beats(point)]

    def nearly_best(self, point: Point) -> bool:
        """Beaten, but by nothing whose intervals are apart from its own."""
        better = self.beaten_by(point)
        return bool(better) and not any(other.clearly_beats(point) for other in better)

    @property
    def best(self) -> list[Point]:
        """The points that nothing beats, from the most protecting to the most useful."""
        free = [point for point in self.points if not self.beaten_by(point)]
        return sorted(free, key=lambda point: (-point.protection.value, point.usefulness.value))

    def of(self, name: str) -> Point | None:
        """The point of a method."""
        return next((point for point in self.points if point.method.name == name), None)


def naive_front(methods: Sequence[MethodResult]) -> Front:
    """Protection: the smallest PSR of any recognizer at the loosest FAR (closed set without one).

    The attacker chooses the recognizer, so the one that is fooled least counts; the loosest FAR
    (1e-3 of the usual two) accepts most and is the harder one for the method.
    """
    rates = {e.where["far"] for m in methods for e in m.all("psr") if "far" in e.where}
    if any(entry.figure for method in methods for entry in method.all("psr")):
        far = max((value for value in rates), key=_order, default=None)
        axis = "PSR" if far is None else f"PSR at FAR {far}"
        return _front(methods, "psr", {} if far is None else {"far": far}, axis)
    return _front(methods, "psr_closed_set", {}, "PSR, closed set")


def parrot_front(methods: Sequence[MethodResult]) -> Front:
    """Protection: one minus the largest rank-1 share of a parrot, the decisive attack."""
    return _front(methods, "parrot_rank_1", {}, "not found by the parrot attack")


def _order(value: str) -> float:
    return -1.0 if rate(value) > 1 else rate(value)


def _front(
    methods: Sequence[MethodResult], metric: str, where: Mapping[str, str], axis: str
) -> Front:
    points, missing = [], []
    for method in main_methods(methods):
        if method.name == ORIGINAL:
            continue
        entries = [
            entry
            for entry in method.all(metric)
            if "group" not in entry.where and _about(entry, where)
        ]
        useful = method.find("apr_mean")
        protection = _hardest(entries, metric)
        reason = _reason(protection, entries, metric) or _reason(useful, [useful], "apr_mean")
        if reason or protection is None or useful is None:
            missing.append((method, reason or f"no {metric} in this run"))
            continue
        assert protection.figure is not None
        assert useful.figure is not None
        shown = protection.figure if metric.startswith("psr") else _complement(protection.figure)
        points.append(Point(method, shown, useful.figure, (protection, useful)))
    return Front(axis, tuple(points), tuple(missing))


def _hardest(entries: Sequence[Measured], metric: str) -> Measured | None:
    """The figure that is worst for the method: each attacker takes what serves him best."""
    sign = 1 if metric.startswith("psr") else -1
    figures = [entry for entry in entries if entry.figure is not None]
    return min(figures, key=lambda e: sign * e.figure.value if e.figure else 0.0, default=None)


def _complement(figure: Figure) -> Figure:
    return Figure(1 - figure.value, figure.n, 1 - figure.high, 1 - figure.low, figure.note)


def _reason(chosen: Measured | None, entries: Sequence[Measured | None], metric: str) -> str:
    if chosen is not None and chosen.figure is not None:
        return ""
    reasons = [entry.reason for entry in entries if entry is not None and entry.reason]
    return reasons[0] if reasons else f"no {metric} in this run"


def _about(entry: Measured, where: Mapping[str, str]) -> bool:
    """A figure of just that, or a reason that covers it."""
    if entry.figure is None:
        return all(entry.where.get(key, value) == value for key, value in where.items())
    return where.items() <= entry.where.items()
