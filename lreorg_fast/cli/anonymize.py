"""``lreorg anonymize``: files and folders of aligned faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lreorg_fast.cli.release import Release, release_options
from lreorg_fast.cli.terminal import (
    EXIT_FAILURES,
    EXIT_INTERRUPTED,
    fail,
    print_json,
    print_line,
    print_table,
    progress_bar,
)

if TYPE_CHECKING:
    from lreorg_fast.batch import BatchReport

_MOST_ROWS = 20  # a longer run is summed up; --report and --json have every file


def _names(
    _context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Comma-separated keywords; ``--keep none`` is the empty list."""
    if value is None:
        return None
    if parameter.name == "keep" and value == "none":
        return ()
    return tuple(name.strip() for name in value.split(","))


EXAMPLES = """\b
Examples:
  lreorg anonymize face.png
  lreorg anonymize faces/ -o out/ --report out/report.json
  lreorg anonymize faces/ -o out/ --hide identity,gender --keep age,expression
  lreorg anonymize faces/ -o out/ --keep none --epsilon 0 --json
"""


@click.command(short_help="Anonymize aligned faces in files and folders.", epilog=EXAMPLES)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for the results; without it in.png becomes in_anonymized.png beside it.",
)
@click.option(
    "--hide",
    callback=_names,
    metavar="A,B",
    help="Keywords to anonymize, in order.  [default: identity]",
)
@click.option(
    "--keep",
    callback=_names,
    metavar="A,B|none",
    help="Keywords to recover from the original, in order.  "
    "[default: gender,age,expression,makeup without those that are hidden]",
)
@click.option(
    "--epsilon",
    type=float,
    help="Of the identity draw, 0 to 20; smaller says less about the person.  [default: 1]",
)
@click.option(
    "--mechanism",
    metavar="NAME",
    help="How an identity is drawn: window-rr, uniform or rank-weights; without any guarantee, for "
    "comparison: paper-window, k-anonymity or laplace.  [default: window-rr]",
)
@click.option(
    "--attribute-rule",
    metavar="NAME",
    help="How a hidden keyword other than identity is replaced: uniform, randomized, neutral, or "
    "farthest, which has no guarantee.  [default: uniform]",
)
@click.option(
    "--attribute-epsilon",
    type=float,
    help="Of the rule randomized, for each such keyword, 0 to 20.  [default: 1]",
)
@release_options
@click.option(
    "--bundle",
    default="demo",
    show_default=True,
    metavar="FOLDER|demo",
    help="Networks and tables; demo is for avatars, not for photographs.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where the networks run, for example cuda:0; see lreorg doctor.",
)
@click.option(
    "--backend",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="What computes the reorganization; see lreorg doctor.",
)
@click.option(
    "--dtype",
    default="bfloat16",
    show_default=True,
    metavar="NAME",
    help="Weights of the reorganization: bfloat16, float16, float32, int8 or float64.",
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Of the generator and the encoder: float32, bfloat16, or auto for what the CPU does fast.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what became of every file, and what it cost, as JSON.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Overwrite results and a report of an earlier run; sources never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of a table.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor table.")
def anonymize(
    inputs: tuple[Path, ...],
    output: Path | None,
    bundle: str,
    device: str,
    backend: str,
    dtype: str,
    precision: str,
    report: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Replace the face in every picture of INPUTS, files or folders.

    Each picture must be one aligned, square face; pictures with several people or much background
    come with a later version. A face that cannot be replaced and verified is filled with a solid
    colour and reported, never passed through. Sources are not changed. What epsilon covers, and
    what it does not: docs/privacy.md.
    """
    from lreorg_fast.batch import anonymize_files
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.privacy.randomness import refuse_insecure_environment
    from lreorg_fast.settings import Settings

    refuse_insecure_environment()
    release = Release.taken_from(settings)
    given = {name: value for name, value in settings.items() if value is not None}
    sealer, counted = release.open_sealer(), release.open_ledger()
    subjects = release.open_subjects(counted)
    anonymizer = Anonymizer.load(
        bundle,
        device=device,
        backend=backend,
        dtype=dtype,
        precision=precision,
        ledger=counted,
    )
    with progress_bar("anonymizing", visible=not quiet) as progress:
        done = anonymize_files(
            anonymizer,
            inputs,
            output,
            settings=Settings(**release.settings(given)),
            subjects=subjects,
            sealer=sealer,
            overwrite=force,
            report=report,
            progress=progress,
        )
    for entry in done.failures:
        fail(entry.sentence)
    if as_json:
        print_json(done.to_dict())
    elif not quiet:
        _print_summary(done)
    if done.interrupted:
        fail("interrupted")
        raise click.exceptions.Exit(EXIT_INTERRUPTED)
    if not done.complete:
        raise click.exceptions.Exit(EXIT_FAILURES)


def _print_summary(done: BatchReport) -> None:
    if len(done.files) <= _MOST_ROWS:
        print_table(
            ("file", "status", "epsilon", "similarity", "written to"),
            (
                (
                    entry.source,
                    entry.status,
                    "" if entry.track is None else f"{entry.epsilon:g}",
                    "" if entry.similarity is None else f"{entry.similarity:.2f}",
                    entry.target or "",
                )
                for entry in done.files
            ),
        )
    print_line(", ".join(f"{count} {status}" for status, count in done.counts.items()))
    print_line(
        f"epsilon of a picture: at most {done.ledger['largest']}. {done.ledger['statement']}"
    )
    if done.sealed is not None:
        print_line(done.sealed)
