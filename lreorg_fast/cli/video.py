"""The part of ``lreorg anonymize`` that is about videos, and ``lreorg verify``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
    from lreorg_fast.batch import Work
    from lreorg_fast.cli.terminal import Bar
    from lreorg_fast.cli.work import Choices
    from lreorg_fast.video import VerifyReport, VideoFiles, VideoReport, VideoSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])
_KEEP = click.Choice(["keep", "drop"])
_OPTIONS = (
    click.option(
        "--audio",
        type=_KEEP,
        default="keep",
        show_default=True,
        help="Of videos: the sound. A voice identifies its speaker.",
    ),
    click.option(
        "--subtitles",
        type=_KEEP,
        default="keep",
        show_default=True,
        help="Of videos: they may name people.",
    ),
    click.option(
        "--data",
        type=_KEEP,
        default="drop",
        show_default=True,
        help="Of videos: data streams, in which cameras write their position.",
    ),
    click.option(
        "--codec",
        metavar="NAME",
        help="Of videos: libx264, libx265, libvpx-vp9, libsvtav1, or on NVIDIA GPUs h264_nvenc, "
        "hevc_nvenc, av1_nvenc.  [default: that of the source's family]",
    ),
    click.option(
        "--quality",
        type=float,
        help="Of videos: constant quality of the encoder (CRF), smaller is better.  "
        "[default: 18 for libx264]",
    ),
    click.option(
        "--hwaccel",
        metavar="NAME",
        help="Of videos: what decodes, such as cuda.  [default: the CPU]",
    ),
    click.option(
        "--segment-frames",
        type=int,
        default=240,
        show_default=True,
        help="Of videos: so many frames are lost at most by an interruption.",
    ),
    click.option(
        "--max-seconds",
        type=float,
        help="Of videos: longer ones are refused.  [default: 36000]",
    ),
)
NAMES = (
    *("audio", "subtitles", "data", "codec", "quality"),
    *("hwaccel", "segment_frames", "max_seconds"),
)
_WORDS = {
    "find": "finding faces",
    "edit": "anonymizing",
    "write": "writing",
    "check": "checking",
    "restore": "restoring",
}
_MOST_LINES = 10  # of exposed faces that verify names
# Options of pictures that a video has no use for.
_OF_PICTURES = ("faces", "allow_no_face")


def video_options(command: _Command) -> _Command:
    """Add the options of videos to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def are_videos(inputs: Sequence[Path]) -> bool:
    """Whether all inputs are files that are videos, by their content."""
    from lreorg_fast.media.video import container_of

    return all(path.is_file() and container_of(path) is not None for path in inputs)


def refuse_for_pictures(given: Collection[str]) -> None:
    """Raises ConfigError for an option of videos that was named for pictures."""
    for name in NAMES:
        if name in given:
            raise ConfigError(f"--{name.replace('_', '-')} is for videos; leave it out")


@dataclass(frozen=True)
class Run:
    """What ``lreorg anonymize`` was told beside the settings of pictures and videos."""

    inputs: tuple[Path, ...]
    output: Path | None
    report: Path | None
    resume: bool
    force: bool
    as_json: bool
    quiet: bool


def anonymize_videos(run: Run, choices: Choices, given: Collection[str], options: Any) -> None:
    """Every video, one after another; ends with the exit code of the command.

    Raises:
        LReorgError: of the first video that fails.
    """
    from lreorg_fast.cli.work import make_scene, refuse
    from lreorg_fast.video import anonymize_video

    refuse(given, _OF_PICTURES, "on videos")
    refuse(given, ["workers"], "on videos, which are done one after another")
    refuse(given, ["only", "except"], "on videos that are named; it is for folders")
    targets = _targets(run)
    _check_report(run)
    parts = make_scene(choices, given, run.inputs)
    settings = _settings(options, choices.face_timeout)
    _warn_of_sound(settings, run.quiet)
    reports: list[VideoReport] = []
    for source, target in zip(run.inputs, targets, strict=True):
        with Stages(visible=not run.quiet) as stages:
            made = anonymize_video(
                parts.anonymizer,
                parts.detector,
                source,
                target,
                scene=parts.settings,
                video=settings,
                attributes=parts.attributes,
                subjects=parts.subjects,
                sealer=parts.sealer,
                resume=run.resume,
                overwrite=run.force,
                progress=stages,
            )
        reports.append(made)
    _tell(run, reports)
    if not all(made.complete for made in reports):
        raise click.exceptions.Exit(EXIT_FAILURES)


