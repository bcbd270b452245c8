"""Colours of wide gamut and high range: numbers against the definitions, and tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import ClipFormat, write_clip

from lreorg_fast.errors import VideoError
from lreorg_fast.media.encoding import Encoding, samples
from lreorg_fast.media.video import SourceFrame, VideoReader, to_rgb

# Red and blue of the luma of each matrix: BT.709, FCC, BT.601, BT.601, SMPTE 240M, BT.2020.
LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
COLOURS = np.array([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.15, 0.2, 0.9], [0.7, 0.6, 0.3]])
SIDE = 32


def frame_of(matrix: int, full: bool, bits: int, transfer: int) -> Any:
    """Four columns of colours, by the definition of the matrix."""
    red, blue = LUMA[matrix]
    luma = COLOURS @ (red, 1 - red - blue, blue)
    u, v = (COLOURS[:, 2] - luma) / (2 - 2 * blue), (COLOURS[:, 0] - luma) / (2 - 2 * red)
    unit = 2 ** (bits - 8)
    if full:
        planes = [luma * (2**bits - 1), *(c * (2**bits - 1) + 128 * unit for c in (u, v))]
    else:
        planes = [(luma * 219 + 16) * unit, *((c * 224 + 128) * unit for c in (u, v))]
    made = av.VideoFrame(SIDE, SIDE, "yuv444p10le" if bits == 10 else "yuv444p")
    for to, plane in zip(samples(made), planes, strict=True):
        to[:] = np.repeat(np.rint(plane), SIDE // 4)
    made.colorspace, made.color_range = matrix, 2 if full else 1
    made.color_trc = transfer
    return made


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("matrix", LUMA)
def test_every_matrix_is_the_one_that_is_defined(matrix: int, bits: int, full: bool) -> None:
    raw = frame_of(matrix, full, bits, 16 if matrix == 9 else 1)
    seen = to_rgb(raw)[::4, :: SIDE // 4]
    # Rounding to 8 bits, and sums with 14 of them: 3.5 levels were measured.
    assert np.abs(seen - COLOURS * 255).max() <= 4


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_an_edited_pixel_is_stored_as_a_source_pixel_of_that_colour_is(
    tmp_path: Path, transfer: int
) -> None:
    how = ClipFormat(codec="libx265", pixel_format="yuv444p10le", colour=(1, 9, transfer, 9))
    path = write_clip(tmp_path / "in.mkv", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 2, how)
    reader = VideoReader(path)
    wanted = frame_of(9, False, 10, transfer)
    edited = np.repeat(np.rint(COLOURS * 255), SIDE // 4, axis=0).astype(np.uint8)
    edited = np.broadcast_to(edited, (SIDE, SIDE, 3))
    encoding = Encoding(reader.info)
    source = next(reader.frames())
    made = encoding.frame(source, source.picture(reader.info.orientation), edited)
    for a, b in zip(samples(made), samples(wanted), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 4  # of 1023: one level of 8 bits


def tagged(tmp_path: Path, matrix: int) -> Path:
    how = ClipFormat(codec="libx265", pixel_format="yuv420p10le", colour=(1, 9, 16, 9))
    path = write_clip(tmp_path / "in.mkv", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 2, how)
    with av.open(str(path)) as source, av.open(str(tmp_path / "out.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        filtered = av.BitStreamFilterContext(
            f"hevc_metadata=matrix_coefficients={matrix}", source.streams.video[0], stream
        )
        for packet in source.demux(video=0):
            for out in filtered.filter(packet if packet.size else None):
                out.stream = stream
                target.mux(out)
    return tmp_path / "out.mkv"


@pytest.mark.parametrize(
    ("matrix", "name"), [(8, "YCgCo"), (10, "BT.2020 with constant"), (14, "ICtCp"), (13, "13")]
)
def test_colours_that_cannot_be_converted_are_refused(
    tmp_path: Path, matrix: int, name: str
) -> None:
    with pytest.raises(VideoError, match=f"stored by .*{name}.*bt2020nc"):
        VideoReader(tagged(tmp_path, matrix))


def test_colours_that_change_in_the_middle_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "in.mkv", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 4)
    decoded = VideoReader._decoded

    def spliced(self: VideoReader, *arguments: Any) -> Any:
        for number, raw in enumerate(decoded(self, *arguments)):
            if number == 2:
                raw.color_trc = 16
            yield raw

    monkeypatch.setattr(VideoReader, "_decoded", spliced)
    frames = VideoReader(path).frames()
    assert isinstance(next(frames), SourceFrame)
    with pytest.raises(VideoError, match="frame 2 has other colour tags"):
        list(frames)
