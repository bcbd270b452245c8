"""The report as one HTML page that loads nothing: style, plots and pictures are inside of it.

A Content-Security-Policy forbids scripts, and every address but the inline pictures. Even so
nothing relies on it: all texts are escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import singledispatch
from importlib.resources import files
from itertools import groupby

from lreorg_fast.evaluation.report.document import (
    Cell,
    Column,
    Document,
    Plot,
    Row,
    Section,
    Sheet,
    Table,
)
from lreorg_fast.evaluation.report.text import markup


def html_page(document: Document) -> str:
    """The whole page."""
    style = files("lreorg_fast").joinpath("data/report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    links = "".join(
        f'<li><a href="#{markup(section.anchor)}">{markup(section.title)}</a></li>'
        for section in document.sections
    )
    body = "".join(_section(section) for section in document.sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="color-scheme" content="light dark">'
        # Without it a browser asks the server for /favicon.ico.
        '<link rel="icon" href="data:,">'
        f"<title>{markup(document.title)}: {markup(document.subtitle)}</title>"
        f"<style>{style}</style></head>\n<body><header><h1>{markup(document.title)}</h1>"
        f"<p>{markup(document.subtitle)}</p></header>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>{body}</main>\n'
        "</body></html>\n"
    )


def _section(section: Section) -> str:
    anchor = markup(section.anchor)
    paragraphs = "".join(f"<p>{markup(text, 4000)}</p>" for text in section.paragraphs)
    points = "".join(f"<li>{markup(text, 4000)}</li>" for text in section.points)
    listed = f"<ul>{points}</ul>" if points else ""
    blocks = "".join(_block(block) for block in section.blocks)
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{markup(section.title)}</h2>'
        f"{paragraphs}{listed}{blocks}</section>\n"
    )


@singledispatch
def _block(block: object) -> str:
    raise TypeError(f"no block of a report: {type(block).__name__}")


@_block.register
def _table(table: Table) -> str:
    # The box scrolls, not the page; it can be reached and scrolled by the keyboard.
    return (
        f'<figure class="table"><div class="box" role="region" tabindex="0" '
        f'aria-label="{markup(table.caption)}"><table><caption>{markup(table.caption)}</caption>'
        f"<thead>{''.join(_heads(table))}</thead>"
        f"<tbody>{''.join(_row(row, table.columns) for row in table.rows)}</tbody></table></div>"
        f"{_footnotes(table.footnotes)}{_command(table.command)}</figure>\n"
    )


@_block.register
def _plot(plot: Plot) -> str:
    drawings = "".join(f'<div class="drawing">{drawing}</div>' for drawing in plot.drawings)
    keys = "".join(
        f"<li>{key.mark}<span><b><bdi>{markup(key.name)}</bdi></b> {markup(key.value)}</span></li>"
        for key in plot.keys
    )
    legend = f'<ul class="keys">{keys}</ul>' if keys else ""
    return (
        f'<figure class="plots"><figcaption>{markup(plot.caption, 2000)}</figcaption>'
        f'<div class="drawings">{drawings}</div>{legend}'
        f"{_unnumbered(plot.footnotes)}</figure>\n"
    )


@_block.register
def _sheet(sheet: Sheet) -> str:
    rows = "".join(
        f'<tr><th scope="row"><bdi>{markup(strip.label)}</bdi></th><td>'
        f'<img src="{markup(strip.source, len(strip.source) + 1)}" width="{strip.width}" '
        f'height="{strip.height}" alt="{markup(strip.alternative)}"></td></tr>'
        for strip in sheet.strips
    )
    return (
        f'<figure class="sheet"><div class="box" role="region" tabindex="0" '
        f'aria-label="Contact sheet"><table><caption>{markup(sheet.caption)}</caption>'
        f"<tbody>{rows}</tbody></table></div></figure>\n"
    )


def _heads(table: Table) -> Iterator[str]:
    """One row of titles, or two if neighbours share a group."""
    corner = markup(table.corner)
    if not any(column.group for column in table.columns):
        titles = "".join(
            f'<th scope="col"{_copied(column)}><bdi>{markup(column.title)}</bdi></th>'
            for column in table.columns
        )
        yield f'<tr><th scope="col">{corner}</th>{titles}</tr>'
        return
    cells = [f'<th scope="col" rowspan="2">{corner}</th>']
    below = []
    for (group, _), neighbours in groupby(table.columns, lambda c: (c.group, c.copied)):
        columns = list(neighbours)
        titles = [f"<bdi>{markup(column.title)}</bdi>" for column in columns]
        kind = _copied(columns[0])
        if group:
            cells.append(
                f'<th scope="colgroup" colspan="{len(columns)}"{kind}>{markup(group)}</th>'
            )
            below += [f'<th scope="col"{kind}>{title}</th>' for title in titles]
        else:
            cells += [f'<th scope="col" rowspan="2"{kind}>{title}</th>' for title in titles]
    yield f"<tr>{''.join(cells)}</tr>"
    yield f"<tr>{''.join(below)}</tr>"


def _row(row: Row, columns: Sequence[Column]) -> str:
    kind = ' class="copied"' if row.copied else ""
    header = f'<th scope="row"><bdi>{markup(row.header)}</bdi></th>'
    cells = "".join(_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True))
    return f"<tr{kind}>{header}{cells}</tr>"


def _cell(cell: Cell, column: Column) -> str:
    kinds = " ".join(kind for kind, on in (("copied", column.copied), ("words", cell.lines)) if on)
    marks = "".join(f"<sup>{note}</sup>" for note in cell.notes)
    detail = f"<small>{markup(cell.detail)}</small>" if cell.detail else ""
    text = markup(cell.text, 4000)
    body = f"<bdi>{text}</bdi>" if cell.lines else f"<span>{text}</span>"
    return f"<td{f' class={chr(34)}{kinds}{chr(34)}' if kinds else ''}>{body}{marks}{detail}</td>"


def _copied(column: Column) -> str:
    return ' class="copied"' if column.copied else ""


def _footnotes(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return f'<ol class="notes">{"".join(f"<li>{markup(text)}</li>" for text in texts)}</ol>'


def _unnumbered(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    lines = "".join(f"<li>{markup(text)}</li>" for text in texts)
    return f'<p class="notes">Not drawn:</p><ul class="notes">{lines}</ul>'


def _command(command: str) -> str:
    return f'<p class="made">Made by <code>{markup(command, 2000)}</code></p>' if command else ""
