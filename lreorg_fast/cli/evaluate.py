"""``lreorg evaluate``: methods compared on one protocol, from folders or run here."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from lreorg_fast.cli.contest import Contest
    from lreorg_fast.evaluation.judging import Keep
    from lreorg_fast.evaluation.measured import Evaluation, MethodResult
    from lreorg_fast.evaluation.observing import Observer
    from lreorg_fast.evaluation.run import Evaluated
    from lreorg_fast.evaluation.settings import EvaluationSettings

_SHOWN = ("psr", "psr_closed_set", "detection", "apr_mean", "fid", "feature_distance")


@click.command(short_help="Compare methods: protection, usefulness, attacks, with intervals.")
@click.argument(
    "folders", nargs=-1, type=click.Path(path_type=Path), metavar="[ORIGINALS OUTPUTS...]"
)
@click.option("--demo", is_flag=True, help="Avatars that no network has seen as originals.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="Run this method here; may be repeated. 'lreorg evaluate --list-methods' shows them.",
)
@click.option("--list-methods", is_flag=True, help="Show the methods that run here, and stop.")
@click.option(
    "--identities",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Table with the columns name,person and any of attributes (0/1) or groups.  "
    "[default: the first folder below ORIGINALS is the person]",
)
@click.option(
    "--judges",
    type=click.Choice(["photographs", "avatars"]),
    default="photographs",
    show_default=True,
    help="Published networks for photographs, or the bundle's own for avatars.",
)
@click.option(
    "--recognizer",
    "recognizers",
    multiple=True,
    metavar="NAME|FILE",
    help="Of 'lreorg weights list', or a file; may be repeated.  [default: all that are here]",
)
@click.option(
    "--clip",
    nargs=2,
    metavar="NAME FILE",
    help="open_clip model that reads attributes, and its weights.  [default: the one that is here]",
)
@click.option("--inception", metavar="FILE", help="Of FID.  [default: the one that is here]")
@click.option(
    "--detector",
    default="centerface",
    show_default=True,
    metavar="centerface|FILE",
    help="Finds faces.",
)
@click.option("--device", default="cpu", show_default=True, help="Where the networks run.")
@click.option(
    "--faces",
    type=click.Choice(["aligned", "scene"]),
    help="What a --method sees in ORIGINALS: one aligned face each, or whole pictures.  "
    "[default: scene; aligned with --judges avatars]",
)
@click.option(
    "--bundle",
    default="demo",
    show_default=True,
    metavar="FOLDER|demo",
    help="Networks of the methods that need some, and of the judges of avatars.",
)
@click.option("--people", type=int, default=500, show_default=True, help="For --demo.")
@click.option("--pictures", type=int, default=2, show_default=True, help="Per person, for --demo.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the people of --demo.")
@click.option("--no-attacks", is_flag=True, help="Leave out the attacks that learn from outputs.")
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Go on where files are not paired or an output cannot be read: an original without an "
    "output counts as not released.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write report.html, report.md and report.json there; while it runs, a private cache.",
)
@click.option(
    "--keep-outputs",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write what each --method made, and was judged by, to a folder of its name there.",
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@click.option("--force", is_flag=True, help="Start over: remove an earlier cache and report.")
@click.option(
    "--keep-cache",
    is_flag=True,
    help="Do not remove the cache at the end. It holds embeddings, which are face data.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that look at pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of a table.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor table.")
def evaluate(
    list_methods: bool,
    output: Path | None,
    resume: bool,
    force: bool,
    keep_cache: bool,
    keep_outputs: Path | None,
    workers: int,
    no_attacks: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare methods of anonymization on one protocol.

    ORIGINALS is a folder of pictures of known people, each OUTPUTS a folder of what one method
    made of them, with the same names. Figures have n and an interval; what cannot be measured has
    its reason. Without folders, --demo compares the methods of this package on avatars. With a
    video and its results in their places, it is measured how calm each result is.

    \b
      lreorg evaluate --demo -o results
      lreorg evaluate originals deepprivacy2 ciagan -o results
      lreorg evaluate originals ours --method blur --method pixelate -o results
      lreorg evaluate talk.mp4 talk_anonymized.mp4 talk_other.mp4
    """
    if list_methods:
        _list_methods()
        return
    from lreorg_fast.cli.calm import are_files, judge_videos, show_calm
    from lreorg_fast.cli.contest import Entry, forget, make_contest, open_cache, open_kept
    from lreorg_fast.evaluation.settings import EvaluationSettings

    given = _given(click.get_current_context())
    if output is None and (resume or force or keep_cache):
        raise ConfigError("--resume, --force and --keep-cache need -o FOLDER, where the cache lies")
    if resume and force:
        raise ConfigError("--resume goes on and --force starts over; give one of them")
    if are_files(options["folders"]):
        evaluation = judge_videos(Entry(**options), given, output, force, quiet)
        show_calm(evaluation, as_json, quiet, output)
        return
    cache = None if output is None else open_cache(output, resume, force)
    contest = make_contest(Entry(**options), given)
    keep = None if keep_outputs is None else open_kept(contest, keep_outputs, resume or force)
    try:
        settings = EvaluationSettings(attacks=not no_attacks)
        evaluated = _run(contest, settings, cache, keep, workers, quiet)
    except KeyboardInterrupt:
        kept = "" if output is None else "; what was measured is kept, go on with --resume"
        raise KeyboardInterrupt(f"interrupted{kept}") from None
    if output is not None:
        _write(evaluated, output, resume or force)
    if cache is not None and not keep_cache:
        forget(cache)
    _show(evaluated.evaluation, as_json, quiet, output)


