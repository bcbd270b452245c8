"""From measured figures to tables: which columns there are, and what stands in each place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lreorg_fast.evaluation.measured import Measured, MethodResult
from lreorg_fast.evaluation.paper import PaperTable
from lreorg_fast.evaluation.report.document import Cell, Column, Row, Table
from lreorg_fast.evaluation.report.text import DASH, heading, interval, number, place, rate

NOT_ASKED = "not measured in this run"
NOT_GIVEN = "not given in the paper"
NOT_PUBLISHED = "not in the paper"
NOT_RUN = "not measured here: no outputs of this method were given to this run"


@dataclass(frozen=True)
class Quantity:
    """A metric about something: one column of a table."""

    metric: str
    where: Mapping[str, str] = field(default_factory=dict)

    def column(self, *hidden: str) -> Column:
        """The column; keys of ``where`` that the caption names already are left out."""
        about = place({key: value for key, value in self.where.items() if key not in hidden})
        title = heading(self.metric)
        return Column(about, title) if about else Column(title)


def find(method: MethodResult, quantity: Quantity) -> Measured | None:
    """The entry about it, or else one that says for a wider subject why there is no figure."""
    exact = method.find(quantity.metric, **quantity.where)
    if exact is not None:
        return exact
    for entry in method.all(quantity.metric):
        if entry.figure is None and entry.where.items() <= quantity.where.items():
            return entry
    return None


def quantities(
    methods: Iterable[MethodResult],
    metrics: Sequence[str],
    accept: Callable[[Mapping[str, str]], bool] = lambda where: "group" not in where,
) -> list[Quantity]:
    """Everything of ``metrics`` that any method has, in the order of ``metrics``.

    Within a metric, false accept rates go from loose to strict and all else in order of
    appearance. A reason that covers several columns gets none of its own beside them.
    """
    found: list[Quantity] = []
    for metric in metrics:
        seen: dict[tuple[tuple[str, str], ...], Measured] = {}
        for method in methods:
            for entry in method.all(metric):
                if accept(entry.where):
                    key = tuple(sorted(entry.where.items()))
                    if key not in seen or seen[key].figure is None:
                        seen[key] = entry
        columns = [Quantity(metric, dict(key)) for key in seen if not _covers(seen, key)]
        columns.sort(key=lambda column: -rate(column.where.get("far", "1")))
        found += columns
    return found


def _covers(
    seen: Mapping[tuple[tuple[str, str], ...], Measured], key: tuple[tuple[str, str], ...]
) -> bool:
    wider = set(key)
    return seen[key].figure is None and any(wider < set(other) for other in seen)


@dataclass
class Notes:
    """The footnotes of one table: each text once, numbered from 1."""

    texts: dict[str, int] = field(default_factory=dict)

    def add(self, text: str) -> tuple[int, ...]:
        """The number of a footnote; none for an empty text."""
        return (self.texts.setdefault(text, len(self.texts) + 1),) if text else ()

    def dash(self, reason: str) -> Cell:
        """A dash that refers to its reason."""
        return Cell(DASH, notes=self.add(reason))


class Grid:
    """Makes tables and remembers which entries they show."""

    def __init__(self, command: str) -> None:
        self.command = command
        self._shown: set[int] = set()

    def remaining(self, method: MethodResult) -> list[Measured]:
        """The entries that no table has shown, in their order."""
        return [entry for entry in method.measured if id(entry) not in self._shown]

    def cell(self, entry: Measured | None, notes: Notes) -> Cell:
        """Value, interval and n; or a dash with the reason as a footnote."""
        if entry is None:
            return notes.dash(NOT_ASKED)
        self._shown.add(id(entry))
        if entry.figure is None:
            return notes.dash(entry.reason or NOT_ASKED)
        figure = entry.figure
        detail = f"{interval(entry.metric, figure)} n = {figure.n:,}"
        return Cell(number(entry.metric, figure.value), detail, notes.add(figure.note))

    def table(
        self,
        caption: str,
        methods: Sequence[MethodResult],
        columns: Sequence[Quantity],
        paper: PaperTable | None = None,
        hidden: Sequence[str] = (),
    ) -> Table | None:
        """Methods down, figures across, the paper's own at the right; None if nothing is there.

        Args:
            caption: what it shows.
            methods: a row each, in this order; those without an entry are left out.
            columns: figures.
            paper: whose rows stand beside those of the same method, and below where the method
                was not run.
            hidden: keys of ``where`` that the caption tells.
        """
        notes = Notes()
        present = [method for method in methods if any(find(method, column) for column in columns)]
        if not columns or not present:
            return None
        rows = [
            Row(
                method.title,
                tuple(self.cell(find(method, column), notes) for column in columns)
                + _paper_cells(paper, method.name, notes),
            )
            for method in present
        ]
        rows += _only_paper(paper, {method.name for method in methods}, len(columns), notes)
        titles = [column.column(*hidden) for column in columns]
        if paper is not None:
            group = "the paper's own figures"
            titles += [Column(title, group, copied=True) for title in paper.columns]
        return Table(
            caption, "method", tuple(titles), tuple(rows), tuple(notes.texts), self.command
        )

    def turned(
        self,
        caption: str,
        corner: str,
        methods: Sequence[MethodResult],
        rows: Sequence[tuple[str, Quantity, tuple[Cell, ...]]],
        extra: Sequence[Column],
        notes: Notes,
    ) -> Table:
        """Figures down, methods across; each row ends with its own further cells."""
        return Table(
            caption,
            corner,
            (*(Column(method.title) for method in methods), *extra),
            tuple(
                Row(
                    header,
                    (*(self.cell(find(method, quantity), notes) for method in methods), *further),
                )
                for header, quantity, further in rows
            ),
            tuple(notes.texts),
            self.command,
        )


def copied_number(value: float) -> str:
    """A figure of the paper with the digits that it has there."""
    one = f"{value:.1f}"
    return one if value not in (0, 100) and float(one) == value else f"{value:g}"


def _paper_cells(paper: PaperTable | None, method: str, notes: Notes) -> tuple[Cell, ...]:
    if paper is None:
        return ()
    row = paper.row(method)
    if row is None:
        return tuple(notes.dash(NOT_PUBLISHED) for _ in paper.columns)
    return tuple(
        Cell(copied_number(row.values[column])) if column in row.values else notes.dash(NOT_GIVEN)
        for column in paper.columns
    )


def _only_paper(
    paper: PaperTable | None, run: set[str], columns: int, notes: Notes
) -> Iterator[Row]:
    for row in () if paper is None else paper.rows:
        if row.method not in run:
            missing = tuple(notes.dash(NOT_RUN) for _ in range(columns))
            yield Row(row.title, missing + _paper_cells(paper, row.method, notes), copied=True)
