"""The frames of a video: every one of them, in order, with its time stamp and as it is seen."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lreorg_fast.errors import VideoError
from lreorg_fast.media.containers import (
    VideoLimits,
    container_of,
    import_av,
    is_picture,
    open_container,
    too_long,
    video_stream,
    words,
)
from lreorg_fast.media.orientation import MATRIX_BYTES, Orientation
from lreorg_fast.media.pictures import Picture

__all__ = [
    "SourceFrame",
    "StreamInfo",
    "VideoInfo",
    "VideoLimits",
    "VideoReader",
    "container_of",
    "import_av",
    "open_container",
    "to_rgb",
    "video_stream",
]

_converters = threading.local()
# FFmpeg's numbers of matrices between RGB and what is stored that were compared with their
# definitions: RGB itself, BT.709, unspecified (as BT.601), FCC, BT.601 twice, SMPTE 240M, BT.2020.
_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)
_OTHER_MATRICES = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp", 15: "IPT"}


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
    def colours(self) -> tuple[int, int, int, int]:
        """Range, primaries, transfer and matrix."""
        return (self.color_range, self.color_primaries, self.color_transfer, self.color_space)

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
            if int(first.colorspace) not in _MATRICES:
                raise _unknown_colours(self.path, int(first.colorspace))
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
                f"'{self.path}' is damaged or truncated ({words(error)}); copy it again from its "
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
            raise too_long(self._path, "more frames", f"{self._limits.max_frames} frames")
        if raw.is_corrupt:
            raise self._damaged(f"frame {number} is damaged")
        if raw.pts is None or raw.time_base != self._info.time_base:
            raise self._damaged(f"frame {number} has no time stamp; put the video into Matroska")
        if number and raw.pts <= self._last:
            raise self._damaged(f"frame {number} is not later than the one before")
        here = (raw.width, raw.height)
        if here != (self._info.width, self._info.height):
            raise self._damaged(f"frame {number} has another size than the first")
        if _colours(raw) != self._info.colours:
            raise self._damaged(f"frame {number} has other colour tags than the first")
        self._first = self._first if number else raw.pts
        self._last = raw.pts
        seconds = float((self._last - self._first) * self._info.time_base)
        if seconds > self._limits.max_seconds:
            raise too_long(self._path, "more", f"{self._limits.max_seconds:g} seconds")

    def _damaged(self, what: str) -> VideoError:
        return VideoError(f"'{self._path}' cannot be anonymized frame by frame: {what}")


# ---- details


def _kind(stream: Any) -> str:
    return "picture" if stream.type == "video" and is_picture(stream) else str(stream.type)


def _colours(raw: Any) -> tuple[int, int, int, int]:
    return (
        int(raw.color_range),
        int(raw.color_primaries),
        int(raw.color_trc),
        int(raw.colorspace),
    )


def _unknown_colours(path: Path, matrix: int) -> VideoError:
    name = _OTHER_MATRICES.get(matrix, f"the matrix {matrix}")
    return VideoError(
        f"the colours of '{path}' are stored by {name}, which is not read here; convert it to "
        "BT.2020 non-constant luminance (bt2020nc) or BT.709 first"
    )


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
