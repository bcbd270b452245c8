"""A detector or a generator that hangs inside of a video: filled, blanked, or a clean end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hangs import Hanging
from stamped import Film, TrueDetector, exposed

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, StuckError
from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene import SceneSettings
from lreorg_fast.video import VideoSettings, anonymize_video

Shown = Callable[[Path], list[np.ndarray]]
FILL = SceneSettings(method="fill")


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.release()


def test_frames_whose_detector_hangs_are_blanked(
    film: Film, source: Path, tmp_path: Path, shown: Shown, hanging: Hanging
) -> None:
    detector = hanging.instead_of(TrueDetector(film), lambda number: number in (4, 9))
    target = tmp_path / "out.mp4"
    report = anonymize_video(None, detector, source, target, scene=FILL, limit=hanging.limit)
    assert report.blanked == 2
    assert not report.complete
    pictures = shown(target)
    assert max(pictures[4].std(), pictures[9].std()) < 3
    assert exposed(film, shown(source), pictures) == []


def test_faces_whose_generator_hangs_are_filled(
    anonymizer: lf.Anonymizer,
    film: Film,
    source: Path,
    tmp_path: Path,
    shown: Shown,
    hanging: Hanging,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = anonymizer.generator
    hangs = hanging.instead_of(generator.synthesis, lambda number: number == 20)
    monkeypatch.setattr(generator, "synthesis", hangs)
    target = tmp_path / "out.mp4"
    report = anonymize_video(anonymizer, TrueDetector(film), source, target, limit=hanging.limit)
    assert exposed(film, shown(source), shown(target)) == []
    reasons = {reason for track in report.tracks for reason in track.reasons}
    assert any("took longer than" in reason for reason in reasons)
    assert not report.complete


SHORT = VideoSettings(segment_frames=8)
PATIENT = VideoSettings(segment_frames=8, face_timeout=900)


def test_a_video_ends_where_every_search_hangs_and_goes_on_later(
    film: Film, source: Path, tmp_path: Path, hanging: Hanging
) -> None:
    target, healthy = tmp_path / "out.mp4", TrueDetector(film)
    detector = hanging.instead_of(healthy, lambda number: number >= 20)
    with pytest.raises(StuckError, match="go on with --resume"):
        anonymize_video(
            None, detector, source, target, scene=FILL, video=SHORT, limit=hanging.limit
        )
    assert not target.exists()
    looked = 0

    def counting(picture: Picture, threshold: float) -> list[Detection]:
        nonlocal looked
        looked += 1
        return healthy(picture, threshold)

    report = anonymize_video(None, counting, source, target, scene=FILL, video=PATIENT, resume=True)
    assert report.complete
    assert looked == len(film) - 16  # two stretches of 8 were finished


def test_a_video_ends_where_every_face_hangs_and_goes_on_with_the_same_draws(
    anonymizer: lf.Anonymizer,
    film: Film,
    source: Path,
    tmp_path: Path,
    hanging: Hanging,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, detector = tmp_path / "out.mp4", TrueDetector(film)
    generator = anonymizer.generator
    hangs = hanging.instead_of(generator.synthesis, lambda number: number >= 60)
    with monkeypatch.context() as patch:
        patch.setattr(generator, "synthesis", hangs)
        with pytest.raises(StuckError):
            anonymize_video(anonymizer, detector, source, target, video=SHORT, limit=hanging.limit)
    assert not target.exists()
    report = anonymize_video(anonymizer, detector, source, target, video=PATIENT, resume=True)
    assert report.resumed > 0
    assert report.exposed == 0
    assert target.exists()


def test_the_setting_is_checked() -> None:
    with pytest.raises(ConfigError, match="face time-out is -1"):
        VideoSettings(face_timeout=-1)
