"""An interrupted run goes on: the same draws, the same segments, checked byte by byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from stamped import Film, TrueDetector, exposed

import lreorg_fast as lf
from lreorg_fast.errors import BudgetExceeded, OutputError, VideoError
from lreorg_fast.media.encoding import EncoderSettings
from lreorg_fast.privacy import Ledger, PrivateKey, Replacement
from lreorg_fast.scene import SceneSettings
from lreorg_fast.sealing import Sealer
from lreorg_fast.video import VideoReport, VideoSettings, restore_video

Shown = Callable[[Path], list[np.ndarray]]
SETTINGS = VideoSettings(segment_frames=10)
FILL = SceneSettings(method="fill")  # fast, where the networks do not matter
TESTS = Path(__file__).parents[1]


def killed(folder: Path, stage: str, frame: int) -> Path:
    """Run until SIGKILL; returns the work folder that is left."""
    path = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, str(TESTS / "video" / "killed.py"), str(folder), stage, str(frame)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (folder / "out.mp4").exists()
    return folder / ".out.mp4.lreorg-work"


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run left that was killed in frame 26 of its second pass."""
    folder = tmp_path_factory.mktemp("dead")
    toy_bundle(folder / "toy")
    Film().write(folder / "in.mp4")
    killed(folder, "edit", 26)
    return folder


