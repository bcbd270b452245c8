"""Clips as files: pictures with every kind of stream, time stamp and tag that cameras write."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

CANARY = "Anna-Musterfrau-48.137-11.575"
NTSC = Fraction(30000, 1001)


@dataclass(frozen=True)
class ClipFormat:
    """How a clip is written. ``ticks`` are time stamps in units of ``time_base``, for a variable
    frame rate; ``remarks`` puts :data:`CANARY` wherever a container holds text."""

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    rate: Fraction = NTSC
    ticks: Sequence[int] | None = None
    time_base: Fraction = Fraction(1, 30000)
    rotation: int = 0
    flip: bool = False
    b_frames: int = 0
    colour: tuple[int, int, int, int] = (1, 1, 1, 1)  # range, primaries, transfer, space
    aspect: Fraction | None = None
    audio: int = 0
    subtitles: bool = False
    data: bool = False
    remarks: bool = False
    quality: str = "12"


def write_clip(path: Path, pictures: Iterable[np.ndarray], how: ClipFormat | None = None) -> Path:
    """Encode RGB pictures of one size; returns the path."""
    how = how or ClipFormat()
    pictures = iter(pictures)
    first = next(pictures)
    with av.open(str(path), "w") as container:
        video = _video(container, first, how)
        sounds = [_audio(container) for _ in range(how.audio)]
        extra = _extra_streams(container, path, how)
        if how.remarks:
            _remark(container, video, path)
        container.start_encoding()
        number = 0
        for number, picture in enumerate(_chain(first, pictures)):
            frame = _frame(picture, how)
            frame.pts = how.ticks[number] if how.ticks else round(number / how.rate / how.time_base)
            frame.time_base = how.time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for sound in sounds:
            _sing(container, sound, float((number + 1) / how.rate))
        for stream, content in extra:
            _say(container, stream, content)
    return path


def _chain(first, rest):
    yield first
    yield from rest


def _video(container, picture, how):
    video = container.add_stream(how.codec, rate=how.rate, time_base=how.time_base)
    video.height, video.width = picture.shape[:2]
    video.pix_fmt = how.pixel_format
    context = video.codec_context
    context.color_range, context.color_primaries, context.color_trc, context.colorspace = how.colour
    context.max_b_frames = how.b_frames
    if how.aspect is not None:
        context.sample_aspect_ratio = how.aspect
    context.options = {"crf": how.quality} if how.codec.startswith("lib") else {}
    if how.rotation or how.flip:
        video.set_display_rotation(how.rotation, hflip=how.flip)
    return video


def _frame(picture, how):
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(
        format=how.pixel_format, dst_colorspace=how.colour[3], dst_color_range=how.colour[0]
    )


def _audio(container):
    return container.add_stream("aac", rate=48000, layout="mono")


def _sing(container, stream, seconds):
    count = int(48000 * seconds)
    wave = (np.sin(np.arange(count) * 0.05) * 8000).astype(np.int16)
    for start in range(0, count, 1024):
        part = wave[None, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _extra_streams(container, path, how):
    """Streams of ready packets: (stream, content of its only packet)."""
    extra = []
    if how.subtitles:
        boxed = path.suffix in (".mp4", ".mov")  # which store the length before the text
        words = container.add_mux_stream("mov_text" if boxed else "subrip")
        extra.append((words, (b"\0\5" if boxed else b"") + b"Hello"))
    if how.data:
        extra.append((container.add_data_stream("bin_data"), CANARY.encode()))
    if how.remarks and path.suffix in (".mp4", ".mov"):
        cover = container.add_mux_stream("mjpeg", width=32, height=32)
        cover.disposition = av.stream.Disposition.attached_pic
        extra.append((cover, jpeg(np.full((32, 32, 3), 77, np.uint8)) + CANARY.encode()))
    for stream, _ in extra:
        stream.time_base = Fraction(1, 1000)
    return extra


def _say(container, stream, content):
    packet = av.Packet(content)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = 0
    packet.duration, packet.is_keyframe = 200, True
    container.mux(packet)


def _remark(container, video, path):
    for name in ("title", "artist", "comment", "location"):
        container.metadata[name] = CANARY
    video.metadata["title"] = CANARY
    container.set_chapters(
        [
            {
                "id": 1,
                "start": 0,
                "end": 500,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": CANARY},
            }
        ]
    )
    if path.suffix == ".mkv":
        container.add_attachment(f"{CANARY}.txt", "text/plain", CANARY.encode())


def jpeg(picture: np.ndarray) -> bytes:
    """A picture as JPEG."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG")
    return content.getvalue()
