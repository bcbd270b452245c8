"""Text of others (method names, file names, reasons) made harmless, and numbers made readable."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from lreorg_fast.evaluation.figures import Figure
from lreorg_fast.evaluation.measured import METRICS, Measured

DASH = "–"
_LONGEST = 600
_ROUNDING = 1e-9  # the distance of a set to itself is 1e-14 in double precision
# Joiners that scripts need; all other format characters can reorder or hide text.
_JOINERS = "\u200c\u200d"
# Anywhere: emphasis, code, links, markup, cells, entities, mathematics, mentions, bare addresses.
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&$@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
# At the start of a line: headings, lists, rules.
_MARKDOWN_START = re.compile(r"^(\d*)([#+\-=.)])")


def plain(text: object, longest: int = _LONGEST) -> str:
    """One line without control, direction and lone surrogate characters, at most so long.

    A file name may hold all of them, and some reorder what stands beside them on a page.
    """
    line = " ".join(str(text).split())
    kept = "".join(
        "\ufffd" if unicodedata.category(sign)[0] == "C" and sign not in _JOINERS else sign
        for sign in line
    )
    return kept if len(kept) <= longest else f"{kept[: longest - 1]}…"


def markup(text: object, longest: int = _LONGEST) -> str:
    """:func:`plain` as the content of an HTML or SVG element or of a quoted attribute."""
    return html.escape(plain(text, longest), quote=True)


def markdown(text: object, longest: int = _LONGEST) -> str:
    """:func:`plain` as Markdown that shows every sign as it is, also inside of a table."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", plain(text, longest))
    return _MARKDOWN_START.sub(r"\1\\\2", escaped)


def code_span(text: object) -> str:
    """:func:`plain` as Markdown code, whatever backticks and pipes it holds."""
    line = plain(text, 4 * _LONGEST)
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    padding = " " if "`" in line else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def number(metric: str, value: float) -> str:
    """A value as tables show it: shares in percent, everything else with three digits.

    Shares below 1% and above 99% get a second decimal, because their difference from 0 and 1 is
    what matters.
    """
    if METRICS[metric].percent:
        percent = 100 * value
        return f"{percent:.2f}" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.1f}"
    if abs(value) < _ROUNDING:
        return "0"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def interval(metric: str, figure: Figure) -> str:
    """The limits of the interval."""
    return f"[{number(metric, figure.low)}, {number(metric, figure.high)}]"


def sentence(entry: Measured) -> str:
    """A figure inside of a sentence: value, unit, interval and n."""
    assert entry.figure is not None
    unit = "%" if METRICS[entry.metric].percent else ""
    value = number(entry.metric, entry.figure.value)
    return f"{value}{unit} {interval(entry.metric, entry.figure)}, n = {entry.figure.n:,}"


def clause(text: str | None) -> str:
    """A sentence of others inside of one of ours."""
    return (text or "no reason was given").strip().rstrip(".")


def rate(text: str) -> float:
    """A false accept rate as a number for sorting; infinity where it is no number."""
    try:
        value = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(value) else value


def place(where: Mapping[str, str]) -> str:
    """What a figure is about, in words."""
    said = [value for key, value in sorted(where.items()) if key != "far"]
    return ", ".join([*said, f"FAR {where['far']}"] if "far" in where else said)


def heading(metric: str) -> str:
    """A metric's title with the arrow that says which way is better."""
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[METRICS[metric].better]
    unit = ", %" if METRICS[metric].percent else ""
    return f"{METRICS[metric].title}{unit}{arrow}"


def words(value: Any) -> str:
    """A value of the evaluation's free fields (text, number, list, table) on one line."""
    if isinstance(value, Mapping):
        if set(value) == {"name", "description"}:
            return f"{value['name']}: {words(value['description'])}"
        return "; ".join(f"{key}: {words(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(words(entry) for entry in value)
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return f"{value:,}"
