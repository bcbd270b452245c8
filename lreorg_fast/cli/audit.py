"""``lreorg audit``: whether the mechanisms keep what they claim, measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lreorg_fast.cli.terminal import (
    EXIT_FAILURES,
    fail,
    print_json,
    print_line,
    print_table,
    progress_bar,
)
from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.audit import Finding


def _layers(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise ConfigError(f"--layers is '{value}', but must be numbers like 1,2,3") from None


@click.command(short_help="Measure whether the mechanisms keep the epsilon that they claim.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write audit.json and audit.md there.",
)
@click.option(
    "--bundle",
    default="demo",
    show_default=True,
    metavar="FOLDER|demo",
    help="Its codebook is used, and for layers 4 and 5 its networks.",
)
@click.option(
    "--faces",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Aligned faces of different people for layers 4 and 5, at least 20 of the bundle's kind; "
    "a bundle that is not for avatars needs them.  [default: drawn avatars]",
)
@click.option(
    "--epsilon",
    type=float,
    help="Of the window randomized response that is audited, 0 to 20.  [default: 1]",
)
@click.option(
    "--layers",
    callback=_layers,
    metavar="1,2,...",
    help="1 tables, 2 sampler, 3 draws alone, 4 pictures, 5 one run.  [default: 1,2,3,4,5]",
)
@click.option(
    "--people",
    type=int,
    help="For layer 5, at most 5000; more give a higher bound.  [default: 500]",
)
@click.option(
    "--seed",
    type=int,
    help="Of the people or the choice of faces; audited draws have no seed.  [default: 0]",
)
@click.option("--force", is_flag=True, help="Replace the reports of an earlier audit.")
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of a table.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor table.")
def audit(
    output: Path | None,
    bundle: str,
    faces: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **settings: int | float | tuple[int, ...] | None,
) -> None:
    """Audit the privacy mechanisms, from their tables to pictures.

    Every layer also audits claims that are known to be false, and ends with exit code 1 unless
    those are refuted and the true ones are not. What the layers show: docs/audit.md.
    """
    from lreorg_fast.audit import AuditSettings, run_audit
    from lreorg_fast.pipeline import Anonymizer

    paths = _report_files(output, force)
    given = {name: value for name, value in settings.items() if value is not None}
    folder = None if faces is None else str(faces)
    chosen = AuditSettings(faces=folder, **given)  # type: ignore[arg-type]  # click has checked
    anonymizer = Anonymizer.load(bundle)
    with progress_bar("auditing", visible=not quiet) as progress:
        report = run_audit(anonymizer, chosen, progress)
    _write(paths, (json.dumps(report.to_dict(), indent=1) + "\n", report.to_markdown()), force)
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        print_table(
            ("layer", "audited", "claims", "measured", "", "of", "verdict"),
            map(_row, report.findings),
        )
        if report.people is not None:
            print_line(report.people)
        print_line(report.to_dict()["statement"])
    if not report.passed:
        fail("the audit did not pass: see the verdicts")
        raise click.exceptions.Exit(EXIT_FAILURES)


def _row(found: Finding) -> tuple[object, ...]:
    numbers = (f"{found.claimed:g}", f"{found.measured:.3g}")
    return (found.layer, found.name, *numbers, found.what, found.sample, found.verdict)


def _report_files(folder: Path | None, force: bool) -> tuple[Path, ...]:
    """Where the reports go, checked before anything is measured."""
    from lreorg_fast.files import check_targets

    if folder is None:
        return ()
    return tuple(check_targets(folder, ("audit.json", "audit.md"), force))


def _write(paths: tuple[Path, ...], texts: tuple[str, ...], force: bool) -> None:
    from lreorg_fast.files import atomic_file

    for path, text in zip(paths, texts[: len(paths)], strict=True):
        with atomic_file(path, force) as stream:
            stream.write(text.encode())
