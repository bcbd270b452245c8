"""``python -m lreorg_fast.demo.table [--headline] [BUNDLE]``: a bundle's figures as Markdown.

The README shows the headline, docs/demo_figures.md all of them; tests compare them with this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lreorg_fast.weights import open_bundle

HEADLINE = (
    "original: recognised (random)",
    "reconstruction: same person",
    "default: filled",
    "default: PSR (random)",
    "default: PSR (hard)",
    "default: similarity to the person",
    "default: similarity to strangers",
    "default: person ranked first",
    "default: person ranked last",
    "default: gender preserved",
    "default: age preserved",
    "default: expression preserved",
    "default: makeup preserved",
    "default: mean preserved",
    "k-anonymity: mean preserved",
    "laplace: mean preserved",
    "not recovered: mean preserved",
    "reversed with the key: recognised",
)


def headline_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """:func:`markdown_table` of the figures that a newcomer asks for first."""
    return markdown_table({name: figures[name] for name in HEADLINE})


def markdown_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Figures by name (value, low, high, n) as a Markdown table, one row each."""
    return "\n".join(_rows(figures))


def _rows(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| figure | value | 95% interval | n |"
    yield "|---|---:|---|---:|"
    for name, figure in figures.items():
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
        yield f"| {name} | {figure['value']:.3f} | {interval} | {figure['n']} |"


def _main(arguments: list[str]) -> None:
    table = headline_table if "--headline" in arguments else markdown_table
    bundles = [argument for argument in arguments if argument != "--headline"]
    print(table(open_bundle(*bundles or ["demo"]).manifest.figures))


if __name__ == "__main__":
    _main(sys.argv[1:])
