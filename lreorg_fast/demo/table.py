"""``python -m lreorg_fast.demo.table [BUNDLE]``: the figures inside a bundle as Markdown.

The README's table is this output; a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lreorg_fast.weights import open_bundle


def markdown_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Figures by name (value, low, high, n) as a Markdown table, one row each."""
    return "\n".join(_rows(figures))


def _rows(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| figure | value | 95% interval | n |"
    yield "|---|---:|---|---:|"
    for name, figure in figures.items():
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
        yield f"| {name} | {figure['value']:.3f} | {interval} | {figure['n']} |"


if __name__ == "__main__":
    print(markdown_table(open_bundle(*(sys.argv[1:2] or ["demo"])).manifest.figures))
