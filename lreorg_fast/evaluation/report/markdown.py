"""The report as Markdown: the same words and tables; plots and pictures are in the page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from lreorg_fast.evaluation.report.document import (
    Cell,
    Column,
    Document,
    Plot,
    Section,
    Sheet,
    Table,
)
from lreorg_fast.evaluation.report.text import code_span, markdown

_LONG = 4000


def markdown_text(document: Document) -> str:
    """The whole text."""
    lines = [f"# {markdown(document.title)}", "", markdown(document.subtitle), ""]
    for section in document.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {markdown(section.title)}", "")
    for text in section.paragraphs:
        yield from (markdown(text, _LONG), "")
    for bullets in section.lists:
        if bullets.title:
            yield from (f"### {markdown(bullets.title)}", "")
        yield from (f"- {markdown(text, _LONG)}" for text in bullets.points)
        yield ""
    for block in section.blocks:
        yield from _block(block)


@singledispatch
def _block(block: object) -> Iterator[str]:
    raise TypeError(f"no block of a report: {type(block).__name__}")


@_block.register
def _table(table: Table) -> Iterator[str]:
    yield from (f"**{markdown(table.caption)}**", "")
    titles = [markdown(table.corner), *(_title(column) for column in table.columns)]
    yield f"| {' | '.join(titles)} |"
    yield f"|---|{'---|' * len(table.columns)}"
    for row in table.rows:
        header = markdown(row.header) + (" (the paper's)" if row.copied else "")
        yield f"| {' | '.join([header, *(_cell(cell) for cell in row.cells)])} |"
    yield ""
    for number, note in enumerate(table.footnotes, 1):
        yield f"{number}. {markdown(note)}"
    if table.footnotes:
        yield ""
    if table.command:
        yield from (f"Made by {code_span(table.command)}", "")


@_block.register
def _plot(plot: Plot) -> Iterator[str]:
    yield from (f"*{markdown(plot.caption, _LONG)} The drawing is in report.html.*", "")
    for note in plot.footnotes:
        yield f"- Not drawn: {markdown(note)}"
    if plot.footnotes:
        yield ""


@_block.register
def _sheet(sheet: Sheet) -> Iterator[str]:
    yield from (f"*{markdown(sheet.caption)} The pictures are in report.html:*", "")
    yield from (f"- {markdown(strip.alternative)}" for strip in sheet.strips)
    yield ""


def _title(column: Column) -> str:
    return markdown(": ".join(text for text in (column.group, column.title) if text))


def _cell(cell: Cell) -> str:
    marks = f"<sup>{', '.join(str(note) for note in cell.notes)}</sup>" if cell.notes else ""
    return f"{markdown(cell.text, _LONG)}{marks} {markdown(cell.detail)}".strip()
