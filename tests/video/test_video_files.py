"""Videos that lie among pictures: each is made, reported or refused, and none is passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from stamped import Film, TrueDetector

import lreorg_fast as lf
from lreorg_fast.batch import AlignedWork, BatchReport, SceneWork, anonymize_files
from lreorg_fast.errors import ConfigError
from lreorg_fast.faces.detection import Detection, Detector
from lreorg_fast.media.video import VideoReader
from lreorg_fast.scene import SceneAnonymizer, SceneSettings
from lreorg_fast.video import VideoFiles, VideoSettings

FRAMES = 24
FILL = SceneSettings(method="fill")
SHORT = VideoSettings(segment_frames=8)


@pytest.fixture(scope="module")
def film() -> Film:
    return Film(FRAMES)


@pytest.fixture
def folder(film: Film, tmp_path: Path) -> Path:
    """Two pictures, two videos of one name but for the suffix, and a video that is named badly."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for name, picture in zip(("a.png", "sub/b.png"), film.pictures(), strict=False):
        Image.fromarray(picture).save(root / name)
    film.write(root / "clip.flv")
    film.write(root / "clip.mkv")
    film.write(tmp_path / "x.mp4").rename(root / "sub" / "c.jpg")
    (root / "notes.txt").write_text("Day 1")
    return root


def anonymized(
    inputs: Path, out: Path, detector: Detector, allow_no_face: bool = False, **options: Any
) -> BatchReport:
    scene = SceneAnonymizer(options.pop("anonymizer", None), detector, options.pop("scene", FILL))
    work = SceneWork(scene, allow_no_face)
    videos = VideoFiles(work, SHORT, options.pop("told", None))
    return anonymize_files(work, [inputs], out, videos=videos, **options)


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


@pytest.mark.parametrize("workers", [1, 2])
def test_videos_are_made_with_the_pictures(
    film: Film, folder: Path, tmp_path: Path, workers: int
) -> None:
    told: list[tuple[str, str, int, int | None]] = []
    out = tmp_path / "out"
    report = anonymized(
        folder,
        out,
        TrueDetector(film),
        workers=workers,
        told=lambda source, *rest: told.append((source.name, *rest)),
    )
    made = [(Path(e.source).name, e.status) for e in report.files]
    assert made == [
        *((name, "covered") for name in ("a.png", "clip.flv", "clip.mkv", "b.png", "c.jpg")),
        ("notes.txt", "skipped"),
    ]
    assert report.complete
    # Matroska takes what FLV held, and the two do not meet.
    assert files(out) == ["a.png", "clip.mkv", "clip_anonymized.mkv", "sub/b.png", "sub/c.mp4"]
    for entry in report.files[1:3]:
        assert entry.target is not None
        assert entry.video is not None
        assert len(list(VideoReader(Path(entry.target)).frames())) == FRAMES
        assert Path(entry.target).read_bytes() != Path(entry.source).read_bytes()
        assert entry.video["frames"] == FRAMES
        assert entry.video["exposed"] == 0
        assert len(entry.video["tracks"]) == 2
        assert "ledger" not in entry.video  # once for all
    assert report.settings["video"]["segment_frames"] == 8
    json.dumps(report.to_dict(), allow_nan=False)
    stages = {(name, stage) for name, stage, _, _ in told}
    assert stages == {
        (name, stage)
        for name in ("clip.flv", "clip.mkv", "c.jpg")
        for stage in ("find", "edit", "write")
    }


def test_new_faces_are_drawn_and_paid_for_each_person(
    film: Film, folder: Path, tmp_path: Path, anonymizer: lf.Anonymizer
) -> None:
    (folder / "clip.flv").unlink()
    (folder / "sub" / "c.jpg").unlink()
    settings = SceneSettings(epsilon=0.5)
    report = anonymized(
        folder, tmp_path / "out", TrueDetector(film), anonymizer=anonymizer, scene=settings
    )
    entry = report.files[1]
    assert entry.status == "replaced"
    assert entry.epsilon == 0.5
    assert "key features" in str(entry.privacy)
    assert entry.face_statuses == ("replaced", "replaced")
    pictures = sum(len(entry.faces) for entry in report.files)
    assert len(report.ledger["tracks"]) == pictures + 2


