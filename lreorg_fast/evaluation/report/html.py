"""The report as one HTML page that loads nothing: style, plots and pictures are inside of it.

A Content-Security-Policy forbids scripts, and every address but the inline pictures. Even so
nothing relies on it: all texts are escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import singledispatch
from importlib.resources import files
from itertools import groupby

from lreorg_fast.evaluation.report.document import (
    Bullets,
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
    lists = "".join(_bullets(bullets) for bullets in section.lists)
    blocks = "".join(_block(block) for block in section.blocks)
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{markup(section.title)}</h2>'
        f"{paragraphs}{lists}{blocks}</section>\n"
    )


def _bullets(bullets: Bullets) -> str:
    title = f"<h3>{markup(bullets.title)}</h3>" if bullets.title else ""
    points = "".join(f"<li>{markup(text, 4000)}</li>" for text in bullets.points)
    return f"{title}<ul>{points}</ul>"


@singledispatch
def _block(block: object) -> str:
    raise TypeError(f"no block of a report: {type(block).__name__}")


@_block.register
def _table(table: Table) -> str:
    # The box scrolls, not the page; it can be reached and scrolled by the keyboard.
    return (
        f'<figure class="table"><div class="box" role="region" tabindex="0" '
        f'aria-label="{markup(table.caption)}"><table><caption>{markup(table.caption)}</caption>'
        f"<thead>{_heads(table)}</thead>"
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


def _heads(table: Table) -> str:
    """One row of titles, or two if neighbours share a group."""
    deep = any(column.group for column in table.columns)
    span = ' rowspan="2"' if deep else ""
    above, below = [f'<th scope="col"{span}>{markup(table.corner)}</th>'], []
    columns = [
        (column, _kind(copied=column.copied, words=words))
        for column, words in zip(table.columns, _wordy(table), strict=True)
    ]
    for (group, copied), neighbours in groupby(columns, lambda c: (c[0].group, c[0].copied)):
        titles = [(kind, f"<bdi>{markup(column.title)}</bdi></th>") for column, kind in neighbours]
        if group:
            above.append(
                f'<th scope="colgroup" colspan="{len(titles)}"{_kind(copied=copied)}>'
                f"{markup(group)}</th>"
            )
            below += [f'<th scope="col"{kind}>{title}' for kind, title in titles]
        else:
            above += [f'<th scope="col"{span}{kind}>{title}' for kind, title in titles]
    rows = [above, below] if deep else [above]
    return "".join(f"<tr>{''.join(row)}</tr>" for row in rows)


def _wordy(table: Table) -> list[bool]:
    """Which columns hold sentences and no numbers."""
    return [any(row.cells[i].lines for row in table.rows) for i in range(len(table.columns))]


def _row(row: Row, columns: Sequence[Column]) -> str:
    header = f'<th scope="row"><bdi>{markup(row.header)}</bdi></th>'
    cells = "".join(_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True))
    return f"<tr{_kind(copied=row.copied)}>{header}{cells}</tr>"


def _cell(cell: Cell, column: Column) -> str:
    marks = "".join(f"<sup>{note}</sup>" for note in cell.notes)
    detail = f"<small>{markup(cell.detail)}</small>" if cell.detail else ""
    text = markup(cell.text, 4000)
    body = f"<bdi>{text}</bdi>" if cell.lines else f"<span>{text}</span>"
    return f"<td{_kind(copied=column.copied, words=cell.lines)}>{body}{marks}{detail}</td>"


def _kind(**classes: bool) -> str:
    names = " ".join(name for name, on in classes.items() if on)
    return f' class="{names}"' if names else ""


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
