"""A video of two shots: nobody goes on from one to the other, and nobody is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from clips import write_clip
from stamped import Film, TrueDetector, exposed, stamped

from lreorg_fast.scene import SceneSettings
from lreorg_fast.video import VideoSettings, anonymize_video


def test_people_of_two_shots_are_different_people(
    tmp_path: Path, shown: Callable[[Path], list[np.ndarray]]
) -> None:
    film = Film(48, ("waiting",))
    light = np.linspace(0, 160, next(iter(film.pictures())).shape[1])[None, :, None]
    pictures = [
        # The same person at the same place, in other colours before another wall.
        picture if number < 30 else stamped(((255 - picture) // 3 + light).astype(np.uint8), number)
        for number, picture in enumerate(film.pictures())
    ]
    source, target = write_clip(tmp_path / "in.mp4", pictures), tmp_path / "out.mp4"
    report = anonymize_video(
        None,
        TrueDetector(film),
        source,
        target,
        scene=SceneSettings(method="fill"),
        video=VideoSettings(segment_frames=8),
    )
    assert report.cuts == (30,)
    assert [(track.first, track.last) for track in report.tracks] == [(0, 29), (30, 47)]
    assert exposed(film, shown(source), shown(target)) == []
