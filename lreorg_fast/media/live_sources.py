"""Where live frames come from: cameras, addresses, files, raw pipes.

A source can be opened again after it broke. What a frame's header claims is checked before it is
decoded, and nothing that a source says makes FFmpeg read a local file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.urls import is_url, scheme_of, without_secrets
from lreorg_fast.media.video import VideoLimits, VideoReader, import_av

# Raw pixels: FFmpeg's name of the format, bytes per pixel, and where red, green and blue are in it.
PIXEL_FORMATS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb24": (3, (0, 1, 2)),
    "bgr24": (3, (2, 1, 0)),
    "rgba": (4, (0, 1, 2)),
    "bgra": (4, (2, 1, 0)),
}
DEFAULT_PIXEL_FORMAT = "rgb24"
DEFAULT_RATE = 30.0
_HIGHEST_RATE = 1000
# Demuxers that may be chosen for what comes from the network. Others open further files.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,live_flv,ogg,hls,rtsp,rtp,"
    "mpjpeg,mjpeg,h264,hevc,mpeg"
)
# Frames as soon as they are there: where FFmpeg is not sure, it looks at a stream for 5 s. Its
# "nobuffer" would drop what it has read meanwhile, and with it the first key frame.
_AT_ONCE = {"flags": "low_delay", "analyzeduration": "1000000"}


@dataclass(frozen=True)
class SourceOptions:
    """How a source is opened.

    Args:
        size: (width, height) of raw frames, or what a camera is asked for.
        pixel_format: of raw frames, a key of :data:`PIXEL_FORMATS`; None is ``rgb24``.
        rate: frames per second of raw frames, or what a camera is asked for.
        timeout: seconds after which a connection that says nothing is given up.

    Raises:
        ConfigError: out of range.
    """

    size: tuple[int, int] | None = None
    pixel_format: str | None = None
    rate: float | None = None
    timeout: float = 5.0

    def __post_init__(self) -> None:
        limit = VideoLimits().max_pixels
        if self.size is not None and not (
            min(self.size) >= 1 and self.size[0] * self.size[1] <= limit
        ):
            raise ConfigError(
                f"size is {self.size[0]}x{self.size[1]}, but must be at least 1x1 and at most "
                f"{limit} pixels"
            )
        if self.pixel_format is not None and self.pixel_format not in PIXEL_FORMATS:
            raise ConfigError(
                f"pixel_format is '{self.pixel_format}', but must be one of "
                f"{', '.join(PIXEL_FORMATS)}"
            )
        if self.rate is not None and not 0 < self.rate <= _HIGHEST_RATE:
            raise ConfigError(
                f"rate is {self.rate}, but must be above 0 and at most {_HIGHEST_RATE}"
            )
        if not 0 < self.timeout <= 3600:
            raise ConfigError(f"timeout is {self.timeout}, but must be above 0 and at most 3600")


class Source(Protocol):
    """Something that gives frames.

    Attributes:
        name: as it may be shown.
        live: frames come when they come, and are lost if nobody takes them; when they stop,
            something is wrong. Otherwise the source waits, and its end is the end.
        rate: about how many frames per second come.
    """

    name: str
    live: bool
    rate: float

    def frames(self) -> Iterator[tuple[Picture, float]]:
        """Open it and give (H, W, 3) uint8 RGB with the time in seconds; ends with the source.

        Raises:
            VideoError: it cannot be opened or read, in one sentence.
        """


def open_source(text: str, options: SourceOptions, stdin: BinaryIO | None = None) -> Source:
    """The source that ``text`` names: a camera's number, an address, ``-``, or a file.

    Raises:
        ConfigError: an unknown scheme, or an option that is missing or has no effect.
        VideoError: the file is no video that is read here.
        MissingExtra: PyAV is not installed.
    """
    if text == "-":
        return RawPipe(stdin or sys.stdin.buffer, options)
    _refuse_idle(options, "pixel_format", "a raw pipe (-)")
    if text.isdecimal():
        return _camera(int(text), options)
    for field in ("size", "rate"):
        _refuse_idle(options, field, "a camera or a raw pipe (-)")
    if is_url(text):
        return _address(text, options)
    return FileSource(Path(text))


class RawPipe:
    """Frames without a container, one after another."""

    live = False

    def __init__(self, stream: BinaryIO, options: SourceOptions) -> None:
        if options.size is None:
            raise ConfigError("raw frames from - need their size; give --size WIDTHxHEIGHT")
        self.name = "-"
        self.rate = options.rate or DEFAULT_RATE
        self._stream = stream
        self._size = options.size
        self._format = options.pixel_format or DEFAULT_PIXEL_FORMAT

    def frames(self) -> Iterator[tuple[Picture, float]]:
        """See :class:`Source`."""
        width, height = self._size
        channels, order = PIXEL_FORMATS[self._format]
        size, number = width * height * channels, 0
        while content := read_exactly(self._stream, size):
            if len(content) < size:
                raise VideoError(
                    f"raw frames from - end within frame {number}; check --size and --pixel-format"
                )
            pixels = np.frombuffer(content, np.uint8).reshape(height, width, channels)
            yield np.ascontiguousarray(pixels[:, :, list(order)]), number / self.rate
            number += 1


class FileSource:
    """The frames of a video file, upright, with their own times."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._reader = VideoReader(path)
        rate = self._reader.info.rate
        self.rate = DEFAULT_RATE if rate is None else float(rate)

    def frames(self) -> Iterator[tuple[Picture, float]]:
        """See :class:`Source`."""
        info = self._reader.info
        first = None
        for frame in self._reader.frames():
            first = frame.pts if first is None else first
            yield frame.picture(info.orientation), float((frame.pts - first) * info.time_base)