def test_a_finished_run_is_taken_over_and_an_interrupted_video_goes_on(
    film: Film, folder: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", tmp_path / "report.json"
    calls = 0

    def interrupted(number: int, found: list[Detection]) -> list[Detection]:
        nonlocal calls
        calls += 1
        if calls == 1 + FRAMES + 20:  # one picture, one video, and most of another
            raise KeyboardInterrupt
        return found

    report = anonymized(folder, out, TrueDetector(film, interrupted), report=file)
    assert report.interrupted
    assert [e.status for e in report.files[:3]] == ["covered", "covered", "skipped"]
    assert not (out / "clip_anonymized.mkv").exists()

    detector = TrueDetector(film)
    report = anonymized(folder, out, detector, report=file, resume=True)
    assert report.complete
    assert [e.earlier for e in report.files[:5]] == [True, True, False, False, False]
    # Two stretches of 8 frames were looked at before.
    assert detector.calls[: FRAMES - 16] == list(range(16, FRAMES))
    again = TrueDetector(film)
    report = anonymized(folder, out, again, report=file, resume=True)
    assert again.calls == []
    assert report.complete
    assert list(out.rglob("*lreorg-work*")) == []


def test_nothing_is_overwritten_unless_asked(film: Film, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "clip.mkv").write_bytes(b"mine")
    report = anonymized(folder, out, TrueDetector(film))
    refused = [e for e in report.files if e.status == "refused"]
    assert [Path(e.source).name for e in refused] == ["clip.flv"]
    assert (out / "clip.mkv").read_bytes() == b"mine"
    assert anonymized(folder, out, TrueDetector(film), overwrite=True).complete


def test_a_video_without_people_is_treated_as_a_picture_is(
    film: Film, folder: Path, tmp_path: Path
) -> None:
    def nobody(_picture: Any, _threshold: float) -> list[Detection]:
        return []

    report = anonymized(folder, tmp_path / "out", nobody)
    assert {e.status for e in report.files[:5]} == {"no face found"}
    assert not report.complete
    assert not (tmp_path / "out").exists()
    report = anonymized(folder, tmp_path / "allowed", nobody, allow_no_face=True)
    assert report.complete
    assert len(files(tmp_path / "allowed")) == 5


def test_a_blanked_frame_is_a_failure_of_its_video(
    film: Film, folder: Path, tmp_path: Path
) -> None:
    def failing(number: int, found: list[Detection]) -> list[Detection]:
        if number == 3:
            raise RuntimeError("no memory")
        return found

    report = anonymized(folder, tmp_path / "out", TrueDetector(film, failing))
    assert report.files[1].status == "filled"
    assert report.files[1].reason == f"1 of {FRAMES} frames blanked"
    assert not report.complete


def test_a_damaged_video_stops_nobody(film: Film, folder: Path, tmp_path: Path) -> None:
    clip = folder / "clip.flv"
    clip.write_bytes(clip.read_bytes()[:600])
    report = anonymized(folder, tmp_path / "out", TrueDetector(film))
    assert [e.status for e in report.files[:3]] == ["covered", "refused", "covered"]


def test_aligned_faces_leave_no_video_unnoticed(
    folder: Path, tmp_path: Path, anonymizer: lf.Anonymizer
) -> None:
    report = anonymize_files(AlignedWork(anonymizer), [folder], tmp_path / "out")
    videos = [e for e in report.files if Path(e.source).suffix in (".flv", ".mkv")]
    assert [e.status for e in videos] == ["refused", "refused"]
    assert all("it is a video" in str(e.reason) for e in videos)


def test_a_run_with_other_settings_of_videos_is_not_resumed(
    film: Film, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    detector = TrueDetector(film)
    anonymized(folder, tmp_path / "out", detector, report=file)
    work = SceneWork(SceneAnonymizer(None, detector, FILL))
    videos = VideoFiles(work, VideoSettings(segment_frames=8, latent_cutoff=0))
    with pytest.raises(ConfigError, match="other settings"):
        anonymize_files(work, [folder], tmp_path / "out", report=file, resume=True, videos=videos)
