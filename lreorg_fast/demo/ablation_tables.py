"""results.md of :mod:`lreorg_fast.demo.ablations`: tables like the paper's 4, 7, 8, 9 and 10."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lreorg_fast.demo.figures import METHODS, NOT_RECOVERED
from lreorg_fast.demo.protocol import frontier_label, joint_label
from lreorg_fast.demo.variants import FULL
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP

Figures = Mapping[str, Mapping[str, Any]]
Row = tuple[str, Figures, str]  # what it is called, its figures, the label that they begin with

_PROTECTION = (
    "PSR (random)",
    "PSR (hard)",
    "similarity to the person",
    "person ranked first",
    "person ranked last",
    "face detected",
    "mean preserved",
)
_ATTRIBUTES = tuple(f"{name} preserved" for name in DEFAULT_KEEP)


def results_page(results: Mapping[str, Any]) -> str:
    """Markdown of ``results.json``; a figure that could not be measured is a dash."""
    variants = {name: all_figures(record) for name, record in results["variants"].items()}
    lines = [*_introduction(results), *_comparison(variants), *_network(variants)]
    if FULL in variants:
        lines += [*_joint(variants[FULL]), *_alone(variants[FULL]), *_leakage(variants[FULL])]
    return "\n".join(lines) + "\n"


def all_figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a variant's sections in one table."""
    return {
        name: figure for section in record["sections"].values() for name, figure in section.items()
    }


def method_rows(variants: Mapping[str, Figures]) -> list[Row]:
    """The variants in the default setting, then what else one network can be asked for."""
    rows: list[Row] = [(name, figures, "default") for name, figures in variants.items()]
    if FULL in variants:
        full = variants[FULL]
        steps = [frontier_label(count) for count in range(1, len(DEFAULT_KEEP))]
        rows += [(f"{FULL}, {label}", full, label) for label in (NOT_RECOVERED, *steps)]
        rows += [(label, full, label) for label in METHODS]
    return rows


def _introduction(results: Mapping[str, Any]) -> Iterator[str]:
    people = results["people"]
    yield "# The demo's ablations and comparisons"
    yield ""
    yield (
        f"Written by `python -m lreorg_fast.demo.ablations`: {results['steps']} steps each from "
        f"one seed, measured on {people} unseen avatars (seed {results['seed']}). **They say "
        "nothing about photographs.** Each cell is the value and its 95% interval (Wilson for "
        f"shares, bootstrap over people for means); n = {people} unless the cell says otherwise. "
        "One training per row: an interval is about the people, not about another training."
    )
    yield ""
    if results["left_out"]:
        names = ", ".join(results["left_out"])
        yield f"Equal to `{FULL}` in this recipe, and so left out: {names}."
        yield ""
    for name, record in results["variants"].items():
        if record["stopped"]:
            yield f"**{name}**: {record['stopped']}. Measured is its last checkpoint, if any."
            yield ""


def _comparison(variants: Mapping[str, Figures]) -> Iterator[str]:
    rows = method_rows(variants)
    yield "## Protection and usefulness (Tables 4 and 10)"
    yield ""
    yield (
        "Identity hidden; gender, age, expression and makeup recovered, except where the row says "
        "otherwise and in k-anonymity and Laplace, which recover nothing."
    )
    yield ""
    yield from _table("method", rows, (*_PROTECTION, *_ATTRIBUTES))


def _network(variants: Mapping[str, Figures]) -> Iterator[str]:
    wanted = [
        ("identity back with the key", "reversed with the key: recognised"),
        *((f"{n} back", f"hide {n} alone: back with the key") for n in DEFAULT_KEEP),
        *((f"{n} hidden", f"hide {n} alone: changed") for n in DEFAULT_KEEP),
        ("round trip error", "inverse, identity: round trip error"),
        ("information lost", "inverse, identity: information lost"),
        ("latent change", "inverse, identity: latent change"),
    ]
    yield "## Recovery (Table 8) and the inverse"
    yield ""
    yield (
        "Back: each attribute is hidden alone by the paper's rule, and the result is reversed with "
        "its key, through picture and encoder. Round trip and information lost: mean absolute "
        "value per entry, in float32; latent change: Euclidean length per row."
    )
    yield ""
    yield from _markdown(
        ["network", *(title for title, _ in wanted)],
        ([name, *_cells(f, (label for _, label in wanted))] for name, f in variants.items()),
    )


def _joint(full: Figures) -> Iterator[str]:
    yield "## Joint protection (Table 7)"
    yield ""
    rows: list[Row] = [("identity, others recovered", full, "default")]
    rows += [(joint_label(n, True), full, joint_label(n, True)) for n in DEFAULT_KEEP]
    rows += [("identity, nothing recovered", full, NOT_RECOVERED)]
    rows += [(joint_label(n, False), full, joint_label(n, False)) for n in DEFAULT_KEEP]
    wanted = ("PSR (random)", "PSR (hard)", "mean preserved", *_ATTRIBUTES)
    yield from _table("hidden", rows, wanted)


def _alone(full: Figures) -> Iterator[str]:
    yield "## One attribute hidden, identity not (Table 9)"
    yield ""
    rebuilt = _cells(full, ["reconstruction: recognised"])[0]
    yield f"The untouched face through encoder and generator is recognised in {rebuilt}."
    yield ""
    rows: list[Row] = [(name, full, f"hide {name} alone") for name in DEFAULT_KEEP]
    wanted = (
        "PSR (random)",
        "PSR (hard)",
        "similarity to the person",
        "changed",
        "others stay",
        "back with the key",
    )
    yield from _table("hidden", rows, wanted)


def _leakage(full: Figures) -> Iterator[str]:
    yield "## One key feature swapped with another person's: what comes along"
    yield ""
    yield (
        "Similarities to the face as encoder and generator make it, and to the donor's. An "
        "attribute's own column counts the pairs that differ in it and says how often the result "
        "shows the donor's; the others say how often the face's own stays."
    )
    yield ""
    keywords = (*DEFAULT_HIDE, *DEFAULT_KEEP)
    sides = ("similarity to the same face", "similarity to the donor", "same person")
    yield from _markdown(
        ["swapped", *sides, *DEFAULT_KEEP],
        (
            [
                name,
                *_cells(full, (f"swap {name} alone: {side}" for side in sides)),
                *_cells(full, (_moved(name, attribute) for attribute in DEFAULT_KEEP)),
            ]
            for name in keywords
        ),
    )


def _moved(swapped: str, attribute: str) -> str:
    what = "follows the donor" if attribute == swapped else "stays"
    return f"swap {swapped} alone: {attribute} {what}"


def _table(first: str, rows: Iterable[Row], wanted: Sequence[str]) -> Iterator[str]:
    return _markdown(
        [first, *wanted],
        ([name, *_cells(f, (f"{label}: {what}" for what in wanted))] for name, f, label in rows),
    )


def _cells(figures: Figures, names: Iterable[str]) -> list[str]:
    most = max((figure["n"] for figure in figures.values()), default=0)
    return [_cell(figures[name], most) if name in figures else "-" for name in names]


def _cell(figure: Mapping[str, Any], most: int) -> str:
    value, low, high = (f"{figure[key]:.3g}" for key in ("value", "low", "high"))
    apart = "" if figure["n"] == most else f", n = {figure['n']}"
    return f"{value} [{low}, {high}]{apart}"


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|---|{'---|' * (len(titles) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