class Connection:
    """A camera or an address, through FFmpeg, with an end to every waiting.

    Args:
        name: as it may be shown.
        target: what FFmpeg opens.
        format: FFmpeg's demuxer, None to find out.
        options: of FFmpeg.
        rate: about how many frames per second come.
        timeout: seconds without a word after which it is given up.
    """

    live = True

    def __init__(
        self,
        name: str,
        target: str,
        format: str | None,
        options: Mapping[str, str],
        rate: float,
        timeout: float,
    ) -> None:
        self.name, self.rate = name, rate
        self._target, self._format, self._timeout = target, format, timeout
        self._options = {**_AT_ONCE, "max_pixels": str(VideoLimits().max_pixels), **options}

    def frames(self) -> Iterator[tuple[Picture, float]]:
        """See :class:`Source`."""
        av = import_av()
        try:
            with av.open(
                self._target,
                format=self._format,
                options=dict(self._options),
                timeout=(self._timeout, self._timeout),
            ) as container:
                if not container.streams.video:
                    raise VideoError(f"there is no video in '{self.name}'; name another address")
                stream = container.streams.video[0]
                rate = float(stream.average_rate or 0)
                if 1 <= rate <= _HIGHEST_RATE:  # some containers say nonsense
                    self.rate = rate
                yield from _decoded(av, container, stream)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"'{self.name}' cannot be read: {self._words(av, error)}") from error

    def _words(self, av: Any, error: Exception) -> str:
        if isinstance(error, (av.error.ExitError, TimeoutError)):
            return f"nothing came for {self._timeout:g} seconds; check the address and the network"
        words = getattr(error, "strerror", None) or type(error).__name__
        return f"{words}; check the address and that it may be read"


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[tuple[Picture, float]]:
    limit = VideoLimits().max_pixels
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:  # lost packets: the next key frame mends it
            continue
        for frame in frames:
            if frame.width * frame.height > limit:
                raise VideoError(f"a frame has more than {limit} pixels; ask for smaller ones")
            yield frame.to_ndarray(format="rgb24"), frame.time or 0.0


def _camera(number: int, options: SourceOptions) -> Source:
    device = Path(f"/dev/video{number}")
    if not device.exists():
        there = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*"))
        raise VideoError(
            f"there is no camera {number} ({device}); "
            f"{'choose one of ' + ', '.join(there) if there else 'no camera is connected here'}"
        )
    asked = {}
    if options.size is not None:
        asked["video_size"] = f"{options.size[0]}x{options.size[1]}"
    if options.rate is not None:
        asked["framerate"] = f"{options.rate:g}"
    rate = options.rate or DEFAULT_RATE
    return Connection(f"camera {number}", str(device), "v4l2", asked, rate, options.timeout)


def _address(url: str, options: SourceOptions) -> Source:
    scheme = scheme_of(url, writing=False)
    asked = {
        "protocol_whitelist": str(scheme.protocols),
        "format_whitelist": _FORMATS,
        **scheme.options,
    }
    return Connection(without_secrets(url), url, None, asked, DEFAULT_RATE, options.timeout)


def _refuse_idle(options: SourceOptions, field: str, needed: str) -> None:
    if getattr(options, field) is not None:
        raise ConfigError(f"{field} has no effect with this source; it is for {needed}")


def read_exactly(stream: BinaryIO, count: int) -> bytes:
    """``count`` bytes of a pipe, which may come in pieces; fewer at its end."""
    content = bytearray()
    while len(content) < count:
        block = stream.read(count - len(content))
        if not block:
            break
        content += block
    return bytes(content)
