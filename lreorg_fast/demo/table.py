"""``python -m lreorg_fast.demo.table``: the figures that a bundle was made with, as Markdown.

The README shows the headline, docs/demo_figures.md all of them; tests compare them with this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from lreorg_fast.demo.judge import FIRST
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


def recognizers_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The recognizers that only judge side by side, then how far they agree, as Markdown.

    Raises:
        ConfigError: there are figures of one recognizer only.
    """
    judged: dict[str, dict[str, Mapping[str, Any]]] = {}
    agreement = {}
    for name, figure in figures.items():
        judge, _, rest = name.partition(": ")
        if judge.startswith(f"{FIRST}-") and " and " in judge:
            agreement[name] = figure
        elif judge.startswith(FIRST):
            judged.setdefault(judge, {})[rest] = figure
    first = {**figures, **judged.pop(FIRST, {})}  # most of its figures stand without its name
    if not judged:
        raise ConfigError("the bundle has figures of one recognizer only; show all it has instead")
    shown = dict.fromkeys(name for own in judged.values() for name in own)
    columns = {FIRST: first, **judged}
    lines = [
        f"| figure | {' | '.join(f'`{judge}`' for judge in columns)} | n |",
        f"|---|{'---|' * len(columns)}---:|",
    ]
    for name in shown:
        cells = [_cell(own[name]) if name in own else "" for own in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {first[name]['n']} |")
    return "\n".join([*lines, "", markdown_table(agreement)])


def _cell(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


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
@click.option("--recognizers", is_flag=True, help="Only how the recognizers that judge compare.")
def main(bundle: str, headline: bool, recognizers: bool) -> None:
    if headline and recognizers:
        raise click.UsageError("--headline and --recognizers are two tables; ask for one")
    table = recognizers_table if recognizers else headline_table if headline else markdown_table
    try:
        click.echo(table(open_bundle(bundle).manifest.figures))
    except LReorgError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
