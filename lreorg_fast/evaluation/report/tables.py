"""The tables of the report, in the paper's shape, and those that the paper left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lreorg_fast.evaluation import paper
from lreorg_fast.evaluation.measured import METRICS, Evaluation, MethodResult
from lreorg_fast.evaluation.paper import PaperTable
from lreorg_fast.evaluation.report.document import Cell, Column, Row, Table
from lreorg_fast.evaluation.report.front import (
    OWN,
    Front,
    Point,
    is_alone,
    is_joint,
    main_methods,
)
from lreorg_fast.evaluation.report.grid import (
    NOT_PUBLISHED,
    Grid,
    Notes,
    Quantity,
    copied_number,
    quantities,
)
from lreorg_fast.evaluation.report.text import interval, number, place, plain, rate

USUAL = ("psr_closed_set", "psr", "released", "detection", "apr_mean", "fid", "feature_distance")
RECOGNITION = (
    "psr", "psr_closed_set", "rank_1", "rank_5", "similarity", "similarity_gap",
)  # fmt: skip
PRESERVATION = ("apr", "apr_mean", "landmark_error", "pose_error", "gaze_error", "diversity")
ATTACKS = (
    "parrot_rank_1",
    "parrot_tar",
    "reverse_rank_1",
    "rank_last",
    "linkage_auc",
    "reversal_rank_1",
    "residual_rank_1",
    "blanked_rank_1",
    "attribute_inference",
)
TEMPORAL = ("flicker_identity", "flicker_landmarks")


def usual(evaluation: Evaluation, grid: Grid) -> Table | None:
    """Protection and usefulness: the paper's main table, LFW's if the data are such."""
    methods = main_methods(evaluation.methods)
    beside = paper.usual_table(str(evaluation.data.get("name", "")))
    return grid.table(
        f"Protection and usefulness; beside it: {beside.title} ({beside.conditions})",
        methods,
        _loosest(quantities(methods, USUAL)),
        beside,
    )


def joint(evaluation: Evaluation, grid: Grid, recovered: bool) -> Table | None:
    """Identity and one attribute hidden."""
    beside = paper.JOINT_RECOVERED if recovered else paper.JOINT_NOT_RECOVERED
    bare = {f"{OWN}-not-recovered"}
    methods = [
        method
        for method in evaluation.methods
        if (beside.row(method.name) is not None)
        or (is_joint(method.name) and method.name.endswith("-not-recovered") != recovered)
        or (not recovered and method.name in bare)
    ]
    return _beside(evaluation, grid, beside, methods)


def alone(evaluation: Evaluation, grid: Grid) -> Table | None:
    """One attribute hidden and the identity left."""
    methods = [method for method in evaluation.methods if is_alone(method.name)]
    return _beside(evaluation, grid, paper.ALONE, methods)


def recognizers(evaluation: Evaluation, grid: Grid) -> Iterator[Table]:
    """One table for each recognizer, with everything that it alone says."""
    names = {
        entry.where["recognizer"]: None
        for method in evaluation.methods
        for metric in RECOGNITION
        for entry in method.all(metric)
        if "recognizer" in entry.where
    }
    for name in names:
        columns = quantities(
            evaluation.methods,
            RECOGNITION,
            lambda where, name=name: where.get("recognizer") == name and "group" not in where,  # type: ignore[misc]
        )
        caption = f"Recognizer: {name}"
        table = grid.table(caption, evaluation.methods, columns, hidden=("recognizer",))
        if table is not None:
            yield table


def judged(evaluation: Evaluation, grid: Grid) -> Table | None:
    """What the judges make of the originals themselves."""
    originals = MethodResult("originals", "originals", "", "none", "", evaluation.judged)
    columns = quantities([originals], tuple(METRICS))
    notes = Notes()
    if not columns:
        return None
    rows = [
        (f"{METRICS[column.metric].title}, {place(column.where)}".strip(", "), column, ())
        for column in columns
    ]
    return grid.turned("The judges on the originals", "figure", [originals], rows, (), notes)


def recovery(evaluation: Evaluation, grid: Grid) -> Table | None:
    """Right again with the key: attributes down, methods across, the paper's figure beside."""
    found = quantities(evaluation.methods, ("recovery",))
    methods = [
        method
        for method in evaluation.methods
        if any(entry.figure is not None for entry in method.all("recovery"))
    ]
    if not found:
        return None
    notes = Notes()
    published = paper.RECOVERY.rows[0].values
    rows = []
    for quantity in found:
        # A recovered identity is said by a recognizer, without naming an attribute.
        about = {"attribute": "identity", **quantity.where}
        value = published.get(about["attribute"])
        copied = notes.dash(NOT_PUBLISHED) if value is None else Cell(copied_number(value))
        rows.append((place(about), quantity, (copied,)))
    without: dict[str, list[str]] = {}
    for method in evaluation.methods:
        for entry in () if method in methods else method.all("recovery"):
            grid.cell(entry, Notes())  # its reason is shown below the table
            titles = without.setdefault(str(entry.reason), [])
            titles += [method.title] if method.title not in titles else []
    for reason, titles in without.items():
        notes.add(f"{', '.join(titles)}: {reason}")
    caption = f"{paper.RECOVERY.title}, % ↑ ({paper.RECOVERY.conditions})"
    extra = [Column("LReOrg", "the paper's own figures", copied=True)]
    return grid.turned(caption, "attribute", methods, rows, extra, notes)


