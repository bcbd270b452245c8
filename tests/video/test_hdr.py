"""Whole videos of high range: tags, ten bits, and the colour of a fill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import ClipFormat
from stamped import Film, TrueDetector, exposed

from lreorg_fast.errors import VideoError
from lreorg_fast.media.encoding import EncoderSettings, samples
from lreorg_fast.media.pictures import FILL_COLOUR
from lreorg_fast.media.video import VideoReader
from lreorg_fast.scene import SceneSettings
from lreorg_fast.video import VideoSettings, anonymize_video

FRAMES = 12
TAGS = ("color_range", "color_primaries", "color_transfer", "color_space", "pixel_format")


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx265", ".mp4"), ("libx265", ".mov"), ("libsvtav1", ".webm")]
)
def test_tags_depth_and_fills_of_high_range(
    tmp_path: Path,
    shown: Callable[[Path], list[np.ndarray]],
    transfer: int,
    codec: str,
    suffix: str,
) -> None:
    film = Film(FRAMES)
    how = ClipFormat(codec=codec, pixel_format="yuv420p10le", colour=(1, 9, transfer, 9))
    source, target = film.write(tmp_path / f"in{suffix}", how), tmp_path / f"out{suffix}"
    report = anonymize_video(
        None, TrueDetector(film), source, target, scene=SceneSettings(method="fill")
    )
    assert report.complete
    before, after = VideoReader(source), VideoReader(target)
    for name in TAGS:
        assert getattr(after.info, name) == getattr(before.info, name), name
    assert before.info.color_transfer == transfer
    pictures = shown(target)
    assert exposed(film, shown(source), pictures) == []
    for number, made in enumerate(pictures):
        for face in film.known(number):
            x, y = np.rint((face.box[:2] + face.box[2:]) / 2).astype(int)
            if 0 <= x < made.shape[1] and 0 <= y < made.shape[0]:
                assert np.abs(made[y, x].astype(int) - FILL_COLOUR).max() <= 6
    # Ten bits arrive as ten bits: with eight, every sample would be a multiple of four.
    luma = samples(next(after.frames()).raw)[0]
    assert (luma % 4 != 0).mean() > 0.1


def test_a_high_range_is_not_squeezed_into_eight_bits(tmp_path: Path) -> None:
    film = Film(FRAMES)
    how = ClipFormat(codec="libx265", pixel_format="yuv420p10le", colour=(1, 9, 16, 9))
    source = film.write(tmp_path / "in.mkv", how)
    settings = VideoSettings(encoder=EncoderSettings("libvpx-vp9"))
    with pytest.raises(VideoError, match=r"too few for the high range \(PQ\).*libsvtav1"):
        anonymize_video(
            None,
            TrueDetector(film),
            source,
            tmp_path / "out.mkv",
            scene=SceneSettings(method="fill"),
            video=settings,
        )
    assert list(tmp_path.iterdir()) == [source]
