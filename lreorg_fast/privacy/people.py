"""Who is who: a table of files, points and people, as somebody writes it in a spreadsheet.

One line names one face: the file, a point on the face (and for a video the time at which it is
there), and the person. Whatever matches no face is an error: a person who gets somebody else's
pseudonym, or none, would not be noticed.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError
from lreorg_fast.files import read_bounded
from lreorg_fast.log import logger

COLUMNS = ("file", "person", "x", "y", "seconds")
_NEEDED, _NUMBERS = COLUMNS[:2], COLUMNS[2:]
_MOST_BYTES = 16 << 20
_LONGEST_PERSON = 1000


@dataclass(frozen=True)
class NamedPlace:
    """One line of the table.

    Attributes:
        where: file and line, for messages.
        person: the label.
        point: (x, y) in pixels of the upright picture; None is the only face of the file.
        seconds: of a video, from its beginning; None is the whole of it.
    """

    where: str
    person: str
    point: tuple[float, float] | None
    seconds: float | None

    @property
    def place(self) -> str:
        """The point, for messages."""
        at = "" if self.seconds is None else f" at {self.seconds:g} s"
        return "no point" if self.point is None else f"({self.point[0]:g}, {self.point[1]:g}){at}"

    def face_in(self, boxes: NDArray[np.float64]) -> int:
        """Index of the face that is meant, among boxes (N, 4): x0, y0, x1, y1.

        Where boxes overlap, it is the one whose middle is nearest to the point, in its sizes.

        Raises:
            ConfigError: no box holds the point, or there is none and not exactly one face.
        """
        if self.point is None:
            if len(boxes) != 1:
                raise ConfigError(
                    f"{self.where} names no point, but there are {len(boxes)} faces; add x and y "
                    "of one"
                )
            return 0
        point = np.array(self.point)
        within = ((boxes[:, :2] <= point) & (point <= boxes[:, 2:])).all(axis=1)
        if not within.any():
            raise ConfigError(
                f"{self.where} names {self.place}, but no face is found there{_list(boxes)}; "
                "correct x and y"
            )
        sizes, middles = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
        apart = np.linalg.norm((point - middles) / sizes, axis=1)
        return int(np.where(within, apart, np.inf).argmin())


class PeopleFile:
    """The table: CSV, commas or semicolons, with a first line of names: ``file``, ``person`` and as
    needed ``x``, ``y``, ``seconds``.

    Args:
        path: the table. Files in it are relative to the folder that it lies in.

    Raises:
        ConfigError: it cannot be read, or a line is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._places: dict[str, list[NamedPlace]] = {}
        try:
            text = read_bounded(self._path, _MOST_BYTES).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"the people '{self._path}' cannot be read ({reason}); give a CSV file in UTF-8"
            ) from error
        try:
            self._parse(text)
        except csv.Error as error:
            raise ConfigError(f"the people '{self._path}' are no CSV: {error}; correct it") from (
                error
            )
        if not self._places:
            raise ConfigError(f"the people '{self._path}' name nobody; add a line for each face")

    def of(self, source: Path) -> Sequence[NamedPlace]:
        """The lines of a file, in their order; empty where it is not named."""
        return self._places.get(os.path.realpath(source), ())

    def check(self, sources: Iterable[Path]) -> None:
        """Refuse lines that no run can use, and a table that this run cannot.

        A table may name more files than one run works on, pictures and videos for example; how
        many are left out is logged.

        Raises:
            ConfigError: a line is about a file that is neither among ``sources`` nor there at all,
                or no line is about one of them.
        """
        known = {os.path.realpath(source) for source in sources}
        others = {name: places for name, places in self._places.items() if name not in known}
        for name, places in others.items():
            if not os.path.isfile(name):
                raise ConfigError(
                    f"{places[0].where} is about '{name}', which does not exist; correct the name, "
                    "which is relative to the folder of the table, or take the line out"
                )
        if len(others) == len(self._places):
            raise ConfigError(
                f"the people '{self._path}' are about none of the inputs; correct the names of "
                "files, which are relative to the folder of the table"
            )
        if others:
            logger.info("%d files of the people's table are not among the inputs", len(others))

    def _parse(self, text: str) -> None:
        # Spreadsheets of countries that write 1,5 for 1.5 part values by semicolons.
        semicolons = ";" in text.partition("\n")[0]
        rows = csv.reader(StringIO(text), delimiter=";" if semicolons else ",", strict=True)
        names = [name.strip().lower() for name in next(rows, [])]
        missing = [name for name in _NEEDED if name not in names]
        unknown = [name for name in names if name not in COLUMNS]
        if missing or unknown or len(set(names)) != len(names):
            raise ConfigError(
                f"the people '{self._path}' begin with the columns {names}, but must have file and "
                "person, and may have x, y and seconds, once each; write them into the first line"
            )
        for row in rows:
            if not any(value.strip() for value in row):
                continue
            where = f"'{self._path}' line {rows.line_num}"
            if len(row) != len(names):
                raise ConfigError(
                    f"{where} has {len(row)} values for {len(names)} columns; correct it"
                )
            values = dict(zip(names, (value.strip() for value in row), strict=True))
            if semicolons:
                values |= {
                    column: values[column].replace(",", ".")
                    for column in _NUMBERS
                    if column in values
                }
            self._add(where, values)

    def _add(self, where: str, row: dict[str, str]) -> None:
        name, person = row["file"], row["person"]
        if not name or not 0 < len(person) <= _LONGEST_PERSON or "\0" in name:
            raise ConfigError(
                f"{where} must have a file and a person of 1 to {_LONGEST_PERSON} letters; fill in"
            )
        x, y, seconds = (_number(where, row, column) for column in _NUMBERS)
        if (x is None) != (y is None):
            raise ConfigError(f"{where} has only one of x and y; give both, or neither")
        if seconds is not None and (x is None or seconds < 0):
            raise ConfigError(
                f"{where} has seconds {seconds:g}, which need x and y and must not be negative; "
                "correct it"
            )
        point = None if x is None or y is None else (x, y)
        place = os.path.realpath(self._path.parent / name)
        self._places.setdefault(place, []).append(NamedPlace(where, person, point, seconds))


def _number(where: str, row: dict[str, str], column: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where} has {column} {text!r}, but it must be a number; correct it")
    return value


def _list(boxes: NDArray[np.float64]) -> str:
    """Where faces are, for somebody who corrects a point."""
    if not len(boxes):
        return " (there is none in it)"
    shown = ", ".join(
        f"({x:.0f}, {y:.0f})" for x, y in ((boxes[:, :2] + boxes[:, 2:]) / 2)[:8].tolist()
    )
    return f" (there are faces around {shown})"


def named_faces(places: Sequence[NamedPlace], boxes: NDArray[np.float64]) -> dict[int, str]:
    """Index of a face -> person.

    Args:
        places: the lines about one picture.
        boxes: (N, 4) of its faces.

    Raises:
        ConfigError: a line matches no face, two name one face differently, or one person is two
            faces.
    """
    found: dict[int, str] = {}
    for place in places:
        face = place.face_in(boxes)
        if found.setdefault(face, place.person) != place.person:
            raise ConfigError(
                f"{place.where} names a face that an earlier line gives another person; correct "
                "one of them"
            )
    if len(set(found.values())) != len(found):
        raise ConfigError(
            f"{places[0].where} and the lines about the same file name two faces as one "
            "person; correct them"
        )
    return found
