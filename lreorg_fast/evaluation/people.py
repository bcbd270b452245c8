"""The table that says who is on which picture: CSV, read without trust."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.protocol import Labels
from lreorg_fast.files import read_bounded

MOST_BYTES = 256 * 2**20
MOST_COLUMNS = 100
MOST_GROUPS = 50  # of one division; more are a column of names or of free text
NAME, PERSON = "name", "person"
_LONGEST_CELL = 4096
# As data sets write them; CelebA has 1 and -1.
_PRESENT = {
    "1": True,
    "true": True,
    "yes": True,
    "0": False,
    "-1": False,
    "false": False,
    "no": False,
}
_UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class PeopleTable:
    """What :func:`read_people` found.

    Attributes:
        index: row by the name of the picture (Unicode NFC, ``/`` between folders).
        people: person of each row.
        attributes: (rows,) by name.
        groups: labels of each row by division.
    """

    index: Mapping[str, int]
    people: Sequence[str]
    attributes: Mapping[str, Labels]
    groups: Mapping[str, Sequence[str]]


def read_people(path: str | os.PathLike[str]) -> PeopleTable:
    """Read a table of people.

    Args:
        path: CSV in UTF-8 with a header: ``name`` (path of a picture below the folder of
            originals), ``person`` (any text), and any more columns. A column that holds nothing
            but 1, 0, -1, true, false, yes and no is a true attribute; every other one divides
            people into at most 50 groups, where an empty cell means unknown.

    Raises:
        ConfigError: unreadable, too large, not such a table, or a picture that is listed twice.
    """
    source = Path(path)
    try:
        content = read_bounded(source, MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read '{source}': {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{source}' is not UTF-8 text; save it as CSV in UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"'{source}' is no table of people: {error}") from error
    if "\0" in content:
        raise ConfigError(f"'{source}' holds NUL bytes and is no CSV; export it as CSV in UTF-8")
    try:
        rows = csv.reader(io.StringIO(content), strict=True)
        header = [cell.strip() for cell in next(rows, [])]
        _check_header(source, header)
        return _table(source, header, list(_cells(source, header, rows)))
    except csv.Error as error:
        raise ConfigError(f"'{source}' is no CSV: {error}") from error


def _check_header(source: Path, header: Sequence[str]) -> None:
    missing = [column for column in (NAME, PERSON) if column not in header]
    if missing:
        raise ConfigError(
            f"'{source}' lacks the column '{missing[0]}' in its first line; it must have "
            f"'{NAME},{PERSON}' and may have columns of attributes and groups"
        )
    if len(header) > MOST_COLUMNS:
        raise ConfigError(f"'{source}' has {len(header)} columns, at most {MOST_COLUMNS} are read")
    twice = [column for column in header if header.count(column) > 1]
    if twice or "" in header:
        which = f"has two columns '{twice[0]}'" if twice and twice[0] else "has an unnamed column"
        raise ConfigError(f"'{source}' {which}; give every column a name of its own")


def _cells(source: Path, header: Sequence[str], rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """Rows of as many cells as the header has, stripped; empty lines are left out."""
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise ConfigError(
                f"row {number} of '{source}' has {len(row)} cells and the header {len(header)}; "
                "correct it"
            )
        if any(len(cell) > _LONGEST_CELL for cell in row):
            raise ConfigError(
                f"row {number} of '{source}' has a cell of more than {_LONGEST_CELL} characters"
            )
        cells = [cell.strip() for cell in row]
        for column in (NAME, PERSON):
            if not cells[header.index(column)]:
                raise ConfigError(f"row {number} of '{source}' has no {column}; fill it in")
        yield cells


def _table(source: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> PeopleTable:
    if not rows:
        raise ConfigError(f"'{source}' lists no pictures; add a row for each")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    index: dict[str, int] = {}
    for i, name in enumerate(columns[NAME]):
        if index.setdefault(_path(name), i) != i:
            raise ConfigError(f"'{source}' lists '{name}' twice; keep one row")
    others = {name: cells for name, cells in columns.items() if name not in (NAME, PERSON)}
    attributes = {
        name: np.array([_PRESENT[cell.lower()] for cell in cells], dtype=bool)
        for name, cells in others.items()
        if all(cell.lower() in _PRESENT for cell in cells)
    }
    groups = {
        name: [cell or _UNKNOWN for cell in cells]
        for name, cells in others.items()
        if name not in attributes
    }
    for name, labels in groups.items():
        different = len(set(labels))
        if different > MOST_GROUPS:
            raise ConfigError(
                f"the column '{name}' of '{source}' has {different} different values; it must be "
                f"an attribute (1 and 0) or at most {MOST_GROUPS} groups, or be removed"
            )
    return PeopleTable(index, columns[PERSON], attributes, groups)


def _path(name: str) -> str:
    """As folders have it: no leading ``./``, NFC."""
    return unicodedata.normalize("NFC", name.removeprefix("./"))
