"""A report before it is HTML or Markdown: plain text in headings, paragraphs, tables and plots.

No string in here is markup. The writers escape all of them, whoever they come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table.

    Attributes:
        text: the value, or a dash.
        detail: its interval and n; empty for a plain text.
        notes: numbers of the table's footnotes.
        lines: it is a sentence that may wrap, and no number.
    """

    text: str
    detail: str = ""
    notes: tuple[int, ...] = ()
    lines: bool = False


@dataclass(frozen=True)
class Row:
    """One line; ``copied`` if its numbers are the paper's and nothing was measured for it."""

    header: str
    cells: tuple[Cell, ...]
    copied: bool = False


@dataclass(frozen=True)
class Column:
    """Title below the title of a group of neighbours; either may be empty."""

    title: str
    group: str = ""
    copied: bool = False


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        caption: what it shows.
        corner: what the rows are.
        columns, rows: as many cells in each row as there are columns.
        footnotes: numbered from 1.
        command: that makes it again; empty where it is no measurement.
    """

    caption: str
    corner: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Key:
    """One entry of a plot's legend: the drawn mark (SVG made here), a name and its numbers."""

    mark: str
    name: str
    value: str = ""


@dataclass(frozen=True)
class Plot:
    """One or more drawings of one subject.

    Attributes:
        caption: what they show and how they are read.
        drawings: SVG elements; the plots' own writers have escaped every text in them.
        keys: legend.
        footnotes: what is missing, and why.
    """

    caption: str
    drawings: tuple[str, ...]
    keys: tuple[Key, ...] = ()
    footnotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strip:
    """A row of faces as one picture: data URI, pixel size, and what it shows in words."""

    label: str
    source: str
    width: int
    height: int
    alternative: str


@dataclass(frozen=True)
class Sheet:
    """Strips below each other, one person per column."""

    caption: str
    strips: tuple[Strip, ...]


Block = Table | Plot | Sheet


@dataclass(frozen=True)
class Bullets:
    """Sentences below a title of their own, which may be empty."""

    title: str
    points: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Part of a report with an address (``anchor``) of its own; ``lists`` are titled bullets."""

    anchor: str
    title: str
    paragraphs: tuple[str, ...] = ()
    lists: tuple[Bullets, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...] = field(default=())
