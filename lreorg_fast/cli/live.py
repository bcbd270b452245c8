"""``lreorg live``: a camera, an address, a file or a pipe, anonymized as it runs."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from lreorg_fast.cli.anonymize import anonymize
from lreorg_fast.cli.release import Release
from lreorg_fast.cli.terminal import EXIT_FAILURES, print_json, print_line, say
from lreorg_fast.cli.work import Choices, make_work
from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.live.session import LiveSettings
    from lreorg_fast.live.stats import LiveStats
    from lreorg_fast.privacy import Ledger

# Options of faces and networks mean here what they mean for pictures.
_SHARED = {
    *("method", "hide", "keep", "epsilon", "mechanism", "attribute_rule", "attribute_epsilon"),
    *("clip", "detector", "detector_kind", "longest_side", "threshold", "feather"),
    *("no_colour_match", "budget", "bundle", "device", "backend", "dtype", "precision"),
}

EXAMPLES = """\b
Examples:
  lreorg live 0 --to window --method fill
  lreorg live rtsp://camera/stream --to rtsp://server/live --longest-side 640
  lreorg live in.mp4 --to out.mp4 --method avatar
  ffmpeg -i in.mkv -f rawvideo -pix_fmt rgb24 - | lreorg live - --size 1280x720 --to -
