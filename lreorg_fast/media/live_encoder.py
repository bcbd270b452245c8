"""Frames into a container as they come: each with its own time, none kept back for later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from PIL import Image

from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.media.encoding import ENCODERS
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.video import import_av

# FFmpeg's container by the suffix of a file, and those that do not take H.264.
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
}
_OTHER_DEFAULT = {"webm": "libvpx-vp9"}
_DEFAULT = "libx264"
# What makes each encoder give a packet for every frame, fast enough for a camera.
_LIVE: dict[str, Mapping[str, str]] = {
    "libx264": {"preset": "veryfast", "tune": "zerolatency"},
    "libx265": {"preset": "ultrafast", "tune": "zerolatency"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "libsvtav1": {"preset": "12"},
    "h264_nvenc": {"preset": "p1", "tune": "ull"},
    "hevc_nvenc": {"preset": "p1", "tune": "ull"},
    "av1_nvenc": {"preset": "p1", "tune": "ull"},
}
_TIME_BASE = Fraction(1, 90_000)
_KEY_FRAME_SECONDS = 2  # whoever joins a stream waits for so long at most


@dataclass(frozen=True)
class LiveEncoding:
    """How frames are encoded.

    Args:
        container: FFmpeg's name of the muxer.
        codec: a key of :data:`lreorg_fast.media.encoding.ENCODERS`; None is the container's usual.
        quality: constant quality of that encoder, smaller is better; None is its default.

    Raises:
        ConfigError: an unknown codec, or a quality that it does not have.
    """

    container: str
    codec: str | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        encoder = ENCODERS.get(self.name)
        if encoder is None:
            raise ConfigError(f"codec is '{self.codec}', but must be one of {', '.join(ENCODERS)}")
        if self.quality is not None and not encoder.low <= self.quality <= encoder.high:
            raise ConfigError(
                f"quality is {self.quality:g}, but must be {encoder.low:g} to {encoder.high:g} for "
                f"{self.name}"
            )

    @property
    def name(self) -> str:
        """FFmpeg's name of the encoder."""
        return self.codec or _OTHER_DEFAULT.get(self.container, _DEFAULT)

    def options(self) -> dict[str, str]:
        """Of the encoder."""
        encoder = ENCODERS[self.name]
        quality = encoder.default if self.quality is None else self.quality
        return {**encoder.options, **_LIVE[self.name], encoder.quality: f"{quality:g}"}


class Writable(Protocol):
    """What a container is written to; it may be seekable."""

    def write(self, content: bytes, /) -> int: ...


class LiveEncoder:
    """Encodes frames of one size; frames of another are fitted into it.

    Args:
        target: a binary stream, or an address for FFmpeg.
        encoding: container and codec.
        size: (width, height); odd sides lose one pixel, which video cannot have.
        rate: about how many frames per second come.
        options: of FFmpeg's muxer.

    Raises:
        OutputError: it cannot be opened for writing.
        MissingExtra: PyAV is not installed.
    """

    def __init__(
        self,
        target: str | Writable,
        encoding: LiveEncoding,
        size: tuple[int, int],
        rate: float,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._av = import_av()
        self._size = (max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2))
        self._last = -1
        try:
            self._container: Any = self._av.open(
                target, "w", format=encoding.container, options=dict(options or {})
            )
            approximate = Fraction(rate).limit_denominator(1001)
            self._stream: Any = self._container.add_stream(encoding.name, rate=approximate)
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt = "yuv420p"
            context = self._stream.codec_context
            context.time_base = _TIME_BASE
            context.gop_size = max(1, round(rate * _KEY_FRAME_SECONDS))
            context.max_b_frames = 0
            context.options = encoding.options()
            self._container.start_encoding()
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise _broken(error) from error

    def write(self, picture: Picture, seconds: float) -> None:
        """Encode one frame ``(H, W, 3)`` uint8 RGB that is shown at ``seconds``.

        A time that is not later than the last one is moved behind it.

        Raises:
            OutputError: whoever takes the bytes is gone.
        """
        frame = self._av.VideoFrame.from_ndarray(fitted(picture, self._size), format="rgb24")
        self._last = max(self._last + 1, round(seconds / _TIME_BASE))
        frame.pts, frame.time_base = self._last, _TIME_BASE
        try:
            self._container.mux(self._stream.encode(frame))
        except (self._av.error.FFmpegError, OSError) as error:
            raise _broken(error) from error

    def close(self) -> None:
        """Write what is left, and the end of the container.

        Raises:
            OutputError: whoever takes the bytes is gone.
        """
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except (self._av.error.FFmpegError, OSError) as error:
            raise _broken(error) from error


def fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """``picture`` in (width, height): cut by a pixel, or scaled between black bars."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return np.ascontiguousarray(picture)
    if 0 <= width - size[0] < 2 and 0 <= height - size[1] < 2:
        return np.ascontiguousarray(picture[: size[1], : size[0]])
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = np.asarray(Image.fromarray(picture).resize(inner, Image.Resampling.BILINEAR))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = scaled
    return canvas


def _broken(error: Exception) -> OutputError:
    return OutputError(str(getattr(error, "strerror", None) or type(error).__name__))
