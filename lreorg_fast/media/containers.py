"""Which files are opened as videos, and how: hostile ones are refused before they are decoded.

The content of a file decides, never its name. Playlists (HLS, DASH, ffconcat) and everything else
that makes FFmpeg open further files or the network is refused: only the containers of
:data:`CONTAINERS` are let in, and nothing but the one open file is ever read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from lreorg_fast.errors import ConfigError, MissingExtra, VideoError

# What each container looks like near its start: FFmpeg's name, then (offset, bytes) that must fit.
CONTAINERS: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    *(("mov", ((4, kind),)) for kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    ("matroska", ((0, b"\x1a\x45\xdf\xa3"),)),
    ("avi", ((0, b"RIFF"), (8, b"AVI "))),
    ("mpegts", ((0, b"G"), (188, b"G"))),
    ("mpegts", ((4, b"G"), (196, b"G"))),  # of cameras: a time stamp before every packet
    ("flv", ((0, b"FLV\x01"),)),
    ("ogg", ((0, b"OggS"),)),
)
_PICTURE_BRANDS = (b"heic", b"heix", b"heif", b"mif1", b"avif", b"hevc", b"heim", b"heis")
_SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_SOUND_IN_OGG = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_WHITELIST = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,ogg"
_MOST_STREAMS = 64
_EXTRA = "reading and writing video needs PyAV; install lreorg_fast[video]"


def import_av() -> Any:
    """PyAV, which only video needs.

    Raises:
        MissingExtra: it is not installed, or older than the extra asks for.
    """
    try:
        import av
        from av.video.stream import VideoStream
    except ImportError as error:
        raise MissingExtra(_EXTRA) from error
    if not hasattr(VideoStream, "set_display_matrix"):
        raise MissingExtra(f"PyAV {av.__version__} cannot write rotations; {_EXTRA}")
    # FFmpeg and SVT write to stderr by themselves otherwise, and lines may hold names of files.
    av.logging.set_level(None)
    os.environ.setdefault("SVT_LOG", "1")
    return av


@dataclass(frozen=True)
class VideoLimits:
    """What is decoded at most; more is an error and not a shorter video.

    Args:
        max_frames: number of frames; the default is ten hours at 30 per second.
        max_pixels: width x height of a frame; the default is that of 8K.
        max_seconds: from the first frame to the end of the last.
    """

    max_frames: int = 1_080_000
    max_pixels: int = 8192 * 4320
    max_seconds: float = 36_000.0

    def __post_init__(self) -> None:
        for name in ("max_frames", "max_pixels", "max_seconds"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"{name} is {value}, but must be above 0")


def container_of(path: str | os.PathLike[str]) -> str | None:
    """Which container of :data:`CONTAINERS` a file's content is; None for everything else.

    Raises:
        VideoError: the file cannot be read.
    """
    return _container(_start_of(Path(path)))


def kind_of(path: str | os.PathLike[str]) -> Literal["video", "picture", "sound"] | None:
    """What a file of a folder is, by its first bytes; None for everything else.

    Phones write pictures (HEIC, AVIF) and sound (M4A) into the containers of videos, and a picture
    that no reader takes is not to be mistaken for a video, nor for nothing.

    Raises:
        VideoError: the file cannot be read.
    """
    start = _start_of(Path(path))
    if start[4:8] == b"ftyp" and start[8:12] in _PICTURE_BRANDS:
        return "picture"
    if start[4:8] == b"ftyp" and start[8:12] in _SOUND_BRANDS:
        return "sound"
    if start[:4] == b"OggS" and start[28:36].startswith(_SOUND_IN_OGG):
        return "sound"
    return None if _container(start) is None else "video"


def _start_of(source: Path) -> bytes:
    with open_regular(source) as stream:
        try:
            return stream.read(256)
        except OSError as error:  # a file of the system, for example
            raise VideoError(f"cannot read '{source}': {error.strerror or error}") from error


def open_regular(source: Path) -> BinaryIO:
    """Open a regular file for reading; named pipes, folders and devices are refused.

    Raises:
        VideoError: with the reason.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer for ever.
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"cannot read '{source}': {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VideoError(f"cannot read '{source}': it is not a regular file; name a video")
    return os.fdopen(descriptor, "rb")


