"""``python -m lreorg_fast.demo.table``: the figures that a bundle was made with, as Markdown.

The README shows the headline, docs/demo_figures.md all of them; tests compare them with this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from lreorg_fast.errors import ConfigError, LReorgError
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
    missing = [name for name in HEADLINE if name not in figures]
    if missing:
        raise ConfigError(f"the bundle has no figure '{missing[0]}'; show all it has instead")
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


@click.command(help=__doc__)
@click.argument("bundle", default="demo")
@click.option("--headline", is_flag=True, help="Only what a newcomer asks for first.")
def main(bundle: str, headline: bool) -> None:
    try:
        figures = open_bundle(bundle).manifest.figures
        click.echo(headline_table(figures) if headline else markdown_table(figures))
    except LReorgError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
