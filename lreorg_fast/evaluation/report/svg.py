"""Small pieces of SVG. Colours are classes of the page's style sheet, so that plots follow it.

A drawing is 340 units wide and a phone of 360 pixels shows it at that size, so its letters of 11
units are as readable there as they are here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lreorg_fast.evaluation.report.text import markup

WIDTH = 340
LETTER = 6.2  # mean width of a letter at 11 units, for placing texts
COLOURS = 8  # classes c0 to c7 of report.css

_SHAPES: Sequence[Sequence[tuple[float, float]]] = (
    (),  # a circle
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.1, 0.85), (-1.1, 0.85)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, 1.2), (1.1, -0.85), (-1.1, -0.85)),
    ((-1.2, 0), (-0.6, -1.05), (0.6, -1.05), (1.2, 0), (0.6, 1.05), (-0.6, 1.05)),
    ((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4), (0.4, 1.2),
     (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    ((0, -1.35), (0.35, -0.4), (1.3, -0.4), (0.55, 0.2), (0.8, 1.15), (0, 0.6), (-0.8, 1.15),
     (-0.55, 0.2), (-1.3, -0.4), (-0.35, -0.4)),
)  # fmt: skip


def mark(index: int, x: float, y: float, size: float = 5, title: str = "") -> str:
    """The mark of the ``index``-th series: colour and shape both differ, for any eyes."""
    kind = f'class="mark c{index % COLOURS}"'
    shape = _SHAPES[(index + index // COLOURS) % len(_SHAPES)]
    inside = f"<title>{markup(title)}</title>" if title else ""
    if not shape:
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="{size:g}">{inside}</circle>'
    points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in shape)
    return f'<polygon {kind} points="{points}">{inside}</polygon>'


def legend_mark(index: int) -> str:
    """The same as a drawing of its own."""
    return f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{mark(index, 8, 8)}</svg>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a class of the style sheet."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def label(x: float, y: float, text: str, anchor: str = "start", kind: str = "label") -> str:
    """A text; ``anchor`` is start, middle or end."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{markup(text)}</text>'
    )


def drawing(height: float, title: str, pieces: Iterable[str]) -> str:
    """A whole drawing with its name for those who do not see it."""
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{markup(title)}">{"".join(pieces)}</svg>'
    )


@dataclass(frozen=True)
class Scale:
    """Values onto units: ``low`` of the data at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values, 3 to 7 of them."""
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def scale_of(
    values: Sequence[float], start: float, end: float, bounds: tuple[float, float] | None = None
) -> Scale:
    """A scale with some room around the values, within ``bounds`` if there are any."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    if bounds is not None:
        # A little beyond, so that a mark at 100% is not cut.
        margin = 0.02 * (bounds[1] - bounds[0]) if high - low > 20 else 0.04 * (high - low)
        low, high = max(low, bounds[0] - margin), min(high, bounds[1] + margin)
    return Scale(low, high, start, end)


def axes(x: Scale, y: Scale, x_title: str, y_title: str, bounded: bool) -> list[str]:
    """Grid, numbers and titles. ``bounded``: ticks outside of 0 to 100 are not drawn."""
    left, right, bottom, top = x.start, x.end, y.start, y.end
    pieces = []
    for value in _within(x.ticks(), bounded):
        pieces.append(line(x(value), top, x(value), bottom, "grid"))
        pieces.append(label(x(value), bottom + 14, f"{value:g}", "middle"))
    for value in _within(y.ticks(), bounded):
        pieces.append(line(left, y(value), right, y(value), "grid"))
        pieces.append(label(left - 5, y(value) + 4, f"{value:g}", "end"))
    if x_title:
        pieces.append(label((left + right) / 2, bottom + 30, x_title, "middle", "axis"))
    pieces.append(label(2, top - 8, y_title, "start", "axis"))
    return pieces


def staircase(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Horizontal and vertical steps through points that are sorted by x."""
    parts = []
    for (x1, y1), (x2, y2) in pairwise(points):
        parts += [line(x1, y1, x1, y2, kind), line(x1, y2, x2, y2, kind)]
    return "".join(parts)


def free_place(
    x: float, y: float, text: str, taken: list[tuple[float, float, float, float]], right: float
) -> tuple[float, float]:
    """Where a text beside a mark covers the least of what is there; it is added to ``taken``."""
    width, height = LETTER * len(text), 11.0
    candidates = [
        (x + dx * (9 + ring) - (width if dx < 0 else 0 if dx > 0 else width / 2),
         y + dy * (11 + ring) + 4)
        for ring in (0, 8, 18, 30)
        for dx, dy in ((1, -0.7), (-1, -0.7), (1, 0.7), (-1, 0.7), (1, 0), (-1, 0), (0, -1), (0, 1))
    ]  # fmt: skip

    def cost(place: tuple[float, float]) -> float:
        box = (place[0], place[1] - height, place[0] + width, place[1])
        outside = max(0.0, -box[0]) + max(0.0, box[2] - right) + max(0.0, -box[1])
        return 100 * outside + sum(_overlap(box, other) for other in taken)

    best = min(candidates, key=cost)
    taken.append((best[0], best[1] - height, best[0] + width, best[1]))
    return best


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high)


def _within(values: Iterable[float], bounded: bool) -> list[float]:
    return [round(v, 9) + 0.0 for v in values if not bounded or -1e-9 <= v <= 100 + 1e-9]


def _round_step(about: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about * 0.999)
