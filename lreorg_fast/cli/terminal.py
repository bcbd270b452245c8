"""How the command speaks: results to stdout, progress and errors to stderr, exit codes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

EXIT_FAILURES = 1
EXIT_SETTINGS = 2
EXIT_UNEXPECTED = 3
EXIT_INTERRUPTED = 130

_NUMBER = re.compile(r"(-?\d+(\.\d+)?(e-?\d+)?|inf)?")  # or nothing
_CELL_WIDTH = 10_000  # where stdout is a file or a pipe, nothing is cut or folded


def shown(text: object) -> str:
    """``text`` for a terminal: a file name may hold escape sequences or no valid text at all."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def say(message: str) -> None:
    """One line of progress."""
    click.echo(shown(message), err=True)


def fail(message: str) -> None:
    """One sentence about what went wrong."""
    click.echo(f"lreorg: {shown(message)}", err=True)


def print_line(text: str) -> None:
    """One line of results."""
    click.echo(shown(text))


def print_json(value: Any, err: bool = False) -> None:
    """The whole result for a program; to stderr where stdout carries frames."""
    click.echo(json.dumps(value, indent=1, allow_nan=False), err=err)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table of results; columns whose cells are numbers are aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    cells = [[shown(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False)
    for index, header in enumerate(headers):
        numeric = all(_is_number(row[index]) for row in cells)
        table.add_column(
            header, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    for row in cells:
        # Text, because brackets in a file name would be read as markup.
        table.add_row(*map(Text, row))
    _console(stderr=False).print(table)


@contextlib.contextmanager
def progress_bar(
    what: str, visible: bool, of_bytes: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left on stderr, driven by (done, total): things, or bytes."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f}/s")

    console = _console(stderr=True)
    counted = (
        (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(), Rate())
    )
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *counted,
        TimeRemainingColumn(),
        console=console,
        disable=not (visible and console.is_terminal),
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _console(stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _CELL_WIDTH
    return console


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None