@pytest.fixture
def left(dead: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(dead, tmp_path / "run")
    return tmp_path / "run"


def go_on(folder: Path, ledger: Ledger | None = None, **how: object) -> VideoReport:
    anonymizer = lf.Anonymizer.load(folder / "toy", ledger=ledger)
    options: dict[str, object] = {
        "detector": TrueDetector(Film()),
        "video": SETTINGS,
        "resume": True,
    }
    return anonymizer.video(
        folder / "in.mp4",
        folder / "out.mp4",
        **(options | how),  # type: ignore[arg-type]
    )


def test_a_killed_run_goes_on_where_it_was(left: Path, film: Film, shown: Shown) -> None:
    work = left / ".out.mp4.lreorg-work"
    before = {path.name: path.read_bytes() for path in work.glob("segment-00000[01].*")}
    assert len(before) == 4
    label = json.loads((work / "run.json").read_bytes())["body"]["label"]
    report = go_on(left)
    assert report.resumed == 2
    assert report.complete
    assert exposed(film, shown(left / "in.mp4"), shown(left / "out.mp4")) == []
    # Its draws are those of the segments that were there, and every person paid once.
    assert [track.track for track in report.tracks] == [f"{label}-{i}" for i in range(2)]
    assert report.ledger["tracks"] == {track.track: 1.0 for track in report.tracks}
    assert sum(track.replaced for track in report.tracks) == report.faces
    assert not work.exists()


def test_the_new_face_stays_the_same(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn again for people who are in finished segments."""
    drawn: list[str] = []
    held = Ledger.held

    def watched(self, track, draw, epsilon, keyword="identity"):
        return held(self, track, lambda: drawn.append(track) or draw(), epsilon, keyword)

    monkeypatch.setattr(Ledger, "held", watched)
    go_on(left)
    assert drawn == []


def test_a_killed_run_leaves_no_secret_and_goes_on_with_its_seals(
    tmp_path: Path, film: Film, bundle: Path, shown: Shown
) -> None:
    key = PrivateKey.generate()
    shutil.copytree(bundle, tmp_path / "toy")
    film.write(tmp_path / "in.mp4")
    key.public.save(tmp_path / "me.pub")
    work = killed(tmp_path, "edit", 26)
    parts = sorted(work.glob("seal-*.bin"))
    assert len(parts) == 3  # two whole ones, and the beginning of the third
    assert work.stat().st_mode & 0o077 == 0
    report = go_on(tmp_path, sealer=Sealer(key.public, "crop"))
    assert report.resumed == 2
    assert not work.exists()
    back = tmp_path / "back.mp4"
    how = EncoderSettings(quality=0)
    restore_video(tmp_path / "out.mp4", key, lambda: pytest.fail("no networks"), back, encoder=how)
    pairs = zip(shown(tmp_path / "in.mp4"), shown(back), strict=True)
    assert max(np.abs(a.astype(int) - b).mean() for a, b in pairs) < 2.5


def test_the_first_pass_goes_on_too(tmp_path: Path, film: Film, bundle: Path) -> None:
    (tmp_path / "toy").symlink_to(bundle)
    film.write(tmp_path / "in.mp4")
    killed(tmp_path, "find", 33)
    detector = TrueDetector(Film())
    report = go_on(tmp_path, detector=detector)
    found = detector.calls[:18]
    assert found == list(range(30, 48))  # three stretches of ten frames were there
    assert report.complete


def test_the_work_of_a_run_is_private_and_holds_no_picture_of_the_source(
    left: Path, shown: Shown
) -> None:
    work = left / ".out.mp4.lreorg-work"
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    names = {path.suffix for path in work.iterdir()}
    assert names <= {".json", ".npy", ".bin"}
    segment = json.loads((work / "segment-000000.json").read_bytes())["body"]
    assert set(segment["notes"]) == {
        *("faces", "reasons", "epsilon", "corrected", "blanked", "drawn"),
    }


@pytest.mark.parametrize(
    "name", ["segment-000001.bin", "segment-000000.json", "found-000002.npy", "run.json"]
)
def test_what_was_changed_is_not_used(left: Path, name: str) -> None:
    path = left / ".out.mp4.lreorg-work" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"damaged|not what was written"):
        go_on(left)
    assert not (left / "out.mp4").exists()


def test_another_source_or_other_settings_do_not_go_on(left: Path) -> None:
    with pytest.raises(VideoError, match="another settings"):
        go_on(left, video=VideoSettings(segment_frames=12))
    with pytest.raises(VideoError, match="another encoder, settings"):
        go_on(left, video=VideoSettings(encoder=EncoderSettings("libx265"), segment_frames=10))
    with pytest.raises(VideoError, match="another method"):
        go_on(left, scene=SceneSettings(epsilon=2.0))
    Film(seed=5).write(left / "in.mp4")
    with pytest.raises(VideoError, match="another source"):
        go_on(left)
    assert not (left / "out.mp4").exists()


def test_an_interrupted_run_is_not_thrown_away_by_accident(left: Path) -> None:
    with pytest.raises(OutputError, match=r"--resume, or start anew by --force"):
        go_on(left, resume=False)
    report = go_on(left, resume=False, overwrite=True, scene=FILL)
    assert report.resumed == 0
    assert report.complete


def test_a_budget_holds_over_the_interruption(left: Path) -> None:
    with pytest.raises(BudgetExceeded):
        go_on(left, Ledger(budget=0.5))
    assert not (left / "out.mp4").exists()
    assert go_on(left, Ledger(budget=1.0)).resumed == 2


def test_ctrl_c_keeps_the_work(tmp_path: Path, film: Film, bundle: Path) -> None:
    (tmp_path / "toy").symlink_to(bundle)
    film.write(tmp_path / "in.mp4")

    def stop(stage: str, done: int, total: int | None) -> None:
        if (stage, done) == ("edit", 15):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_on(tmp_path, progress=stop, resume=False, scene=FILL)
    assert go_on(tmp_path, scene=FILL).resumed == 1


def test_a_ledger_that_was_saved_does_not_count_twice() -> None:
    drawn = Ledger()
    replacement = Replacement(np.zeros(4, np.float32), 1, 1.5, "window-rr", "sentence")
    drawn.held("a", lambda: replacement, 1.5)
    for ledger in (Ledger(), drawn):
        ledger.resume("a", {"identity": replacement})
        assert ledger.total("a") == 1.5
        assert ledger.held("a", lambda: pytest.fail("drawn again"), 1.5) is replacement
    assert set(drawn.drawn("a")) == {"identity"}
    assert drawn.drawn("nobody") == {}