def attacks(evaluation: Evaluation, grid: Grid) -> Iterator[Table]:
    """One table for each attack that any method has an entry of."""
    for metric in ATTACKS:
        columns = quantities(evaluation.methods, (metric,))
        meaning = METRICS[metric].meaning
        table = grid.table(
            f"{METRICS[metric].title[:1].upper()}{METRICS[metric].title[1:]}: {meaning}",
            evaluation.methods,
            columns,
        )
        if table is not None:
            yield table


def subgroups(evaluation: Evaluation, grid: Grid) -> Iterator[Table]:
    """One table for each metric that was broken down, groups across."""
    for metric in METRICS:
        columns = quantities(evaluation.methods, (metric,), lambda where: "group" in where)
        caption = f"{METRICS[metric].title} by subgroup"
        table = grid.table(caption, evaluation.methods, columns)
        if table is not None:
            yield table


def of_metrics(
    evaluation: Evaluation, grid: Grid, caption: str, metrics: Sequence[str]
) -> Table | None:
    """Methods down, these metrics across."""
    return grid.table(caption, evaluation.methods, quantities(evaluation.methods, metrics))


def front_table(front: Front, grid: Grid) -> Table | None:
    """Who stands on the privacy-utility front and who is beaten by whom."""
    if not front.points and not front.missing:
        return None
    notes = Notes()
    rows = []
    for point in front.points:
        protection, usefulness = point.source
        grid.cell(protection, Notes())  # it is shown, if as its complement
        detail = f"{interval('psr', point.protection)} n = {point.protection.n:,}"
        cells = (
            Cell(number("psr", point.protection.value), detail, notes.add(point.protection.note)),
            Cell(place(protection.where), lines=True),
            grid.cell(usefulness, notes),
            Cell(_verdict(front, point), lines=True),
        )
        rows.append(Row(point.method.title, cells))
    for method, reason in front.missing:
        dash = notes.dash(reason)
        word = replace(dash, lines=True)
        rows.append(Row(method.title, (dash, word, dash, word)))
    titles = (f"{front.axis}, % ↑", "by", "APR, % ↑", "verdict")
    return Table(
        f"The front of protection ({front.axis}, by the judge that is worst for the method) and "
        "usefulness (APR). Beaten: another method is at least as good in both values and better "
        "in one; intervals apart: for at least one such method in at least one of both",
        "method",
        tuple(Column(title) for title in titles),
        tuple(rows),
        tuple(notes.texts),
        grid.command,
    )


def _verdict(front: Front, point: Point) -> str:
    # Short, or one long name makes every row of a phone tall.
    named = [plain(other.method.title, 28) for other in front.beaten_by(point)]
    if not named:
        return "on the front"
    if len(named) > 4:
        named[3:] = [f"{len(named) - 3} others"]
    surely = "within the intervals as good" if front.nearly_best(point) else "intervals apart"
    return f"beaten by {', '.join(named)}; {surely}"


def remaining(evaluation: Evaluation, grid: Grid) -> Iterator[Table]:
    """Everything that no other table has shown, so that no figure is lost."""
    for method in evaluation.methods:
        notes = Notes()
        rows = [
            Row(METRICS[e.metric].title, (Cell(place(e.where), lines=True), grid.cell(e, notes)))
            for e in grid.remaining(method)
        ]
        if rows:
            columns = (Column("about"), Column("figure"))
            yield Table(
                f"Further figures of {method.title}",
                "figure",
                columns,
                tuple(rows),
                tuple(notes.texts),
                grid.command,
            )


def methods(evaluation: Evaluation) -> Table:
    """What each method is, what it promises, and the command that makes its outputs."""
    return Table(
        "The methods",
        "method",
        tuple(Column(t) for t in ("name", "what was done", "guarantee", "made by")),
        tuple(
            Row(m.title, tuple(Cell(t, lines=True) for t in _described(m)))
            for m in evaluation.methods
        ),
    )


def other_systems() -> Table:
    """Figures of later systems that are in none of the tables above."""
    system = paper.NULLFACE
    return Table(
        f"{system.title} ({system.conditions})",
        "method",
        tuple(Column(title, system.source, copied=True) for title in system.columns),
        tuple(
            Row(
                row.title,
                tuple(Cell(copied_number(row.values[c])) for c in system.columns),
                copied=True,
            )
            for row in system.rows
        ),
    )


def _described(method: MethodResult) -> tuple[str, str, str, str]:
    return (
        plain(method.name, 120),
        plain(method.description, 300),
        plain(method.guarantee, 300),
        method.command,
    )


def _loosest(columns: Sequence[Quantity]) -> list[Quantity]:
    """Without the stricter false accept rates, which the tables of the recognizers hold."""
    rates = [rate(column.where["far"]) for column in columns if "far" in column.where]
    loosest = max(rates, default=0.0)
    return [c for c in columns if "far" not in c.where or rate(c.where["far"]) == loosest]


def _beside(
    evaluation: Evaluation, grid: Grid, beside: PaperTable, methods: Sequence[MethodResult]
) -> Table | None:
    columns = _loosest(quantities(methods, USUAL))
    caption = f"{beside.title}; beside it the paper's ({beside.conditions})"
    return grid.table(caption, methods, columns, beside)
