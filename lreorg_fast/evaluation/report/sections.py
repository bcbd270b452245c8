"""What stands where in the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lreorg_fast.evaluation.measured import METRICS, Evaluation
from lreorg_fast.evaluation.paper import DIFFERENCE
from lreorg_fast.evaluation.report import summary, tables
from lreorg_fast.evaluation.report.document import (
    Block,
    Bullets,
    Cell,
    Column,
    Document,
    Row,
    Section,
    Table,
)
from lreorg_fast.evaluation.report.front import naive_front, parrot_front
from lreorg_fast.evaluation.report.grid import Grid
from lreorg_fast.evaluation.report.plots import attribute_bars, cluster_plots, scatter
from lreorg_fast.evaluation.report.projection import FeatureSet, project
from lreorg_fast.evaluation.report.sheets import Samples, sheet
from lreorg_fast.evaluation.report.text import plain, words

LONGEST_TITLE = 64
READING = (
    "Each cell holds the value, its 95% interval and the number n of observations behind it. "
    "↑ means that more protects or preserves more, ↓ that less does. A dash is a figure that "
    "there is not; its footnote says why."
)
ORIGINALS_INSIDE = (
    "This page holds pictures of people, original ones among them if a row says so: keep it where "
    "you keep the originals."
)


def compose(evaluation: Evaluation, samples: Samples, features: Sequence[FeatureSet]) -> Document:
    """The whole report; every figure of the evaluation stands in one of its tables."""
    evaluation = _shortened(evaluation)
    grid = Grid(str(evaluation.run.get("command", "")))
    sections = (
        _summary(evaluation),
        _usual(evaluation, grid),
        _front(evaluation, grid),
        _sheets(evaluation, samples),
        _attributes(evaluation, grid),
        _hiding(evaluation, grid),
        _recognizers(evaluation, grid),
        _attacks(evaluation, grid),
        _section("recovery", "Recovery with the key", [tables.recovery(evaluation, grid)]),
        _section("subgroups", "Subgroups", tables.subgroups(evaluation, grid)),
        _audit(evaluation, grid),
        _temporal(evaluation, grid),
        _section("further", "Further figures", tables.remaining(evaluation, grid)),
        _clusters(features),
        _section("methods", "Methods", [tables.methods(evaluation)]),
        _conditions(evaluation),
        _glossary(evaluation),
    )
    subtitle = f"{words(evaluation.data.get('name', ''))}, {words(evaluation.run.get('date', ''))}"
    return Document(
        "Evaluation of face anonymization",
        subtitle.strip(", "),
        tuple(section for section in sections if section is not None),
    )


def _shortened(evaluation: Evaluation) -> Evaluation:
    """With titles that fit into a table: a folder's name may have 255 letters."""
    short = tuple(
        replace(method, title=plain(method.title, LONGEST_TITLE)) for method in evaluation.methods
    )
    return replace(evaluation, methods=short)


def _section(
    anchor: str,
    title: str,
    blocks: Iterable[Block | None],
    paragraphs: Sequence[str] = (),
) -> Section | None:
    """None if it would be empty."""
    present = tuple(block for block in blocks if block is not None)
    return Section(anchor, title, tuple(paragraphs), blocks=present) if present else None


def _summary(evaluation: Evaluation) -> Section:
    statement = str(evaluation.data.get("statement", ""))
    front = naive_front(evaluation.methods)
    named = {
        "Do the recognizers work?": summary.recognizers_work(evaluation),
        "Who wins between protection and usefulness?": summary.front_words(front),
        "What did the parrot attack find?": summary.parrot_words(evaluation),
        "Which attack finds most?": summary.strongest_attack(evaluation),
        "What do the figures not say?": summary.not_said(evaluation),
    }
    lists = ((title, tuple(points)) for title, points in named.items())
    return Section(
        "summary",
        "Summary",
        tuple(text for text in (summary.judged(evaluation), statement) if text),
        tuple(Bullets(title, points) for title, points in lists if points),
    )


def _usual(evaluation: Evaluation, grid: Grid) -> Section | None:
    return _section(
        "protection",
        "Protection and usefulness",
        [tables.usual(evaluation, grid), tables.other_systems()],
        (READING, DIFFERENCE),
    )


