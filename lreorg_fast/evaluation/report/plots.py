"""The plots: protection against usefulness, bars per attribute, clusters of features."""

from __future__ import annotations

from collections.abc import Sequence

from lreorg_fast.evaluation.figures import Figure
from lreorg_fast.evaluation.measured import Evaluation, MethodResult
from lreorg_fast.evaluation.report.document import Key, Plot
from lreorg_fast.evaluation.report.front import ORIGINAL, Front, Point, main_methods
from lreorg_fast.evaluation.report.grid import find, quantities
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


def scatter(front: Front, title: str) -> Plot:
    """Methods in the plane of usefulness (right) and protection (up), both with intervals."""
    missing = tuple(f"{method.title}: {reason}" for method, reason in front.missing)
    caption = (
        f"{title}. Right is more useful (APR, %), up is better protected ({front.axis}, %). "
        "Bars are 95% intervals; no method beats those on the line."
    )
    if not front.points:
        return Plot(caption, (), (), missing)
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
    keys = []
    for index, point in enumerate(front.points):
        px, py = _at(point, x, y)
        tag = str(index + 1)
        value = _both(point)
        pieces.append(mark(index, px, py, title=f"{point.method.title}: {value}"))
        tx, ty = free_place(px, py, tag, taken, WIDTH)
        pieces.append(label(tx, ty, tag, kind="tag"))
        keys.append(Key(legend_mark(index), f"{tag}. {point.method.title}", value))
    name = f"{title}: {'; '.join(f'{key.name}: {key.value}' for key in keys)}"
    return Plot(caption, (drawing(height, name, pieces),), tuple(keys), missing)


def attribute_bars(evaluation: Evaluation) -> Plot | None:
    """One drawing per attribute: how many outputs show it as the original does, per method."""
    methods = main_methods(evaluation.methods)
    columns = quantities(methods, ("apr",))
    if not columns:
        return None
    drawings, missing = [], {}
    for column in columns:
        name = column.where.get("attribute", "all attributes")
        bars: list[tuple[MethodResult, str, tuple[float, float, float]]] = []
        for method in methods:
            entry = find(method, column)
            if entry is None or entry.figure is None:
                missing[f"{method.title}: {entry.reason if entry else 'not measured'}"] = None
                continue
            figure = entry.figure
            words = f"{number('apr', figure.value)}% {interval('apr', figure)}, n = {figure.n:,}"
            bars.append((method, words, (figure.value, figure.low, figure.high)))
        if bars:
            drawings.append(_bars(name, bars))
    caption = (
        "Preserved attributes, %, with 95% intervals. The figures stand in the table of "
        "attributes as well."
    )
    return Plot(caption, tuple(drawings), (), tuple(missing))


def cluster_plot(clusters: Clusters) -> Plot:
    """Features of a few people in two dimensions: one colour and shape each."""
    if clusters.points is None:
        return Plot(clusters.caption, (), (), (clusters.reason,))
    x = scale_of([float(v) for v in clusters.points[:, 0]], _LEFT, WIDTH - 12)
    y = scale_of([float(v) for v in clusters.points[:, 1]], 290, _TOP)
    pieces = axes(x, y, "first direction", "second direction", bounded=False)
    names = list(dict.fromkeys(clusters.labels))
    for (px, py), name in zip(clusters.points, clusters.labels, strict=True):
        pieces.append(mark(names.index(name), x(float(px)), y(float(py)), 3.2, title=name))
    counts = [clusters.labels.count(name) for name in names]
    keys = tuple(
        Key(legend_mark(index), name, f"{count:,} features")
        for index, (name, count) in enumerate(zip(names, counts, strict=True))
    )
    name = f"{clusters.caption} {len(names)} groups, {len(clusters.labels)} features."
    return Plot(clusters.caption, (drawing(330, name, pieces),), keys)


def _bars(name: str, bars: Sequence[tuple[MethodResult, str, tuple[float, float, float]]]) -> str:
    left, right = 112.0, WIDTH - 46.0
    x = Scale(0, 100, left, right)
    bottom = _TOP + len(bars) * (_BAR + _GAP)
    pieces = [label(2, 14, name, kind="axis")]
    for value in (0, 25, 50, 75, 100):
        pieces.append(line(x(value), _TOP - 4, x(value), bottom, "grid"))
        pieces.append(label(x(value), bottom + 13, f"{value:g}", "middle"))
    for index, (method, words, (value, low, high)) in enumerate(bars):
        top = _TOP + index * (_BAR + _GAP)
        middle = top + _BAR / 2
        kind = "bar reference" if method.name == ORIGINAL else "bar"
        text = plain(method.title, int((left - 8) / LETTER))
        pieces.append(label(left - 6, middle + 4, text, "end"))
        pieces.append(
            f'<rect class="{kind}" x="{left:g}" y="{top:g}" width="{x(100 * value) - left:.1f}" '
            f'height="{_BAR:g}"/>'
        )
        pieces.append(line(x(100 * low), middle, x(100 * high), middle, "whisker"))
        pieces.append(label(WIDTH - 2, middle + 4, number("apr", value), "end"))
    spoken = "; ".join(f"{method.title} {words}" for method, words, _ in bars)
    return drawing(bottom + 20, f"{name} preserved: {spoken}", pieces)


def _at(point: Point, x: Scale, y: Scale) -> tuple[float, float]:
    return x(100 * point.usefulness.value), y(100 * point.protection.value)


def _ends(figures: Sequence[Figure]) -> list[float]:
    return [100 * limit for figure in figures for limit in (figure.low, figure.high)]


def _both(point: Point) -> str:
    return (
        f"protected {number('psr', point.protection.value)}% "
        f"{interval('psr', point.protection)}, preserved "
        f"{number('apr_mean', point.usefulness.value)}% {interval('apr_mean', point.usefulness)}"
    )
