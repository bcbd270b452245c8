"""The frontier as a picture: protection and similarity against what is preserved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lreorg_fast.demo.ablation_tables import all_figures, method_rows
from lreorg_fast.media.pictures import Picture

_USEFULNESS = "mean preserved"
_PRIVACY = ("PSR (random)", "PSR (hard)", "similarity to the person")
_PANEL, _MARGIN, _LEGEND, _FONT_SIZE, _TICKS = 380, 60, 300, 14, 4
# Tableau 10: colours that are told apart, also by most of those who see fewer.
_COLOURS = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#b07aa1", "#9c755f", "#000000")
_SHAPES = ("disc", "square")
Limits = tuple[float, float]


@dataclass(frozen=True)
class _Point:
    number: int
    x: Mapping[str, float]
    y: Mapping[str, float]


def frontier_picture(results: Mapping[str, Any]) -> Picture:
    """One panel per privacy figure against mean preserved, with the 95% intervals as crosses.

    Args:
        results: of :class:`lreorg_fast.demo.ablations.Ablations`.
    """
    variants = {name: all_figures(record) for name, record in results["variants"].items()}
    rows = method_rows(variants)
    size = len(_PRIVACY) * (_PANEL + _MARGIN) + _MARGIN + _LEGEND, _PANEL + 2 * _MARGIN
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT_SIZE)
    for index, what in enumerate(_PRIVACY):
        points = [
            _Point(number, figures[f"{label}: {_USEFULNESS}"], figures[f"{label}: {what}"])
            for number, (_, figures, label) in enumerate(rows)
            if f"{label}: {what}" in figures
        ]
        left = _MARGIN + index * (_PANEL + _MARGIN)
        _Panel(draw, font, left, _MARGIN).draw(what, points)
    left = size[0] - _LEGEND + 20
    for number, (name, _, _) in enumerate(rows):
        top = _MARGIN + number * 24
        _marker(draw, number, left, top)
        draw.text((left + 16, top), name, fill="black", font=font, anchor="lm")
    return np.asarray(image)


class _Panel:
    def __init__(self, draw: Any, font: Any, left: int, top: int) -> None:
        self._draw, self._font = draw, font
        self._left, self._top = left, top

    def draw(self, what: str, points: Sequence[_Point]) -> None:
        """Frame, ticks, title, crosses, and the markers above them."""
        left, top = self._left, self._top
        frame = (left, top, left + _PANEL, top + _PANEL)
        self._draw.rectangle(frame, outline="#999999")
        self._text(left, top - 10, f"{what} against {_USEFULNESS}", "ls")
        if not points:
            return
        across = _limits([point.x for point in points])
        up = _limits([point.y for point in points])
        for fraction in (i / _TICKS for i in range(_TICKS + 1)):
            x, y = left + fraction * _PANEL, top + (1 - fraction) * _PANEL
            self._draw.line((x, top + _PANEL, x, top + _PANEL + 4), fill="#999999")
            self._draw.line((left - 4, y, left, y), fill="#999999")
            self._text(x, top + _PANEL + 6, f"{_between(across, fraction):.3g}", "mt")
            self._text(left - 6, y, f"{_between(up, fraction):.3g}", "rm")
        for point in points:
            x, y = self._x(point.x["value"], across), self._y(point.y["value"], up)
            colour = _COLOURS[point.number % len(_COLOURS)]
            low, high = self._x(point.x["low"], across), self._x(point.x["high"], across)
            self._draw.line((low, y, high, y), fill=colour)
            low, high = self._y(point.y["low"], up), self._y(point.y["high"], up)
            self._draw.line((x, low, x, high), fill=colour)
            _marker(self._draw, point.number, x, y)

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        self._draw.text((x, y), text, fill="black", font=self._font, anchor=anchor)

    def _x(self, value: float, limits: Limits) -> float:
        return self._left + _share(value, limits) * _PANEL

    def _y(self, value: float, limits: Limits) -> float:
        return self._top + (1 - _share(value, limits)) * _PANEL


def _marker(draw: Any, number: int, x: float, y: float) -> None:
    """Colours repeat with another shape, so that every row has a mark of its own."""
    box = (x - 5, y - 5, x + 5, y + 5)
    colour = _COLOURS[number % len(_COLOURS)]
    shape = _SHAPES[number // len(_COLOURS) % len(_SHAPES)]
    (draw.ellipse if shape == "disc" else draw.rectangle)(box, fill=colour, outline="white")


def _ends(figures: Sequence[Mapping[str, float]]) -> Iterator[float]:
    for figure in figures:
        yield figure["low"]
        yield figure["high"]


def _limits(figures: Sequence[Mapping[str, float]]) -> Limits:
    """All intervals and a little room; never a width of zero."""
    low, high = min(_ends(figures)), max(_ends(figures))
    room = max(0.05 * (high - low), 1e-3)
    return low - room, high + room


def _share(value: float, limits: Limits) -> float:
    return (value - limits[0]) / (limits[1] - limits[0])


def _between(limits: Limits, fraction: float) -> float:
    return limits[0] + fraction * (limits[1] - limits[0])
