"""``lreorg evaluate`` with videos in the places of folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clips import write_clip

from lreorg_fast.avatars import AvatarClip, SceneConfig
from lreorg_fast.evaluation.measured import Evaluation

AVATARS = ("--judges", "avatars")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, a result in which each frame shows other people, and one without faces."""
    folder = tmp_path_factory.mktemp("videos")
    shown = [list(_clip(seed)) for seed in (4, 7, 9)]
    write_clip(folder / "in.mp4", shown[0])
    wild = [shown[1 + number % 2][number] for number in range(len(shown[0]))]
    write_clip(folder / "wild.mp4", wild)
    write_clip(folder / "same.mp4", shown[0])
    write_clip(folder / "gray.mp4", [picture // 255 + 90 for picture in shown[0]])
    return folder


def _clip(seed: int) -> Any:
    config = SceneConfig(256, 128, 12, ("waiting", "crossing"), 66, seed)
    return (picture for picture, _ in AvatarClip(config))


def test_a_calm_result_and_one_that_flickers(run: Any, videos: Path, tmp_path: Path) -> None:
    names = [videos / f"{name}.mp4" for name in ("in", "same", "wild")]
    done = run("evaluate", *names, *AVATARS, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    report = Evaluation.from_dict(json.loads(done.stdout))
    assert (report.data["pictures"], report.data["subjects"]) == (12, 2)
    same, wild = report.methods
    assert [method.name for method in report.methods] == ["same", "wild"]
    calm, flickers = (list(m.all("flicker_identity")) for m in (same, wild))
    assert len(calm) == 2  # recognizers
    for entry, other in zip(calm, flickers, strict=True):
        assert entry.figure is not None
        assert other.figure is not None
        assert entry.figure.value == pytest.approx(1, abs=0.2)
        # The square around a face moves from frame to frame, so that a source spreads as well.
        assert other.figure.low > 1.2
    assert (tmp_path / "out" / "report.html").is_file()
    again = run("evaluate", *names, *AVATARS, "-o", tmp_path / "out")
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_nothing_to_measure_is_an_exit_code(run: Any, videos: Path) -> None:
    done = run("evaluate", videos / "in.mp4", videos / "gray.mp4", *AVATARS)
    assert done.exit_code == 1
    assert "flicker could not be measured" in done.stderr


def test_what_has_no_effect_on_videos_is_refused(run: Any, videos: Path, tmp_path: Path) -> None:
    source, result = videos / "in.mp4", videos / "same.mp4"
    for option in (("--method", "blur"), ("--workers", "2"), ("--allow-missing",)):
        done = run("evaluate", source, result, *AVATARS, *option)
        assert done.exit_code == 2
        assert f"{option[0]} has no effect on videos" in done.stderr
    assert "name the videos" in run("evaluate", source, *AVATARS).stderr
    twice = run("evaluate", source, result, result, *AVATARS)
    assert "different file names" in twice.stderr
    text = tmp_path / "notes.txt"
    text.write_text("no video")
    assert "is no video" in run("evaluate", source, text, *AVATARS).stderr