def make_videos(
    work: Work, choices: Choices, given: Collection[str], options: Any, bar: Bar, quiet: bool
) -> VideoFiles | None:
    """What makes the videos among pictures; None where ``work`` can be done to pictures only.

    Raises:
        ConfigError: an option of videos that would have no effect, or is wrong.
    """
    from lreorg_fast.cli.work import scene_work_of
    from lreorg_fast.video import VideoFiles

    scenes = scene_work_of(work)
    if scenes is None:
        refuse_for_pictures(given)
        return None
    settings = _settings(options, choices.face_timeout)
    _warn_of_sound(settings, quiet)

    def tell(source: Path, stage: str, done: int, total: int | None) -> None:
        bar.tell(f"{source.name}: {_WORDS[stage]}, {done} of {total or 'unknown'} frames")

    return VideoFiles(scenes, settings, tell)


def _warn_of_sound(settings: VideoSettings, quiet: bool) -> None:
    if settings.streams.audio == "keep" and not quiet:
        say("sound is kept where there is some, and a voice identifies: --audio drop removes it")


def _settings(options: Any, face_timeout: float) -> VideoSettings:
    from lreorg_fast.media.encoding import EncoderSettings
    from lreorg_fast.media.muxing import StreamPolicy
    from lreorg_fast.media.video import VideoLimits
    from lreorg_fast.video import VideoSettings

    seconds = options["max_seconds"]
    return VideoSettings(
        encoder=EncoderSettings(options["codec"], options["quality"]),
        streams=StreamPolicy(options["audio"], options["subtitles"], options["data"]),
        limits=VideoLimits() if seconds is None else VideoLimits(max_seconds=seconds),
        hwaccel=options["hwaccel"],
        segment_frames=options["segment_frames"],
        face_timeout=face_timeout,
    )


def _targets(run: Run) -> list[Path]:
    from lreorg_fast.media.muxing import muxer_of
    from lreorg_fast.video import default_target

    if run.output is None:
        return [default_target(source) for source in run.inputs]
    if run.output.suffix and not run.output.is_dir():
        muxer_of(run.output)  # or something like out.avi would become a folder
        if len(run.inputs) > 1:
            raise ConfigError(f"{len(run.inputs)} videos cannot go to one file; name a folder")
        return [run.output]
    names = [default_target(source).name.replace("_anonymized", "", 1) for source in run.inputs]
    if len({name.casefold() for name in names}) < len(names):
        raise ConfigError("two of the videos have one name; do them in runs of their own")
    from lreorg_fast.files import make_folder

    make_folder(run.output)
    return [run.output / name for name in names]


def _check_report(run: Run) -> None:
    from lreorg_fast.files import check_target

    if run.report is not None:
        check_target(run.report, run.force or run.resume)


def _tell(run: Run, reports: list[VideoReport]) -> None:
    import json

    from lreorg_fast.files import atomic_file

    content = {"videos": [made.to_dict() for made in reports]}
    if run.report is not None:
        with atomic_file(run.report, run.force or run.resume) as stream:
            stream.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    for made in reports:
        if made.blanked:
            fail(f"{made.blanked} frames of {made.source} were blanked: the detector failed")
        filled = sum(track.seen_filled for track in made.tracks)
        if filled:
            reasons = sorted({reason for track in made.tracks for reason in track.reasons})
            fail(f"{filled} faces of {made.source} were filled: {'; '.join(reasons)}")
    if run.as_json:
        print_json(content)
        return
    if run.quiet:
        return
    for made in reports:
        _summary(made)


