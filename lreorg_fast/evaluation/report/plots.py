"""The plots: protection against usefulness, bars per attribute, clusters of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from lreorg_fast.evaluation.figures import Figure
from lreorg_fast.evaluation.measured import Evaluation, MethodResult
from lreorg_fast.evaluation.report.document import Key, Plot
from lreorg_fast.evaluation.report.front import ORIGINAL, Front, Point, main_methods
from lreorg_fast.evaluation.report.grid import NOT_ASKED, find, quantities
from lreorg_fast.evaluation.report.projection import Clusters
from lreorg_fast.evaluation.report.svg import (
    LETTER,
    WIDTH,
    Scale,
    axes,
    drawing,
    free_place,
    label,
    legend_mark,
    line,
    mark,
    scale_of,
    staircase,
)
from lreorg_fast.evaluation.report.text import interval, number, plain

_LEFT, _TOP = 40.0, 28.0
_BAR, _GAP = 13.0, 5.0


def scatter(fronts: Sequence[Front], methods: Sequence[MethodResult]) -> Plot:
    """Methods in the plane of usefulness (right) and protection (up), both with intervals.

    One drawing for each front; a method has the same mark and number in all of them.
    """
    numbers = {method.name: index for index, method in enumerate(_compared(methods))}
    drawn = [front for front in fronts if front.points]
    keys = tuple(
        Key(
            legend_mark(numbers[method.name]),
            f"{numbers[method.name] + 1}. {method.title}",
            _values(method.name, drawn),
        )
        for method in _compared(methods)
        if any(front.of(method.name) for front in drawn)
    )
    missing = dict.fromkeys(
        f"{method.title} ({front.axis}): {reason}"
        for front in fronts
        for method, reason in front.missing
    )
    caption = (
        "Right is more useful (APR, %), up is better protected (%). Bars are 95% intervals; no "
        "method has better values than those on the dashed line."
    )
    drawings = tuple(_scatter(front, numbers) for front in drawn)
    return Plot(caption, drawings, keys, tuple(missing))


def _compared(methods: Sequence[MethodResult]) -> list[MethodResult]:
    return [method for method in main_methods(methods) if method.name != ORIGINAL]


def _scatter(front: Front, numbers: Mapping[str, int]) -> str:
    bottom, height = 290.0, 330.0
    x = scale_of(_ends([p.usefulness for p in front.points]), _LEFT, WIDTH - 12, (0, 100))
    y = scale_of(_ends([p.protection for p in front.points]), bottom, _TOP, (0, 100))
    pieces = axes(x, y, "preserved attributes (APR), %", f"{front.axis}, %", bounded=True)
    pieces.append(staircase([_at(point, x, y) for point in front.best], "front"))
    taken = [(px - 6, py - 6, px + 6, py + 6) for px, py in (_at(p, x, y) for p in front.points)]
    for point in front.points:
        px, py = _at(point, x, y)
        low, high = point.usefulness.low * 100, point.usefulness.high * 100
        pieces.append(line(x(low), py, x(high), py, "whisker"))
        low, high = point.protection.low * 100, point.protection.high * 100
        pieces.append(line(px, y(low), px, y(high), "whisker"))
    spoken = []
    for point in front.points:
        px, py = _at(point, x, y)
        index = numbers[point.method.name]
        spoken.append(f"{point.method.title}: {_values(point.method.name, [front])}")
        pieces.append(mark(index, px, py, title=spoken[-1]))
        tx, ty = free_place(px, py, str(index + 1), taken, WIDTH)
        pieces.append(label(tx, ty, str(index + 1), kind="tag"))
    return drawing(height, f"Usefulness and protection ({front.axis}). {'. '.join(spoken)}", pieces)


def attribute_bars(evaluation: Evaluation) -> Plot | None:
    """One drawing per attribute: how many outputs show it as the original does, per method."""
    methods = main_methods(evaluation.methods)
    columns = quantities(methods, ("apr",))
    if not columns:
        return None
    drawings: list[str] = []
    missing: dict[str, None] = {}
    for column in columns:
        bars: list[tuple[MethodResult, Figure]] = []
        for method in methods:
            entry = find(method, column)
            if entry is None or entry.figure is None:
                reason = entry.reason if entry is not None else None
                missing[f"{method.title}: {reason or NOT_ASKED}"] = None
            else:
                bars.append((method, entry.figure))
        if bars:
            drawings.append(_bars(column.where.get("attribute", "all attributes"), bars))
    caption = (
        "Preserved attributes, %, with 95% intervals. The figures stand in the table of "
        "attributes as well."
    )
    return Plot(caption, tuple(drawings), (), tuple(missing))


def cluster_plots(given: Sequence[Clusters]) -> list[Plot]:
    """Features of a few people in two dimensions: one colour and shape each.

    Neighbours of the same people are drawn side by side with one legend.
    """
    alike = groupby(given, lambda clusters: (clusters.method, _groups(clusters)))
    return [_cluster_plot(method, groups, list(sets)) for (method, groups), sets in alike]


def _groups(clusters: Clusters) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clusters.labels))


def _cluster_plot(method: str, groups: Sequence[str], sets: Sequence[Clusters]) -> Plot:
    drawings = tuple(
        _clusters(clusters, groups) for clusters in sets if clusters.points is not None
    )
    keys = tuple(Key(legend_mark(index), name) for index, name in enumerate(groups))
    missing = tuple(
        f"{clusters.title}: {clusters.missing}" for clusters in sets if clusters.missing
    )
    caption = f"Drawn by {method}."
    return Plot(caption, drawings, keys if drawings else (), missing)


def _clusters(clusters: Clusters, groups: Sequence[str]) -> str:
    points = np.zeros((0, 2)) if clusters.points is None else clusters.points
    x = scale_of([float(v) for v in points[:, 0]], _LEFT, WIDTH - 12)
    y = scale_of([float(v) for v in points[:, 1]], 290, _TOP)
    pieces = axes(x, y, "", clusters.title, bounded=False)
    for (px, py), name in zip(points, clusters.labels, strict=True):
        pieces.append(mark(groups.index(name), x(float(px)), y(float(py)), 3.2, title=name))
    name = f"{clusters.title}: {len(points)} features of {len(groups)} groups; {clusters.method}"
    return drawing(310, name, pieces)


def _bars(name: str, bars: Sequence[tuple[MethodResult, Figure]]) -> str:
    left, right = 130.0, WIDTH - 46.0
    x = Scale(0, 100, left, right)
    bottom = _TOP + len(bars) * (_BAR + _GAP)
    pieces = [label(2, 14, name, kind="axis")]
    for tick in (0, 25, 50, 75, 100):
        pieces.append(line(x(tick), _TOP - 4, x(tick), bottom, "grid"))
        pieces.append(label(x(tick), bottom + 13, f"{tick}", "middle"))
    for index, (method, figure) in enumerate(bars):
        top = _TOP + index * (_BAR + _GAP)
        middle = top + _BAR / 2
        kind = "bar reference" if method.name == ORIGINAL else "bar"
        text = plain(method.title, int((left - 8) / LETTER))
        pieces.append(label(left - 6, middle + 4, text, "end"))
        pieces.append(
            f'<rect class="{kind}" x="{left:g}" y="{top:g}" '
            f'width="{x(100 * figure.value) - left:.1f}" height="{_BAR:g}"/>'
        )
        pieces.append(line(x(100 * figure.low), middle, x(100 * figure.high), middle, "whisker"))
        pieces.append(label(WIDTH - 2, middle + 4, number("apr", figure.value), "end"))
    spoken = "; ".join(
        f"{method.title} {number('apr', figure.value)}% {interval('apr', figure)}, n = {figure.n:,}"
        for method, figure in bars
    )
    return drawing(bottom + 20, f"{name} preserved: {spoken}", pieces)


def _at(point: Point, x: Scale, y: Scale) -> tuple[float, float]:
    return x(100 * point.usefulness.value), y(100 * point.protection.value)


def _ends(figures: Sequence[Figure]) -> list[float]:
    return [100 * limit for figure in figures for limit in (figure.low, figure.high)]


def _values(name: str, fronts: Sequence[Front]) -> str:
    """Usefulness, and the protection on each front."""
    points = [(front.axis, point) for front in fronts if (point := front.of(name)) is not None]
    useful = points[0][1].usefulness
    words = [f"preserved {number('apr_mean', useful.value)}% {interval('apr_mean', useful)}"]
    words += [
        f"{axis} {number('psr', point.protection.value)}% {interval('psr', point.protection)}"
        for axis, point in points
    ]
    return "; ".join(words)
