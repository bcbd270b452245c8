"""``lreorg anonymize in.mp4`` and ``lreorg verify``, as the shell would call them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from clips import ClipFormat
from PIL import Image
from stamped import Film, TrueDetector

import lreorg_fast.faces
from lreorg_fast.media.video import VideoReader

Run = Callable[..., Result]
FRAMES = 16


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return Film(FRAMES).write(tmp_path / "in.mp4", ClipFormat(audio=1))


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged detector is replaced by one that knows the truth."""
    monkeypatch.setattr(lreorg_fast.faces, "load_detector", lambda *_: TrueDetector(Film(FRAMES)))


pytestmark = pytest.mark.usefixtures("detector")


def test_a_video_is_known_by_its_content(run: Run, video: Path, bundle: Path) -> None:
    named = video.rename(video.with_name("clip.jpg"))  # the name decides nothing
    done = run("anonymize", named, "--bundle", bundle, "--report", video.with_name("r.json"))
    assert done.exit_code == 0, done.output
    made = video.with_name("clip_anonymized.mp4")
    assert len(list(VideoReader(made).frames())) == FRAMES
    assert "16 frames, 32 faces of 2 persons, 0 exposed" in done.stdout
    assert "a voice identifies" in done.stderr
    (report,) = json.loads(video.with_name("r.json").read_bytes())["videos"]
    assert report["complete"] is True
    assert report["exposed"] == 0
    assert report["counts"] == {"replaced": 32, "filled": 0, "pixelated": 0}
    assert len(report["ledger"]["tracks"]) == 2


def test_options_of_videos_have_their_effect(run: Run, video: Path) -> None:
    def made(*options: object) -> VideoReader:
        target = video.with_name("out.mp4")
        done = run(
            *("anonymize", video, "--method", "fill", "-o", target, "--force", "-q"), *options
        )
        assert done.exit_code == 0, done.output
        assert done.output == ""
        return VideoReader(target)

    plain = made()
    size = plain.path.stat().st_size
    assert [stream.kind for stream in plain.info.others] == ["audio"]
    assert made("--audio", "drop").info.others == ()
    assert made("--codec", "libx265").info.codec == "hevc"
    assert made("--quality", "40").path.stat().st_size < size
    assert len(list(made("--segment-frames", "8").frames())) == FRAMES


def test_options_that_do_not_fit_are_errors(run: Run, video: Path, face: Path) -> None:
    fill = ("--method", "fill")
    wrong: dict[tuple[object, ...], str] = {
        (video, *fill, "--quality", "99"): "quality is 99",
        (video, *fill, "--codec", "gif"): "codec is 'gif'",
        (video, *fill, "--hwaccel", "abacus"): "hwaccel 'abacus' cannot decode",
        (video, *fill, "--max-seconds", "0.1"): "too long",
        (video, *fill, "--segment-frames", "2"): "segment_frames is 2",
        (video, *fill, "--workers", "2"): "--workers has no effect on videos",
        (video, *fill, "--faces", "scene"): "--faces has no effect on videos",
        (video, *fill, "-o", video.with_name("x.avi")): "suffix is not one of",
        (face, *fill, "--subtitles", "keep"): "--subtitles is for videos; leave it out",
        (video, *fill, "--only", "*.mp4"): "--only has no effect on videos that are named",
        (video, *fill, "--except", "*.mp4"): "--except has no effect on videos that are named",
        (video, *fill, "--face-timeout", "-1"): "the face time-out is -1",
        (face, *fill, "--audio", "drop"): "--audio is for videos",
        (face, *fill, "--quality", "3"): "--quality is for videos",
        (video, video, *fill, "-o", video.with_name("o.mp4")): "cannot go to one file",
    }
    for arguments, words in wrong.items():
        done = run("anonymize", *arguments)
        assert done.exit_code == 2, arguments
        assert words in done.stderr
        assert "Traceback" not in done.output
    assert sorted(path.name for path in video.parent.iterdir()) == ["in", "in.mp4"]


