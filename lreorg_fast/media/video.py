"""Videos in: hostile files are refused before they are decoded, every time stamp is kept.

Reading decides by the content of a file, never by its name. Playlists (HLS, DASH, ffconcat) and
everything else that makes FFmpeg open further files or the network is refused: only the
containers of :data:`CONTAINERS` are let in, and nothing but the one open file is ever read.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lreorg_fast.errors import ConfigError, MissingExtra, VideoError
from lreorg_fast.media.orientation import MATRIX_BYTES, Orientation
from lreorg_fast.media.pictures import Picture

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
_WHITELIST = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,ogg"
_MOST_STREAMS = 64
_converters = threading.local()
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


@dataclass(frozen=True)
class StreamInfo:
    """One other stream of a container: its index, ``audio``, ``subtitle`` ..., and its codec."""

    index: int
    kind: str
    codec: str


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself, and what the first decoded frame confirmed.

    Attributes:
        container: FFmpeg's name of the demuxer.
        codec: of the video stream, for example ``h264``.
        width, height: of a frame as it is stored.
        pixel_format: FFmpeg's name of it, for example ``yuv420p10le``.
        time_base: seconds per unit of a time stamp.
        rate: average frames per second; None if the container does not know.
        expected_frames: as the container counts them; 0 if it does not.
        duration: in seconds as the container says; None if it does not.
        color_range, color_primaries, color_transfer, color_space: FFmpeg's numbers; 2 (range: 0)
            is unspecified.
        sample_aspect: width of a pixel by its height; None if not given.
        interlaced: frames consist of two fields.
        orientation: how frames are turned before they are seen.
        others: every other stream of the file; cover art has the kind ``picture``.
    """

    container: str
    codec: str
    width: int
    height: int
    pixel_format: str
    time_base: Fraction
    rate: Fraction | None
    expected_frames: int
    duration: float | None
    color_range: int
    color_primaries: int
    color_transfer: int
    color_space: int
    sample_aspect: Fraction | None
    interlaced: bool
    orientation: Orientation
    others: tuple[StreamInfo, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as seen."""
        size = (self.width, self.height)
        return size[::-1] if self.orientation.transpose else size


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One decoded frame.

    Attributes:
        number: position in the order of display, from 0.
        pts: time stamp in units of the video's time base.
        duration: in the same units; 0 if unknown.
        raw: PyAV's frame, as stored.
    """

    number: int
    pts: int
    duration: int
    raw: Any = field(repr=False)

    def picture(self, orientation: Orientation) -> Picture:
        """(height, width, 3) uint8 RGB, upright."""
        return orientation.upright(to_rgb(self.raw))


def to_rgb(raw: Any) -> Picture:
    """(height, width, 3) uint8 RGB of a decoded frame, as stored."""
    converter = getattr(_converters, "converter", None)
    if converter is None:
        from av.video.reformatter import VideoReformatter

        # One per thread: making one takes ten times as long as converting a small frame.
        converter = _converters.converter = VideoReformatter()
    return np.asarray(converter.reformat(raw, format="rgb24").to_ndarray(), dtype=np.uint8)


def container_of(path: str | os.PathLike[str]) -> str | None:
    """Which container of :data:`CONTAINERS` a file's content is; None for everything else.

    Raises:
        VideoError: the file cannot be read.
    """
    with open_regular(Path(path)) as stream:
        start = stream.read(256)
    return _container(start)


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
                f"({_words(error)}); copy it again from its source"
            ) from error
        with container:
            yield container


def video_stream(container: Any, source: Path, limits: VideoLimits) -> Any:
    """The one video stream of a container, checked by what its header claims.

    Raises:
        VideoError: there is none, there are several, or it is beyond the limits.
    """
    streams = [s for s in container.streams.video if not _is_picture(s)]
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
        raise _too_long(source, f"{stream.frames} frames", f"{limits.max_frames} frames")
    seconds = _seconds(container, stream)
    if seconds is not None and seconds > limits.max_seconds:
        raise _too_long(source, f"{seconds:.0f} seconds", f"{limits.max_seconds:g} seconds")
    return stream