def _given(context: click.Context) -> list[str]:
    named = click.core.ParameterSource.COMMANDLINE
    plural = {"methods": "method", "recognizers": "recognizer"}
    return [
        plural.get(name, name)
        for name in context.params
        if context.get_parameter_source(name) == named
    ]


def _run(
    contest: Contest,
    settings: EvaluationSettings,
    cache: Path | None,
    keep: Keep | None,
    workers: int,
    quiet: bool,
) -> Evaluated:
    from lreorg_fast.evaluation.answers import Answers
    from lreorg_fast.evaluation.attackers import photograph_attackers
    from lreorg_fast.evaluation.finished import FinishedMethods
    from lreorg_fast.evaluation.observing import Observer
    from lreorg_fast.evaluation.run import evaluate as run

    with contextlib.ExitStack() as stack:
        answers = None if cache is None else stack.enter_context(Answers(cache))
        observer: Observer = stack.enter_context(Observer(contest.make_judges, answers, workers))
        if not quiet:
            for name, reason in observer.judges.missing.items():
                say(f"not measured: {name}: {reason}")
        return run(
            contest.originals,
            contest.contenders,
            observer,
            settings,
            training=contest.training,
            make_attackers=contest.make_attackers or photograph_attackers,
            finished=None if cache is None else FinishedMethods(cache),
            keep=keep,
            stage=partial(progress_bar, visible=not quiet),
            command=shlex.join(["lreorg", *sys.argv[1:]]),
        )


def _write(evaluated: Evaluated, folder: Path, overwrite: bool) -> None:
    from lreorg_fast.evaluation.report import FeatureSet, write_report

    people = [f"person {number}" for number in evaluated.people.tolist()]
    clusters = [
        FeatureSet(f"embeddings, {name}", features, people)
        for name, features in evaluated.features.items()
    ]
    write_report(evaluated.evaluation, folder, evaluated.samples, clusters, overwrite)


def _show(evaluation: Evaluation, as_json: bool, quiet: bool, output: Path | None) -> None:
    if as_json:
        print_json(evaluation.to_dict())
    elif not quiet:
        print_table(("method", *_SHOWN), (_row(method) for method in evaluation.methods))
        print_line(evaluation.data["statement"])
        if output is not None:
            print_line(f"{output / 'report.html'}")
    reasons = [e.reason for m in evaluation.methods for e in m.all("psr") if e.reason is not None]
    if not any(e.figure for m in evaluation.methods for e in m.all("psr")):
        fail(f"protection could not be measured: {reasons[0] if reasons else 'no figure'}")
        raise click.exceptions.Exit(EXIT_FAILURES)


def _row(method: MethodResult) -> Sequence[object]:
    return (method.title, *(_cell(method, metric) for metric in _SHOWN))


def _cell(method: MethodResult, metric: str) -> str:
    """The worst figure of several recognizers is the one that counts."""
    from lreorg_fast.evaluation.measured import METRICS

    figures = [
        entry.figure
        for entry in method.all(metric)
        if entry.figure is not None and "group" not in entry.where
    ]
    if not figures:
        return "-"
    lower = METRICS[metric].better == "lower"
    worst = (max if lower else min)(figures, key=lambda figure: figure.value)
    return f"{worst.value:.3f}"


def _list_methods() -> None:
    from lreorg_fast.evaluation.methods import METHODS

    print_table(
        ("name", "what", "promise"),
        ((name, info.description, info.guarantee) for name, info in METHODS.items()),
    )