def _front(evaluation: Evaluation, grid: Grid) -> Section | None:
    naive, parrot = naive_front(evaluation.methods), parrot_front(evaluation.methods)
    fronts = [naive, parrot] if parrot.points else [naive]
    return _section(
        "front",
        "The privacy-utility front",
        [
            scatter(fronts, evaluation.methods),
            *(tables.front_table(front, grid) for front in fronts),
        ],
        (
            "Protection is by the judge that is worst for the method, because an attacker takes "
            "the recognizer that serves him best. The original is not drawn: it protects nothing.",
        ),
    )


def _sheets(evaluation: Evaluation, samples: Samples) -> Section | None:
    titles = {method.name: method.title for method in evaluation.methods}
    photographs = evaluation.data.get("domain") != "avatars"
    return _section(
        "pictures",
        "Pictures",
        [sheet(samples, titles)],
        (ORIGINALS_INSIDE,) if photographs else (),
    )


def _attributes(evaluation: Evaluation, grid: Grid) -> Section | None:
    caption = "Preserved attributes and geometry"
    return _section(
        "attributes",
        "Attributes",
        [
            attribute_bars(evaluation),
            tables.of_metrics(evaluation, grid, caption, tables.PRESERVATION),
        ],
    )


def _hiding(evaluation: Evaluation, grid: Grid) -> Section | None:
    return _section(
        "hiding",
        "Hiding attributes",
        [
            tables.joint(evaluation, grid, recovered=True),
            tables.joint(evaluation, grid, recovered=False),
            tables.alone(evaluation, grid),
        ],
        (
            "The identity and one attribute hidden together, with the other attributes recovered "
            "or not, and one attribute hidden alone. How often the hidden attribute is still the "
            "original's stands in the table of attributes.",
            DIFFERENCE,
        ),
    )


def _recognizers(evaluation: Evaluation, grid: Grid) -> Section | None:
    return _section(
        "recognizers",
        "Each recognizer",
        [tables.judged(evaluation, grid), *tables.recognizers(evaluation, grid)],
        (
            "A recognizer that does not recognise the originals cannot show protection, so its "
            "share of originals recognised comes first.",
        ),
    )


def _attacks(evaluation: Evaluation, grid: Grid) -> Section | None:
    return _section(
        "attacks",
        "Attacks",
        tables.attacks(evaluation, grid),
        ("The parrot attack is the decisive one: its recognizer knows the method's outputs.",),
    )


def _audit(evaluation: Evaluation, grid: Grid) -> Section | None:
    return _section(
        "audit",
        "Audit of the promises",
        [tables.of_metrics(evaluation, grid, "What an audit proves", ("audit_epsilon",))],
        (
            "A lower bound above the promised epsilon refutes the promise; one below it proves "
            "nothing. What each method promises stands in the table of the methods.",
        ),
    )


def _temporal(evaluation: Evaluation, grid: Grid) -> Section | None:
    table = tables.of_metrics(evaluation, grid, "Steadiness within a track", tables.TEMPORAL)
    return _section("video", "Video", [table])


def _clusters(features: Sequence[FeatureSet]) -> Section | None:
    return _section(
        "clusters",
        "Clusters of features",
        cluster_plots([project(given) for given in features]),
        (
            "Features of a few people in two dimensions (as in the paper's Fig. 12): where each "
            "person is a cluster of its own, the features tell people apart.",
        ),
    )


def _conditions(evaluation: Evaluation) -> Section:
    return Section(
        "conditions",
        "Data, judges and machine",
        blocks=(
            _facts("The data", evaluation.data),
            _facts("The judges", evaluation.judges),
            _facts("The run: command, versions and machine", evaluation.run),
        ),
    )


def _glossary(evaluation: Evaluation) -> Section | None:
    used = {entry.metric for m in evaluation.methods for entry in m.measured}
    used |= {entry.metric for entry in evaluation.judged}
    rows = tuple(
        Row(metric.title, (Cell(metric.meaning, lines=True), Cell(f"{metric.better}", lines=True)))
        for name, metric in METRICS.items()
        if name in used
    )
    table = Table("What the figures mean", "figure", _columns("meaning", "better"), rows)
    return _section("glossary", "Glossary", [table] if rows else [])


def _facts(caption: str, entries: Mapping[str, Any]) -> Table:
    rows = tuple(
        Row(str(key), (Cell(words(value) or "not given", lines=True),))
        for key, value in entries.items()
    )
    return Table(caption, "of", _columns("value"), rows)


def _columns(*titles: str) -> tuple[Column, ...]:
    return tuple(Column(title) for title in titles)
