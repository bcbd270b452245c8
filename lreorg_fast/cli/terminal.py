"""How the command speaks: results to stdout, progress and errors to stderr, exit codes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

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


class Bar:
    """A running progress bar: call it with (done, total)."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress, self._what = progress, what
        self._task = progress.add_task(what, total=None)

    def __call__(self, done: int, total: int) -> None:
        """So many things, or bytes, are done."""
        self._progress.update(self._task, completed=done, total=total, description=self._what)

    def tell(self, detail: str) -> None:
        """What is being done just now, until the next thing is done."""
        self._progress.update(self._task, description=f"{self._what} ({shown(detail)})")


@contextlib.contextmanager
def progress_bar(what: str, visible: bool, of_bytes: bool = False) -> Iterator[Bar]:
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
        TextColumn("{task.description}", markup=False),  # names of files may have brackets
        BarColumn(),
        *counted,
        TimeRemainingColumn(),
        console=console,
        disable=not (visible and console.is_terminal),
    )
    with bar:
        yield Bar(bar, what)


def _console(stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _CELL_WIDTH
    return console


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None
