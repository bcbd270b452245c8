"""``python -m bench.hidden``: which hidden attributes can still be read, by rule.

Unseen avatars, attributes by the attribute net that took no part in training; a row is a setting, a
cell the share of faces whose attribute is read as the person really has it (a filled face as
none). Beside every hidden
attribute the others are kept, since that is how it is used. Writes ``bench/results/<name>.json``
and ``.md``. Says nothing about photographs, nor about what a net that is trained on anonymized
pictures could still read.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import lreorg_fast as lf
from bench.machine import describe
from bench.markdown import table, write_results
from lreorg_fast.demo.figures import Measurement, draw_people
from lreorg_fast.demo.judge import present
from lreorg_fast.evaluation import Figure, share_figure
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media.pictures import Picture

SEED = 5
RULES = ("neutral", "farthest")
HIDDEN = (
    *((name,) for name in DEFAULT_KEEP),
    *(("identity", name) for name in DEFAULT_KEEP),
    ("identity", *DEFAULT_KEEP),
)
Row = dict[str, Figure]


def read_right(measurement: Measurement, pictures: Sequence[Picture]) -> Row:
    """Share of the people whose attribute is read as it is, for each of the four."""
    values, _ = measurement.judge.read(pictures)
    right = present(values, DEFAULT_KEEP) == measurement.people.truth(DEFAULT_KEEP)
    return {name: share_figure(right[:, i]) for i, name in enumerate(DEFAULT_KEEP)}


def measure(bundle: str, count: int) -> dict[str, Row]:
    anonymizer = lf.Anonymizer.load(bundle)
    measurement = Measurement(anonymizer, draw_people(count, SEED, anonymizer.resolution))
    rows = {
        "original": read_right(measurement, measurement.people.probes),
        "encoded and rendered": read_right(measurement, measurement.rebuilt),
    }
    for hidden in HIDDEN:
        kept = [name for name in DEFAULT_KEEP if name not in hidden]
        for rule in RULES:
            result = anonymizer(
                measurement.people.probes, hide=hidden, keep=kept, attribute_rule=rule
            )
            name = f"{', '.join(hidden)} by {rule}"
            print(name, flush=True)
            found = dict(measurement.preservation(name, result, DEFAULT_KEEP))
            rows[name] = {k: found[f"{name}: {k} preserved"] for k in DEFAULT_KEEP}
    return rows


def markdown(rows: dict[str, Row]) -> str:
    cells = [
        [name, *("{value:.3f} ({low:.3f} to {high:.3f})".format(**dataclasses.asdict(figure))
                 for figure in row.values())]
        for name, row in rows.items()
    ]  # fmt: skip
    return table(["hidden", *DEFAULT_KEEP], cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hidden", description=__doc__)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--people", type=int, default=1000, help="unseen avatars (default 1000)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results" / "hidden_demo",
        help="path of the results without ending",
    )
    arguments = parser.parse_args()
    rows = measure(arguments.bundle, arguments.people)
    plain = {
        name: {k: dataclasses.asdict(figure) for k, figure in row.items()}
        for name, row in rows.items()
    }
    data = {"machine": describe(), "people": arguments.people, "seed": SEED, "rows": plain}
    text = markdown(rows)
    write_results(arguments.output, data, text)
    print(text)


if __name__ == "__main__":
    main()
