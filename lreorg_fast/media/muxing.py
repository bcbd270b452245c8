"""The finished video: encoded segments and the source's other streams, in one new container.

Nothing is copied that was not asked for: titles, places, chapters, attachments, cover art and
every other remark stay behind. What is copied is copied packet by packet, with its time stamps.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.log import once
from lreorg_fast.media.encoding import Encoding
from lreorg_fast.media.segments import PacketRecord, Segment, update_with_samples
from lreorg_fast.media.video import (
    StreamInfo,
    VideoInfo,
    VideoReader,
    container_of,
    import_av,
    open_container,
    video_stream,
)

Keep = Literal["keep", "drop"]
# What is written for each suffix, by FFmpeg's name, with options of its muxer.
MUXERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("mp4", {}),
    ".m4v": ("mp4", {}),
    ".mov": ("mov", {}),
    ".mkv": ("matroska", {}),
    ".webm": ("webm", {}),
    ".ts": ("mpegts", {"mpegts_copyts": "1"}),
}
# For a source whose container is read and not written, and for what is written as it is read.
OTHER_SUFFIX = ".mkv"
_SUFFIXES = {"mov": ".mp4", "mpegts": ".ts"}


@dataclass(frozen=True)
class StreamPolicy:
    """What becomes of the streams beside the video, ``keep`` or ``drop`` each.

    Args:
        audio: kept by default, because a video without its sound is not what was asked for; but a
            voice identifies its speaker, so a run that keeps one says so.
        subtitles: kept by default; they may name people.
        data: dropped by default, because cameras write their position there.

    Chapters, titles, attachments and cover art are always dropped.
    """

    audio: Keep = "keep"
    subtitles: Keep = "keep"
    data: Keep = "drop"

    def __post_init__(self) -> None:
        for name in ("audio", "subtitles", "data"):
            if getattr(self, name) not in get_args(Keep):
                raise ConfigError(f"{name} is '{getattr(self, name)}', but must be keep or drop")

    def keeps(self, stream: StreamInfo) -> bool:
        """Whether this stream is copied."""
        kept = {"audio": self.audio, "subtitle": self.subtitles, "data": self.data}
        return kept.get(stream.kind) == "keep"

    def described(self, info: VideoInfo) -> dict[str, dict[str, int]]:
        """Number of other streams by kind, ``kept`` and ``dropped``; for a report."""
        counts: dict[str, Counter[str]] = {"kept": Counter(), "dropped": Counter()}
        for stream in info.others:
            counts["kept" if self.keeps(stream) else "dropped"][stream.kind] += 1
        return {name: dict(count) for name, count in counts.items()}


def muxer_of(target: Path) -> tuple[str, dict[str, str]]:
    """FFmpeg's muxer for a target, and its options.

    Raises:
        VideoError: its suffix is none of :data:`MUXERS`.
    """
    found = MUXERS.get(target.suffix.lower())
    if found is None:
        raise VideoError(
            f"cannot write '{target}': its suffix is not one of {', '.join(MUXERS)}; choose another"
        )
    return found


def result_suffix(source: Path) -> str:
    """Of the result of a video: the source's if it says a container that is written.

    Else that of the source's content, or Matroska's for a container that is only read.
    """
    if source.suffix.lower() in MUXERS:
        return source.suffix
    return _SUFFIXES.get(container_of(source) or "", OTHER_SUFFIX)


def check_target_container(
    target: Path, reader: VideoReader, encoding: Encoding, policy: StreamPolicy
) -> None:
    """Find out before hours are spent whether the container takes every stream.

    Raises:
        VideoError: see :func:`write_video`.
    """
    import io

    with open_container(reader.path, reader.limits) as source:
        _Muxed(io.BytesIO(), target, reader, encoding, policy, source)


def write_video(
    stream: BinaryIO,
    target: Path,
    reader: VideoReader,
    encoding: Encoding,
    segments: Sequence[Segment],
    durations: NDArray[np.int64],
    policy: StreamPolicy,
) -> None:
    """Mux the segments with the other streams of the source.

    Args:
        stream: open for writing, seekable; its content becomes the file ``target``.
        target: its suffix decides the container.
        reader, encoding: of the source.
        segments: all of them, in order.
        durations: (number of frames,) of each frame in the order of display, in units of the
            source's time base; 0 where it is unknown.
        policy: which other streams are copied.

    Raises:
        VideoError: the container does not take a stream, or muxing fails.
        OSError: the file system fails.
    """
    av = import_av()
    with open_container(reader.path, reader.limits) as source:
        muxed = _Muxed(stream, target, reader, encoding, policy, source)
        packets = _timed(segments, durations)
        try:
            with muxed.container:
                muxed.start()
                muxed.copy(source, packets)
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
                raise
            raise VideoError(
                f"cannot write '{target}': the container refused a packet "
                f"({getattr(error, 'strerror', None) or type(error).__name__}); try the suffix .mkv"
            ) from error


class _Muxed:
    """An output container with its streams, not yet started."""

    def __init__(
        self,
        stream: BinaryIO,
        target: Path,
        reader: VideoReader,
        encoding: Encoding,
        policy: StreamPolicy,
        source: Any,
    ) -> None:
        av = import_av()
        muxer, options = muxer_of(target)
        self.target = target
        self.info = reader.info
        # A transport stream has no header of its own: every key frame repeats the codec's.
        repeated = muxer == "mpegts" and encoding.encoder.codec in ("h264", "hevc")
        self.repeated = encoding.extradata if repeated else b""
        self.source_index = video_stream(source, reader.path, reader.limits).index
        self.container = av.open(
            stream, "w", format=muxer, container_options={"fflags": "+bitexact", **options}
        )
        self.streams: dict[int, Any] = {}
        kept = {other.index for other in reader.info.others if policy.keeps(other)}
        # In the source's order: players take the first stream of a kind.
        for template in source.streams:
            if template.index == self.source_index:
                self.video = self._add_video(encoding)
            elif template.index in kept:
                self.streams[template.index] = self._add_copy(template)

    def _add_video(self, encoding: Encoding) -> Any:
        av = import_av()
        try:
            video = self.container.add_stream(
                encoding.name, rate=self.info.rate, time_base=self.info.time_base
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(
                f"cannot write '{self.target}': this container does not take "
                f"{encoding.encoder.codec}; choose the suffix .mkv or another codec"
            ) from error
        encoding.configure(video.codec_context)
        if self.info.orientation.matrix is not None:
            video.set_display_matrix(self.info.orientation.matrix)
        return video

    def _add_copy(self, template: Any) -> Any:
        av = import_av()
        try:
            copy = self.container.add_stream_from_template(template)
        except (av.error.FFmpegError, ValueError, TypeError, AttributeError) as error:
            raise VideoError(
                f"cannot write '{self.target}': this container does not take the source's "
                f"{template.type} stream; choose the suffix .mkv or drop {template.type}"
            ) from error
        language = template.metadata.get("language")
        for name in list(copy.metadata):
            del copy.metadata[name]
        if language:
            copy.metadata["language"] = language
        return copy

    def start(self) -> None:
        self.container.start_encoding()

    def copy(self, source: Any, packets: Iterator[Any]) -> None:
        """Interleave as the source does, so that nothing has to be held for long."""
        if self.streams:
            wanted = [s for s in source.streams if s.index in {*self.streams, self.source_index}]
            for packet in source.demux(wanted):
                if packet.stream.index == self.source_index:
                    self._mux_video(next(packets, None))
                elif packet.size and packet.dts is not None:
                    packet.stream = self.streams[packet.stream.index]
                    self.container.mux_one(packet)
        for packet in packets:
            self._mux_video(packet)

    def _mux_video(self, timed: tuple[PacketRecord, int, int, bytes] | None) -> None:
        if timed is None:
            return
        av = import_av()
        record, dts, duration, content = timed
        packet = av.Packet(self.repeated + content if record.key else content)
        packet.stream = self.video
        packet.time_base = self.info.time_base
        packet.pts, packet.dts, packet.duration = record.pts, dts, duration
        packet.is_keyframe = record.key
        self.container.mux_one(packet)


def _timed(
    segments: Sequence[Segment], durations: NDArray[np.int64]
) -> Iterator[tuple[PacketRecord, int, int, bytes]]:
    """Every packet with its decoding time and duration.

    Each encoder starts its decoding times anew, and with a variable frame rate those of two
    segments can overlap. They are therefore made from the times of display of the whole video:
    with a delay of as many frames as the codec reorders, packet i is decoded when frame i - delay
    is shown, which is never after its own time.
    """
    shown = np.array([record.pts for segment in segments for record in segment.packets], np.int64)
    order = np.argsort(shown, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    delay = int((np.arange(len(rank)) - rank).max(initial=0))
    times = shown[order]
    step = int(np.diff(times).min(initial=1 << 40)) if len(times) > 1 else 1
    early = times[:1] - step * np.arange(delay, 0, -1)
    decoding = np.concatenate([early, times])
    number = 0
    for segment in segments:
        for record, content in segment.read():
            yield record, int(decoding[number]), int(durations[rank[number]]), content
            number += 1


def check_written(
    path: Path, reader: VideoReader, segments: Sequence[Segment], times: NDArray[np.int64]
) -> None:
    """Decode the finished file: it must show exactly the frames that were verified, when it should.

    Args:
        path: the file.
        reader: of the source.
        segments: all of them, in order.
        times: (number of frames,) time stamps of the source.

    Raises:
        VideoError: it does not.
    """
    written = VideoReader(path, reader.limits)
    frames = written.frames()
    number = 0
    shift: Fraction | None = None
    for segment in segments:
        digest = hashlib.sha256()
        for _ in segment.packets:
            frame = next(frames, None)
            if frame is None:
                raise VideoError("the written video has lost frames")
            moved = frame.pts * written.info.time_base - int(times[number]) * reader.info.time_base
            if shift is None:
                shift = _checked_shift(moved, written.info, reader.info)
            # Matroska counts milliseconds whatever it is given.
            if abs(moved - shift) > written.info.time_base:
                raise VideoError("the written video shows a frame at another time than the source")
            update_with_samples(digest, frame.raw)
            number += 1
        if digest.hexdigest() != segment.shown:
            raise VideoError("the written video does not show the frames that were verified")
    if next(frames, None) is not None:
        raise VideoError("the written video has frames too many")


def _checked_shift(moved: Fraction, written: VideoInfo, source: VideoInfo) -> Fraction:
    """By how many seconds all times are moved: not at all within one kind of container.

    The sound of an MP4 may begin before 0, which Matroska cannot tell: then everything begins by
    so much later, picture and sound alike.
    """
    if abs(moved) <= written.time_base:
        return Fraction(0)
    if written.container == source.container or not 0 < moved < 1:
        raise VideoError("the written video begins at another time than the source")
    once(
        "video-shift",
        f"picture and sound begin {float(moved):.3f} s later than in the source, because its "
        "sound begins before 0; keep the source's kind of container to avoid that",
    )
    return moved