def _summary(made: VideoReport) -> None:
    print_table(
        ("person", "frames", "replaced", "filled", "pixelated", "epsilon", "flicker"),
        (
            (
                track.track,
                f"{track.first}-{track.last}",
                track.replaced,
                track.filled,
                track.pixelated,
                f"{track.epsilon:g}",
                _flicker(track.flicker),
            )
            for track in made.tracks
        ),
    )
    print_line(
        f"{made.target}: {made.frames} frames, {made.faces} faces of {len(made.tracks)} persons, "
        f"{made.exposed} exposed"
    )
    if made.bundle:
        print_line(f"epsilon: at most {made.ledger['largest']}. {made.ledger['statement']}")
    if made.seal is not None:
        print_line(f"{made.to_dict()['sealed']} Seal: {made.seal}")


def _flicker(values: Any) -> str:
    """Identity's spread in the result, and the source's."""
    if values is None or values["identity_result"] is None:
        return ""
    return f"{values['identity_result']:.2f} ({values['identity_source']:.2f})"


class Stages:
    """One progress bar after another, as the passes begin."""

    def __init__(self, visible: bool) -> None:
        self._visible = visible
        self._stack = contextlib.ExitStack()
        self._stage = ""
        self._bar: Callable[[int, int], None] = lambda done, total: None

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            self._stack.close()
            self._stack = contextlib.ExitStack()
            self._bar = self._stack.enter_context(
                progress_bar(_WORDS[stage], visible=self._visible)
            )
            self._stage = stage
        self._bar(done, max(done, total or 0))


EXAMPLES = """\b
Examples:
  lreorg verify in.mp4 in_anonymized.mp4
  lreorg verify group.jpg group_anonymized.jpg --bundle none --json
"""


@click.command(
    short_help="Look for every face of a picture or video in its result.", epilog=EXAMPLES
)
@click.argument("source", type=click.Path(path_type=Path), metavar="IN")
@click.argument("result", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--bundle",
    default="demo",
    show_default=True,
    metavar="FOLDER|demo|none",
    help="Whose recognizer judges; none is the pixels only.",
)
@click.option(
    "--detector",
    default="centerface",
    show_default=True,
    metavar="centerface|FILE",
    help="Finds faces, see lreorg anonymize.",
)
@click.option(
    "--threshold",
    type=float,
    help="Least score of a face, above 0 to 1.  [default: that of lreorg anonymize]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of a sentence.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor sentence.")
def verify(
    source: Path,
    result: Path,
    bundle: str,
    detector: str,
    threshold: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Look for every face of IN at its place in OUT.

    A face is exposed if its pixels are those of the source or the recognizer of the bundle takes
    it for the same person. Exit code 1 if one is. A mosaic (--method pixelate) may be recognized:
    it is no protection.
    """
    from lreorg_fast.faces import load_detector
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.scene.settings import DEFAULT_THRESHOLD
    from lreorg_fast.video import verify_pair

    judge = None if bundle == "none" else Anonymizer.load(bundle)
    with progress_bar("verifying", visible=not quiet) as progress:
        report = verify_pair(
            source,
            result,
            load_detector(detector),
            judge,
            threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
            progress=lambda done, total: progress(done, total or done),
        )
    for face in report.listed[:_MOST_LINES]:
        fail(f"frame {face.frame}, box {list(face.box)}: {face.reason}")
    if report.exposed > _MOST_LINES:
        fail(f"and {report.exposed - _MOST_LINES} more; --json has the first {len(report.listed)}")
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        print_line(_verdict(report))
    if report.exposed:
        raise click.exceptions.Exit(EXIT_FAILURES)


def _verdict(report: VerifyReport) -> str:
    judged = "" if report.recognizer is None else f" by the recognizer of '{report.recognizer}'"
    told = (
        f"{report.faces} faces in {report.frames} frames: {report.replaced} replaced, "
        f"{report.covered} covered, {report.exposed} exposed"
    )
    unknown = f"; {report.unjudged} are not of its domain and were judged by their pixels only"
    return told + judged + (unknown if report.unjudged else "")