@contextlib.contextmanager
def open_container(
    path: str | os.PathLike[str],
    limits: VideoLimits | None = None,
    hwaccel: str | None = None,
) -> Iterator[Any]:
    """PyAV's input container of one local file.

    Args:
        path: the file. Its name decides nothing.
        limits: ``max_pixels`` goes to the decoders, which refuse before they allocate.
        hwaccel: device type that decodes, for example ``cuda``; None is the CPU.

    Raises:
        VideoError: missing, empty, of another kind, damaged, or ``hwaccel`` cannot run here.
        MissingExtra: PyAV is not installed.
    """
    av = import_av()
    limits = limits or VideoLimits()
    source = Path(path)
    with open_regular(source) as stream:
        demuxer = _checked_start(source, stream)
        options = {
            "format_whitelist": _WHITELIST,
            "max_streams": str(_MOST_STREAMS),
            "max_pixels": str(limits.max_pixels),
        }
        accelerator = _accelerator(hwaccel)
        try:
            container = av.open(
                stream, "r", demuxer, options, io_open=_refuse_more, hwaccel=accelerator
            )
        except (av.error.FFmpegError, RuntimeError, OSError, ValueError) as error:
            if hwaccel is not None:
                raise _no_hardware(hwaccel) from error
            raise VideoError(
                f"'{source}' is damaged, truncated or not a video that is read here "
                f"({words(error)}); copy it again from its source"
            ) from error
        with container:
            yield container


def video_stream(container: Any, source: Path, limits: VideoLimits) -> Any:
    """The one video stream of a container, checked by what its header claims.

    Raises:
        VideoError: there is none, there are several, or it is beyond the limits.
    """
    streams = [s for s in container.streams.video if not is_picture(s)]
    if len(streams) != 1:
        raise VideoError(
            f"'{source}' has {len(streams) or 'no'} video streams, but exactly one is "
            "anonymized; export the wanted one"
        )
    (stream,) = streams
    context = stream.codec_context
    if context is None:
        raise VideoError(f"'{source}' has a video codec that this FFmpeg cannot decode")
    if not 0 < context.width * context.height <= limits.max_pixels:
        raise VideoError(
            f"'{source}' has frames of {context.width} x {context.height} pixels, at most "
            f"{limits.max_pixels} are decoded; scale it down or raise max_pixels"
        )
    if stream.frames > limits.max_frames:
        raise too_long(source, f"{stream.frames} frames", f"{limits.max_frames} frames")
    seconds = _seconds(container, stream)
    if seconds is not None and seconds > limits.max_seconds:
        raise too_long(source, f"{seconds:.0f} seconds", f"{limits.max_seconds:g} seconds")
    return stream


def _container(start: bytes) -> str | None:
    for name, signs in CONTAINERS:
        if all(start[offset : offset + len(sign)] == sign for offset, sign in signs):
            return name
    return None


def _checked_start(source: Path, stream: BinaryIO) -> str:
    start = stream.read(256)
    stream.seek(0)
    if not start:
        raise VideoError(f"'{source}' is empty; copy it again from its source")
    found = _container(start)
    if found is None:
        known = ", ".join(dict.fromkeys(name for name, _ in CONTAINERS))
        raise VideoError(
            f"'{source}' is not a video that is read here; convert it to one of {known}"
        )
    return found


def _refuse_more(url: str, _flags: int, _options: object) -> BinaryIO:
    raise PermissionError("the file refers to another file, and only itself is read")


def _accelerator(hwaccel: str | None) -> Any:
    if hwaccel is None:
        return None
    from av.codec.hwaccel import HWAccel, hwdevices_available

    if hwaccel not in hwdevices_available():
        raise _no_hardware(hwaccel)
    return HWAccel(hwaccel, allow_software_fallback=False)


def _no_hardware(hwaccel: str) -> VideoError:
    from av.codec.hwaccel import hwdevices_available

    return VideoError(
        f"hwaccel '{hwaccel}' cannot decode this video here (this FFmpeg knows "
        f"{', '.join(hwdevices_available()) or 'none'}, each needs its driver and device); leave "
        "it out to decode on the CPU"
    )


def is_picture(stream: Any) -> bool:
    """Cover art or another still picture that poses as a video stream."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return bool(stream.disposition & still)


def _seconds(container: Any, stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1_000_000


def too_long(source: Path, what: str, limit: str) -> VideoError:
    """The error of a limit on the length."""
    return VideoError(
        f"'{source}' is too long ({what}, at most {limit} are decoded); cut it or raise the limit"
    )


def words(error: BaseException) -> str:
    """FFmpeg's reason without the name of the file, which is said already."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