class VideoReader:
    """Decodes the frames of one file in the order of display, any number of times.

    Args:
        path: the file.
        limits: checked on what the header claims, and again on what is decoded.
        hwaccel: see :func:`open_container`.

    Raises:
        VideoError, MissingExtra: see :func:`open_container` and :func:`video_stream`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: VideoLimits | None = None,
        hwaccel: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.limits = limits or VideoLimits()
        self.hwaccel = hwaccel
        with open_container(self.path, self.limits, hwaccel) as container:
            stream = video_stream(container, self.path, self.limits)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise VideoError(f"'{self.path}' has no frame that can be decoded")
            self.info = _described(container, stream, first)

    def frames(self, start: int = 0) -> Iterator[SourceFrame]:
        """Every frame from number ``start`` on.

        Frames before it are decoded too and dropped, because seeking is not exact in every
        container.

        Raises:
            VideoError: a frame is damaged, has no time stamp, has that of the one before or an
                earlier one, or another size or format than the first; or a limit is passed.
        """
        with open_container(self.path, self.limits, self.hwaccel) as container:
            stream = video_stream(container, self.path, self.limits)
            checks = _Checks(self.path, self.info, self.limits)
            for number, raw in enumerate(self._decoded(container, stream)):
                checks(number, raw)
                if number >= start:
                    yield SourceFrame(number, raw.pts, raw.duration or 0, raw)

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        av = import_av()
        packets = 0
        try:
            for packet in container.demux(stream):
                packets += packet.size > 0
                yield from packet.decode()
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(
                f"'{self.path}' is damaged or truncated ({_words(error)}); copy it again from its "
                "source"
            ) from error
        if packets < stream.frames:  # not frames: an edit list may hide some of them
            raise VideoError(
                f"'{self.path}' is truncated: {stream.frames - packets} of {stream.frames} frames "
                "are missing; copy it again from its source"
            )


class _Checks:
    """What every decoded frame must be."""

    def __init__(self, path: Path, info: VideoInfo, limits: VideoLimits) -> None:
        self._path, self._info, self._limits = path, info, limits
        self._first = self._last = 0

    def __call__(self, number: int, raw: Any) -> None:
        if number >= self._limits.max_frames:
            raise _too_long(self._path, "more frames", f"{self._limits.max_frames} frames")
        if raw.is_corrupt:
            raise self._damaged(f"frame {number} is damaged")
        if raw.pts is None or raw.time_base != self._info.time_base:
            raise self._damaged(f"frame {number} has no time stamp; put the video into Matroska")
        if number and raw.pts <= self._last:
            raise self._damaged(f"frame {number} is not later than the one before")
        here = (raw.width, raw.height)
        if here != (self._info.width, self._info.height):
            raise self._damaged(f"frame {number} has another size than the first")
        self._first = self._first if number else raw.pts
        self._last = raw.pts
        seconds = float((self._last - self._first) * self._info.time_base)
        if seconds > self._limits.max_seconds:
            raise _too_long(self._path, "more", f"{self._limits.max_seconds:g} seconds")

    def _damaged(self, what: str) -> VideoError:
        return VideoError(f"'{self._path}' cannot be anonymized frame by frame: {what}")


# ---- details


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


def _is_picture(stream: Any) -> bool:
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return bool(stream.disposition & still)


def _kind(stream: Any) -> str:
    return "picture" if stream.type == "video" and _is_picture(stream) else str(stream.type)


def _described(container: Any, stream: Any, first: Any) -> VideoInfo:
    side = first.side_data.get("DISPLAYMATRIX")
    content = bytes(side)[:MATRIX_BYTES] if side is not None else None
    duration = container.duration
    return VideoInfo(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        time_base=stream.time_base,
        rate=stream.average_rate or None,
        expected_frames=stream.frames,
        duration=None if duration is None else duration / 1_000_000,
        color_range=int(first.color_range),
        color_primaries=int(first.color_primaries),
        color_transfer=int(first.color_trc),
        color_space=int(first.colorspace),
        sample_aspect=stream.sample_aspect_ratio or None,
        interlaced=bool(first.interlaced_frame),
        orientation=Orientation() if content is None else Orientation.of_matrix(content),
        others=tuple(
            StreamInfo(s.index, _kind(s), getattr(s.codec_context, "name", None) or "unknown")
            for s in container.streams
            if s.index != stream.index
        ),
    )


def _seconds(container: Any, stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1_000_000


def _too_long(source: Path, what: str, limit: str) -> VideoError:
    return VideoError(
        f"'{source}' is too long ({what}, at most {limit} are decoded); cut it or raise the limit"
    )


def _words(error: BaseException) -> str:
    """FFmpeg's reason without the name of the file, which is said already."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