"""


def _size(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", value)
    if found is None:
        raise ConfigError(f"--size is '{value}', but must be WIDTHxHEIGHT, for example 1280x720")
    return int(found[1]), int(found[2])


@click.command(short_help="Anonymize a camera, a stream or a pipe as it runs.", epilog=EXAMPLES)
@click.argument("source")
@click.option(
    "--to",
    "sink",
    required=True,
    metavar="SINK",
    help="window, - (raw frames to stdout), an address (rtsp, rtmp, http, udp, tcp, srt, rtp), or "
    "a file.",
)
@click.option(
    "--every-frame/--newest-frame",
    "every",
    default=None,
    help="Drop nothing and let the source wait, or drop what is not processed in time.  "
    "[default: every frame of files and pipes, the newest of cameras and addresses]",
)
@click.option(
    "--timeout",
    type=float,
    help="Seconds that one frame may take; one that takes longer is blank.  [default: 5]",
)
@click.option(
    "--hold",
    type=float,
    help="Seconds for which a face that is not found any more stays covered.  [default: 2]",
)
@click.option(
    "--stall",
    type=float,
    help="Seconds without a frame after which the picture turns black.  [default: 2]",
)
@click.option(
    "--retries",
    type=int,
    help="Attempts to connect again to a source or sink that broke.  [default: 10]",
)
@click.option("--frames", type=int, help="End after so many frames.  [default: no end]")
@click.option(
    "--size",
    callback=_size,
    metavar="WIDTHxHEIGHT",
    help="Of raw frames from -, or what a camera is asked for.",
)
@click.option("--rate", type=float, help="Frames per second of raw frames, or asked of a camera.")
@click.option(
    "--pixel-format",
    metavar="NAME",
    help="Of raw frames, in and out: rgb24, bgr24, rgba or bgra.  [default: rgb24]",
)
@click.option(
    "--container",
    metavar="NAME",
    help="FFmpeg's container for the sink, for example mpegts for -.  [default: by suffix or "
    "scheme; raw frames for -]",
)
@click.option(
    "--codec",
    metavar="NAME",
    help="Encoder: libx264, libx265, libvpx-vp9, libsvtav1, or one of a GPU.  [default: libx264]",
)
@click.option(
    "--quality", type=float, help="Of the encoder; smaller is better.  [default: the encoder's]"
)
@click.option(
    "--stats",
    "interval",
    type=float,
    metavar="SECONDS",
    help="Print rate, latency and counts to stderr every so many seconds.",
)
@click.option("--force", is_flag=True, help="Overwrite a file.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON, on stderr with -.")
@click.option("-q", "--quiet", is_flag=True, help="Print no counts at the end.")
@click.pass_context
def live(
    context: click.Context,
    /,
    source: str,
    sink: str,
    every: bool | None,
    interval: float | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Anonymize SOURCE as it runs: a camera's number, an address, a file, or - for raw frames.

    A frame that is not processed, in time and without an error, is dropped or blank, never shown.
    Ctrl-C ends the run and finishes what is written. docs/live.md says what a live run cannot
    know: a face is covered from the first frame in which it is found.
    """
    from lreorg_fast.batch.work import SceneWork
    from lreorg_fast.live.session import LiveSession
    from lreorg_fast.media.live_sinks import open_sink
    from lreorg_fast.media.live_sources import open_source

    given = {
        name
        for name in options
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    if sink == "-" and sys.stdout.isatty():
        raise ConfigError("frames would go to the terminal; pipe stdout, or name another --to")
    opened = open_source(source, _source_options(source, sink, options))
    target = open_sink(sink, _sink_options(sink, options))
    settings = _settings(options, every, opened.live, interval)
    choices = {name: options[name] for name in _SHARED}
    release = Release(budget=choices.pop("budget"))
    # No time-out of a face: that of a frame, --timeout, holds for all that is done to it.
    named = Choices(
        **choices, faces="scene", allow_no_face=False, face_timeout=0.0, release=release
    )
    work = make_work(named, given & _SHARED, 1)
    assert isinstance(work, SceneWork)
    session = LiveSession(
        opened, work.scene, target, settings, report=lambda stats: say(stats.sentence())
    )
    try:
        with _termination():
            session.run()
    finally:
        ledger = None if work.anonymizer is None else work.anonymizer.ledger
        _print(session.stats, ledger, sink, as_json, quiet)
    if session.stats.blanked or session.stats.source_breaks or session.stats.sink_breaks:
        raise click.exceptions.Exit(EXIT_FAILURES)


for _option in anonymize.params:
    if _option.name in _SHARED:
        live.params.append(_option)


def _source_options(source: str, sink: str, options: dict[str, Any]) -> Any:
    from lreorg_fast.media.live_sources import SourceOptions

    # One name for both ends: a source that has no use for it must not refuse what the sink needs.
    idle = source != "-" and _is_raw(sink, options)
    pixel_format = None if idle else options["pixel_format"]
    return SourceOptions(options["size"], pixel_format, options["rate"])


def _sink_options(sink: str, options: dict[str, Any]) -> Any:
    from lreorg_fast.media.live_sinks import SinkOptions

    return SinkOptions(
        codec=options["codec"],
        quality=options["quality"],
        container=options["container"],
        pixel_format=options["pixel_format"] if _is_raw(sink, options) else None,
        overwrite=options["force"],
    )


def _is_raw(sink: str, options: dict[str, Any]) -> bool:
    return sink == "-" and options["container"] is None


def _settings(
    options: dict[str, Any], every: bool | None, is_live: bool, interval: float | None
) -> LiveSettings:
    from lreorg_fast.live.reader import ReaderSettings
    from lreorg_fast.live.session import LiveSettings

    def named(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if options[name] is not None}

    if not is_live:
        for name in ("stall", "retries"):
            if options[name] is not None:
                raise ConfigError(
                    f"--{name} has no effect with a file or a pipe, whose end is the end; leave it "
                    "out"
                )
    reader = ReaderSettings(
        every=not is_live if every is None else every, **named("stall", "retries")
    )
    return LiveSettings(reader, **named("timeout", "hold", "frames"), interval=interval)


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: what is written is finished."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(stats: LiveStats, ledger: Ledger | None, sink: str, as_json: bool, quiet: bool) -> None:
    """To stderr where stdout carries frames."""
    spent = None if ledger is None else ledger.report()
    if as_json:
        content = stats.to_dict()
        if spent is not None:
            content["ledger"] = {
                "persons": len(spent["tracks"]),
                **{name: spent[name] for name in ("budget", "largest", "statement")},
            }
        print_json(content, err=sink == "-")
    elif not quiet:
        tell = say if sink == "-" else print_line
        tell(stats.sentence())
        if spent is not None and spent["tracks"]:
            tell(
                f"epsilon of a person: at most {spent['largest']}, {len(spent['tracks'])} "
                f"persons. {spent['statement']}"
            )