def test_several_videos_go_to_a_folder(run: Run, video: Path) -> None:
    other = Film(FRAMES, seed=3).write(video.with_name("other.mp4"))
    out = video.with_name("out")
    done = run("anonymize", video, other, "--method", "fill", "-o", out, "--json")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["in.mp4", "other.mp4"]
    reports = json.loads(done.stdout)["videos"]
    assert [Path(report["source"]).name for report in reports] == ["in.mp4", "other.mp4"]
    again = run("anonymize", video, "--method", "fill", "-o", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_a_filled_face_is_told_and_is_no_success(run: Run, video: Path, bundle: Path) -> None:
    done = run("anonymize", video, "--bundle", bundle, "--budget", "0.5")
    assert done.exit_code == 1
    assert "faces of" in done.stderr
    assert "budget" in done.stderr


def test_a_file_that_is_no_video_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    done = run("anonymize", tmp_path / "list.mp4", "--method", "fill")
    assert done.exit_code == 2 or done.exit_code == 1
    assert "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["list.mp4"]


def test_verify_tells_who_is_exposed(run: Run, video: Path) -> None:
    target = video.with_name("out.mp4")
    assert run("anonymize", video, "--method", "fill", "-o", target, "-q").exit_code == 0
    done = run("verify", video, target, "--bundle", "none")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "30 faces in 16 frames: 0 replaced, 30 covered, 0 exposed" in done.stdout
    done = run("verify", video, video, "--bundle", "none", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["exposed"] == 30
    assert "frame 0, box" in done.stderr
    assert "and 20 more" in done.stderr
    assert run("verify", video, target, "--threshold", "0").exit_code == 2
    assert run("verify", video, video.with_name("nobody.mp4"), "--bundle", "none").exit_code == 2


def test_verify_asks_the_recognizer_of_the_bundle(run: Run, video: Path, bundle: Path) -> None:
    other = Film(FRAMES, seed=3).write(video.with_name("other.mp4"))
    done = run("verify", video, other, "--bundle", bundle)
    assert done.exit_code == 0
    assert "by the recognizer of 'toy'" in done.stdout


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A folder with a picture, a video and a note."""
    folder = tmp_path / "day"
    folder.mkdir()
    film = Film(FRAMES)
    Image.fromarray(next(iter(film.pictures()))).save(folder / "a.png")
    film.write(folder / "b.mp4", ClipFormat(audio=1))
    (folder / "notes.txt").write_text("Day 1")
    return folder


def test_videos_in_folders_are_made_with_the_settings_of_both(
    run: Run, day: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", tmp_path / "r.json"
    options = ("--method", "fill", "--audio", "drop", "--segment-frames", "8", "--report", file)
    done = run("anonymize", day, "-o", out, *options)
    assert done.exit_code == 0, done.output
    assert "2 covered, 1 skipped" in done.stdout
    assert "a voice identifies" not in done.stderr
    assert VideoReader(out / "b.mp4").info.others == ()
    entry = json.loads(file.read_bytes())["files"][1]
    assert entry["video"]["streams"]["dropped"] != []
    again = run("anonymize", day, "-o", out, *options, "--resume", "-q")
    assert again.exit_code == 0, again.output
    assert [e["earlier"] for e in json.loads(file.read_bytes())["files"]] == [True, True, False]


def test_a_video_and_a_picture_that_are_named(run: Run, day: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("anonymize", day / "b.mp4", day / "a.png", "-o", out, "--method", "fill")
    assert done.exit_code == 0, done.output
    assert "a voice identifies" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.mp4"]
    wrong = run("anonymize", day / "b.mp4", day / "a.png", "-o", tmp_path / "x.mp4")
    assert wrong.exit_code == 2
    assert "must be a folder" in wrong.stderr


def test_patterns_choose_files_of_folders(run: Run, day: Path, tmp_path: Path) -> None:
    def made(name: str, *options: str) -> list[str]:
        done = run("anonymize", day, "-o", tmp_path / name, "--method", "fill", "-q", *options)
        assert done.exit_code == 0, done.output
        return sorted(path.name for path in (tmp_path / name).iterdir())

    assert made("one", "--only", "*.png") == ["a.png"]
    assert made("two", "--except", "A*") == ["b.mp4"]
    assert made("three", "--only", "*.png", "--only", "b.*") == ["a.png", "b.mp4"]
    none = run("anonymize", day, "-o", tmp_path / "no", "--method", "fill", "--only", "*.gif")
    assert none.exit_code == 2
    assert "there is no picture and no video" in none.stderr
    idle = run(
        *("anonymize", day, "-o", tmp_path / "no", "--method", "fill"),
        *("--only", "*.png", "--audio", "drop"),
    )
    assert idle.exit_code == 2
    assert "--audio is for videos" in idle.stderr


def test_the_videos_of_a_folder_are_sealed_as_its_pictures_are(
    run: Run, day: Path, tmp_path: Path, bundle: Path
) -> None:
    assert run("keygen", tmp_path / "key", "--no-passphrase").exit_code == 0
    out = tmp_path / "out"
    done = run(
        *("anonymize", day, "-o", out, "--bundle", bundle, "--seal", tmp_path / "key.pub"),
        *("--faces", "scene", "--seal-kind", "crop", "--json"),
    )
    entry = json.loads(done.stdout)["files"][1]
    assert entry["target"] == str(out / "b.mp4")
    assert Path(entry["seal"]).is_file()
    assert Path(entry["seal"]).parent == out


def test_videos_are_no_aligned_faces(run: Run, day: Path, tmp_path: Path, bundle: Path) -> None:
    done = run(
        *("anonymize", day, "-o", tmp_path / "out", "--bundle", bundle),
        *("--faces", "aligned", "--json"),
    )
    assert done.exit_code == 1
    entry = json.loads(done.stdout)["files"][1]
    assert entry["status"] == "refused"
    assert "--faces scene" in entry["reason"]
    assert not (tmp_path / "out" / "b.mp4").exists()
