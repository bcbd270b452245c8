"""Frames out: which encoder, with which pixels, and what becomes of an edited region.

Only the pixels that were edited go through RGB. All others are encoded from the samples that were
decoded, so a 10-bit background stays a 10-bit background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.log import once
from lreorg_fast.media.orientation import Orientation
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.video import SourceFrame, VideoInfo, import_av


@dataclass(frozen=True)
class Encoder:
    """One encoder that may be asked for.

    Attributes:
        codec: the codec that it writes, by FFmpeg's name.
        decoder: what decodes it on the CPU, for checking what was written.
        quality: name of its option for constant quality; smaller is better.
        default, low, high: values of it. The defaults look alike and are chosen so that faces
            are not softened: 18 of libx264 is called visually lossless by its makers.
        options: others that are always set.
    """

    codec: str
    decoder: str
    quality: str
    default: float
    low: float
    high: float
    options: Mapping[str, str] = field(default_factory=dict)


_VPX = {"b": "0", "row-mt": "1", "cpu-used": "3"}
_NVENC = {"rc": "vbr", "b": "0"}
ENCODERS: dict[str, Encoder] = {
    "libx264": Encoder("h264", "h264", "crf", 18, 0, 51),
    "libx265": Encoder("hevc", "hevc", "crf", 20, 0, 51, {"x265-params": "log-level=none"}),
    "libvpx-vp9": Encoder(
        "vp9", "vp9", "crf", 24, 0, 63, {"b": "0", "row-mt": "1", "cpu-used": "3"}
    ),
    "libsvtav1": Encoder("av1", "libdav1d", "crf", 25, 0, 63, {"preset": "8"}),
    "h264_nvenc": Encoder("h264", "h264", "cq", 19, 0, 51, _NVENC),
    "hevc_nvenc": Encoder("hevc", "hevc", "cq", 21, 0, 51, _NVENC),
    "av1_nvenc": Encoder("av1", "libdav1d", "cq", 26, 0, 63, _NVENC),
}
# Encoders on the CPU, by the codec of the source; every other source becomes H.264.
_SAME_FAMILY = {"hevc": "libx265", "vp8": "libvpx-vp9", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
_DEFAULT = "libx264"

# Transfer functions that need 10 bits, by FFmpeg's numbers.
_HIGH_RANGE = {16: "PQ", 18: "HLG"}

# Formats that are worked in: one plane per component, so that regions can be copied. What comes
# in another form is converted to the nearest of them that loses nothing of it.
_PLANAR = (
    *("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"),
    *("yuv420p10le", "yuv422p10le", "yuv444p10le", "gray10le"),
    *("yuv420p12le", "yuv422p12le", "yuv444p12le", "gray12le"),
)
_NEAREST = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yuv411p": "yuv422p",
    "yuv410p": "yuv422p",
    "yuv440p": "yuv444p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "rgb24": "yuv444p",
    "bgr24": "yuv444p",
    "bgr0": "yuv444p",
    "rgb0": "yuv444p",
    "gbrp": "yuv444p",
    "pal8": "yuv444p",
    "gbrp10le": "yuv444p10le",
}
# Where an encoder does not take what fits best, the next one that holds every sample's depth and
# then the next one that does not.
_INSTEAD = {
    "gray": ("yuv420p",),
    "gray10le": ("yuv420p10le",),
    "gray12le": ("yuv420p12le", "gray10le", "yuv420p10le"),
    "yuv420p12le": ("yuv420p10le",),
    "yuv422p12le": ("yuv422p10le",),
    "yuv444p12le": ("yuv444p10le",),
    "yuv422p": ("yuv444p", "yuv420p"),
    "yuv444p": ("yuv420p",),
    "yuv422p10le": ("yuv444p10le", "yuv420p10le", "yuv420p"),
    "yuv444p10le": ("yuv420p10le", "yuv420p"),
    "yuv420p10le": ("yuv420p",),
    "yuvj420p": ("yuv420p",),
    "yuvj422p": ("yuv422p", "yuv420p"),
    "yuvj444p": ("yuv444p", "yuv420p"),
}
# Formats that these encoders take, where FFmpeg does not tell.
_FORMATS = ("yuv420p", "yuv444p", "yuv420p10le")


@dataclass(frozen=True)
class EncoderSettings:
    """How the video is encoded.

    Args:
        codec: a name of :data:`ENCODERS`; None takes the one of the source's family.
        quality: constant quality of that encoder, smaller is better; None is its default.
    """

    codec: str | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in ENCODERS:
            raise ConfigError(f"codec is '{self.codec}', but must be one of {', '.join(ENCODERS)}")

    def resolve(self, info: VideoInfo) -> tuple[str, Encoder, float]:
        """(name, encoder, quality) for a source.

        Raises:
            ConfigError: the quality is not one of this encoder.
        """
        name = self.codec or _SAME_FAMILY.get(info.codec, _DEFAULT)
        encoder = ENCODERS[name]
        quality = encoder.default if self.quality is None else self.quality
        if not encoder.low <= quality <= encoder.high:
            raise ConfigError(
                f"quality is {quality}, but must be {encoder.low:g} to {encoder.high:g} for {name}"
            )
        return name, encoder, quality


class Encoding:
    """What encodes the frames of one source: resolved once, then one context per segment.

    Raises:
        ConfigError: settings that do not fit.
        VideoError: the encoder is not in this FFmpeg, cannot run here, or takes no pixels of the
            source's kind.
    """

    def __init__(self, info: VideoInfo, settings: EncoderSettings | None = None) -> None:
        self.info = info
        self.name, self.encoder, self.quality = (settings or EncoderSettings()).resolve(info)
        self.pixel_format = self._pixel_format()
        self.extradata: bytes = self.context().extradata or b""

    def context(self) -> Any:
        """A fresh, opened encoder; all of one Encoding have the same extradata."""
        av = import_av()
        context = av.CodecContext.create(self.name, "w")
        self.configure(context)
        context.flags |= av.codec.context.Flags.global_header
        try:
            context.open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(
                f"the encoder {self.name} cannot be used here for {self.info.width} x "
                f"{self.info.height} pixels of {self.pixel_format} "
                f"({getattr(error, 'strerror', None) or type(error).__name__}); choose another "
                "codec, for example libx264"
            ) from error
        return context

    def configure(self, context: Any) -> None:
        """Set everything that the frames and the settings decide, on a context not yet open."""
        info = self.info
        context.width, context.height = info.width, info.height
        context.pix_fmt = self.pixel_format
        context.time_base = info.time_base
        context.framerate = info.rate or Fraction(25)
        context.color_range = info.color_range
        context.color_primaries = info.color_primaries
        context.color_trc = info.color_transfer
        context.colorspace = info.color_space
        if info.sample_aspect is not None:
            context.sample_aspect_ratio = info.sample_aspect
        context.options = {**self.encoder.options, self.encoder.quality: f"{self.quality:g}"}

    def frame(self, source: SourceFrame, picture: Picture, edited: Picture) -> Any:
        """The frame to encode: the source's samples, and where they differ those of ``edited``.

        Args:
            source: as decoded; it is not changed.
            picture, edited: (height, width, 3) uint8 RGB, upright: before and after.
        """
        frame = source.raw.reformat(format=self.pixel_format)
        if frame is source.raw:
            frame = _copied(frame)
        changed = (picture != edited).any(axis=2)
        if changed.any():
            _patch(frame, self._converted(edited), _stored(changed, self.info.orientation))
        frame.pts, frame.time_base = source.pts, self.info.time_base
        frame.pict_type = 0  # or the encoder would repeat the source's choice of key frames
        return frame

    def _converted(self, edited: Picture) -> Any:
        av = import_av()
        stored = self.info.orientation.stored(edited)
        # SWS and AVCOL numbers agree but for 6, which is the same matrix as 5.
        space = 5 if self.info.color_space == 6 else self.info.color_space
        return av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(
            format=self.pixel_format, dst_colorspace=space, dst_color_range=self.info.color_range
        )

    def _pixel_format(self) -> str:
        av = import_av()
        try:
            codec = av.Codec(self.name, "w")
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(
                f"the encoder {self.name} is not in this FFmpeg; choose another codec"
            ) from error
        taken = [f.name for f in codec.video_formats or ()] or _FORMATS
        given = self.info.pixel_format
        wanted = _NEAREST.get(given, given)
        for name in (wanted, *_INSTEAD.get(wanted, ())):
            if name in taken and name in _PLANAR:
                self._tell_of_depth(wanted, name)
                return name
        raise VideoError(
            f"the encoder {self.name} takes no pixels like the source's {given}; choose another "
            "codec, or convert the video to yuv420p first"
        )

    def _tell_of_depth(self, wanted: str, name: str) -> None:
        """Raises VideoError where a high range would be left with 8 bits, which show bands."""
        if wanted == name or name.endswith("le") or not wanted.endswith("le"):
            return
        if self.info.color_transfer in _HIGH_RANGE:
            raise VideoError(
                f"the encoder {self.name} has 8 bits here, too few for the high range "
                f"({_HIGH_RANGE[self.info.color_transfer]}) of the source; choose another codec, "
                "for example libsvtav1 or libx265"
            )
        once(f"8 bits: {wanted}", f"{self.name} takes no {wanted} here; the video gets 8 bits")


def _stored(mask: NDArray[np.bool_], orientation: Orientation) -> NDArray[np.bool_]:
    stored: NDArray[np.bool_] = orientation.stored(mask.view(np.uint8)).view(np.bool_)
    return stored


def _copied(frame: Any) -> Any:
    """A frame of its own: the decoder still predicts from the one that it gave out."""
    av = import_av()
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for source, target in zip(samples(frame), samples(copy), strict=True):
        target[:] = source
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(copy, name, getattr(frame, name))
    return copy


def samples(frame: Any) -> list[NDArray[Any]]:
    """(height, width) views of the components of a planar frame, uint8 or uint16."""
    deep = [component.bits > 8 for component in frame.format.components]
    return [_view(*pair) for pair in zip(frame.planes, deep, strict=True)]


def _view(plane: Any, deep: bool) -> NDArray[Any]:
    rows = np.frombuffer(plane, dtype=np.uint8)[: plane.line_size * plane.height]
    rows = rows.reshape(plane.height, plane.line_size)
    return rows.view(np.uint16)[:, : plane.width] if deep else rows[:, : plane.width]


def _patch(target: Any, source: Any, changed: NDArray[np.bool_]) -> None:
    """Copy the samples of every changed pixel; a coarser plane's where any of its pixels is."""
    for to, of in zip(samples(target), samples(source), strict=True):
        mask = _reduced(changed, to.shape)
        to[mask] = of[mask]


def _reduced(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether any pixel under a sample of a plane of this shape is set."""
    steps = [-(-whole // part) for whole, part in zip(mask.shape, shape, strict=True)]
    padded = np.zeros([part * step for part, step in zip(shape, steps, strict=True)], dtype=bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    blocks = padded.reshape(shape[0], steps[0], shape[1], steps[1])
    reduced: NDArray[np.bool_] = np.any(blocks, axis=(1, 3))
    return reduced
