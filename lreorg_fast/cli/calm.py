"""``lreorg evaluate`` with videos: how calm each result is, beside the source."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from functools import partial
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
    say,
)
from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.cli.contest import Entry
    from lreorg_fast.evaluation.clips import Cut
    from lreorg_fast.evaluation.measured import Evaluation, MethodResult

_METRICS = ("flicker_identity", "flicker_landmarks")
# Of pictures: nothing here listens to them.
_IDLE = (
    *("method", "identities", "faces", "people", "pictures", "seed", "allow_missing", "clip"),
    *("inception", "no_attacks", "keep_outputs", "resume", "keep_cache", "workers", "device"),
)


def are_files(places: Sequence[Path]) -> bool:
    """Whether the first place is a file; folders are what pictures lie in."""
    return bool(places) and places[0].is_file()


def judge_videos(
    entry: Entry, given: Collection[str], output: Path | None, force: bool, quiet: bool
) -> Evaluation:
    """Measure the results ``entry.folders[1:]`` of the video ``entry.folders[0]``.

    Raises:
        LReorgError: options that have no effect, videos that do not belong together.
    """
    from lreorg_fast.cli.contest import AVATARS, choose_judges
    from lreorg_fast.cli.work import refuse
    from lreorg_fast.evaluation.clips import evaluate_videos, with_surroundings
    from lreorg_fast.evaluation.report import check_report, write_report
    from lreorg_fast.faces import load_detector

    if entry.demo:
        raise ConfigError(f"--demo draws its own originals; leave '{entry.folders[0]}' out")
    refuse(given, _IDLE, "on videos")
    source, *results = entry.folders
    if not results:
        raise ConfigError(f"nothing is compared with '{source}': name the videos made of it")
    if output is not None:
        check_report(output, force)
    judges = choose_judges(entry, given)()
    if not quiet:
        for name in ("recognizers", "finder"):
            if name in judges.missing:
                say(f"not measured: {name}: {judges.missing[name]}")
    avatars = entry.judges == AVATARS
    evaluation = evaluate_videos(
        source,
        results,
        load_detector(entry.detector),
        judges,
        "avatars" if avatars else "photographs",
        cut=_portraits(entry.bundle) if avatars else with_surroundings,
        stage=partial(progress_bar, visible=not quiet),
        command=shlex.join(["lreorg", *sys.argv[1:]]),
    )
    if output is not None:
        write_report(evaluation, output, overwrite=force)
    return evaluation


def _portraits(bundle: str) -> Cut:
    from lreorg_fast.demo.evaluating import portrait_cut

    return portrait_cut(bundle)


def show_calm(evaluation: Evaluation, as_json: bool, quiet: bool, output: Path | None) -> None:
    """Print it; exit code 1 if nothing could be measured."""
    if as_json:
        print_json(evaluation.to_dict())
    elif not quiet:
        print_table(("result", *_METRICS), map(_row, evaluation.methods))
        print_line(evaluation.data["statement"])
        if output is not None:
            print_line(f"{output / 'report.html'}")
    entries = [entry for method in evaluation.methods for entry in method.measured]
    if not any(entry.figure for entry in entries):
        fail(f"flicker could not be measured: {entries[0].reason}")
        raise click.exceptions.Exit(EXIT_FAILURES)


def _row(method: MethodResult) -> tuple[str, ...]:
    return (method.title, *(_cell(method, metric) for metric in _METRICS))


def _cell(method: MethodResult, metric: str) -> str:
    """That of the recognizer to which the face flickers most."""
    figures = [entry.figure for entry in method.all(metric) if entry.figure is not None]
    if not figures:
        return "-"
    worst = max(figures, key=lambda figure: figure.value)
    return f"{worst.value:.4g} [{worst.low:.4g}, {worst.high:.4g}]"
