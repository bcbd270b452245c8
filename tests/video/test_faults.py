"""Whatever fails, nobody who is known is seen: faults injected into one clip of 300 frames.

Each fault has frames of its own; the whole clip is judged at the end, by the truth and the pixels
alone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from clips import ClipFormat
from stamped import Film, TrueDetector, exposed

import lreorg_fast as lf
from lreorg_fast.errors import OutputError, PrivacyError, VideoError
from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.encoding import EncoderSettings, Encoding
from lreorg_fast.media.video import VideoReader
from lreorg_fast.privacy import Ledger
from lreorg_fast.scene import SceneAnonymizer, SceneSettings
from lreorg_fast.video import VideoReport, VideoSettings, anonymize_video
from lreorg_fast.video.editing import SegmentEditor

Shown = Callable[[Path], list[np.ndarray]]
FRAMES = 300
FILL = SceneSettings(method="fill")


class Clock:
    """The frame that is being edited."""

    now = -1

    def within(self, name: str) -> bool:
        return self.now in FAULTS[name]


# Which frames each fault spoils. In those between them all goes well.
FAULTS = {
    "detector finds nobody": range(20, 30),
    "detector raises": range(40, 44),
    "detector gives NaN": range(50, 54),
    "detector finds half of the people": range(60, 70),
    "encoder gives NaN": range(80, 86),
    "encoder raises": range(90, 96),
    "generator times out": range(100, 106),
    "generator gives NaN": range(110, 116),
    "engine is out of memory": range(120, 126),
    "recognizer raises": range(130, 136),
    "tracker splits": range(150, 160),
    "pasting raises": range(170, 176),
    "a whole picture raises": range(180, 184),
    "the encoder is given the source": range(200, 206),
    "the scene passes faces through": range(220, 226),
}


@pytest.fixture(scope="module")
def film() -> Film:
    return Film(FRAMES, ["crossing", "waiting"])


def spoil_networks(anonymizer: lf.Anonymizer, clock: Clock, patch: pytest.MonkeyPatch) -> None:
    """Every network fails in its own frames."""

    def failing(name: str, original: Callable[..., Any], error: type[Exception]) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if clock.within(name):
                raise error
            return original(*arguments, **options)

        return call

    def poisoned(name: str, original: Callable[..., torch.Tensor]) -> Any:
        return lambda *a, **o: original(*a, **o) * (float("nan") if clock.within(name) else 1)

    encoder, generator = anonymizer.encoder, anonymizer.generator
    forward = poisoned("encoder gives NaN", encoder.forward)
    patch.setattr(encoder, "forward", failing("encoder raises", forward, RuntimeError))
    synthesis = poisoned("generator gives NaN", generator.synthesis)
    patch.setattr(generator, "synthesis", failing("generator times out", synthesis, TimeoutError))
    engine, recognizer = anonymizer.engine, anonymizer.verification.recognizer
    patch.setattr(
        engine, "reorganize", failing("engine is out of memory", engine.reorganize, MemoryError)
    )
    patch.setattr(
        recognizer, "forward", failing("recognizer raises", recognizer.forward, RuntimeError)
    )


def spoil_pictures(clock: Clock, patch: pytest.MonkeyPatch) -> None:
    """Compositing, the scene and the video encoder fail in theirs."""
    from lreorg_fast.scene.canvas import ArrayCanvas

    compose, paste = ArrayCanvas.composed, ArrayCanvas.paste
    replace, frame, edited = SceneAnonymizer.replace, Encoding.frame, SegmentEditor.edited
    given: set[int] = set()

    def timed(self: SegmentEditor, source: Any, *rest: Any) -> Any:
        clock.now = source.number
        return edited(self, source, *rest)

    def broken_paste(*arguments: Any) -> Any:
        if clock.within("pasting raises"):
            raise ValueError("no such pixels")
        return paste(*arguments)

    def broken_replace(self: SceneAnonymizer, picture: Any, faces: Any) -> Any:
        if clock.within("a whole picture raises"):
            raise OSError("gone")
        return replace(self, picture, faces)

    def careless(self: ArrayCanvas, layers: Any) -> Any:
        passes = clock.within("the scene passes faces through") and len(layers) > 1
        return compose(self, layers[1:] if passes else layers)

    def unedited(self: Encoding, source: Any, picture: Any, made: Any) -> Any:
        once = source.number in FAULTS["the encoder is given the source"] and (
            source.number not in given
        )
        if once:
            given.add(source.number)
            made = picture
        return frame(self, source, picture, made)

    patch.setattr(SegmentEditor, "edited", timed)
    patch.setattr(ArrayCanvas, "paste", broken_paste)
    patch.setattr(SceneAnonymizer, "replace", broken_replace)
    patch.setattr(ArrayCanvas, "composed", careless)
    patch.setattr(Encoding, "frame", unedited)


def spoiled_detections(number: int, found: list[Detection]) -> list[Detection]:
    """The detector fails in its own frames."""
    if number in FAULTS["detector finds nobody"]:
        return []
    if number in FAULTS["detector raises"]:
        raise RuntimeError("the device is gone")
    if number in FAULTS["detector gives NaN"]:
        return [Detection(face.box * np.nan, 0.9, face.landmarks) for face in found]
    if number in FAULTS["detector finds half of the people"]:
        return found[number % 2 :: 2]
    return found


def split_tracker(patch: pytest.MonkeyPatch) -> None:
    """New names for everybody in some frames, in both directions."""
    from lreorg_fast.faces import track_plan

    class Splitting(track_plan.Associator):
        calls = 0

        def __call__(self, boxes: Any, scores: Any, time: float) -> list[int]:
            tracks = super().__call__(boxes, scores, time)
            self.calls += 1
            if self.calls - 1 in FAULTS["tracker splits"]:
                return [-1 if i % 2 else 1000 * self.calls + i for i in range(len(tracks))]
            return tracks

    patch.setattr(track_plan, "Associator", Splitting)


@pytest.fixture(scope="module")
def spoiled(film: Film, tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoReport, Path, Path]:
    """The clip with every fault in it; reported, source, result."""
    folder = tmp_path_factory.mktemp("faults")
    anonymizer = lf.Anonymizer.load(toy_bundle(folder / "toy"))
    source, target = film.write(folder / "in.mp4"), folder / "out.mp4"
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        spoil_networks(anonymizer, clock, patch)
        spoil_pictures(clock, patch)
        split_tracker(patch)
        report = anonymizer.video(
            source,
            target,
            detector=TrueDetector(film, spoiled_detections),
            video=VideoSettings(segment_frames=60),
        )
    return report, source, target


def test_nobody_is_seen_whatever_fails(
    film: Film, spoiled: tuple[VideoReport, Path, Path], shown: Shown
) -> None:
    report, source, target = spoiled
    seen = exposed(film, shown(source), shown(target))
    by_fault = {name: sorted(set(seen) & set(frames)) for name, frames in FAULTS.items()}
    assert seen == [], by_fault
    assert report.exposed == 0
    assert not report.complete  # it says that not all is as it was asked for
    assert (report.frames, len(FAULTS)) == (FRAMES, 15)


def test_every_fault_was_real(
    film: Film, spoiled: tuple[VideoReport, Path, Path], shown: Shown
) -> None:
    """Each left its trace: a fill, a blank frame, a correction, another track."""
    report, source, target = spoiled
    before, after = shown(source), shown(target)

    def flat(number: int) -> bool:
        return bool(after[number].std() < 4)

    def filled(number: int) -> bool:
        gray = np.abs(after[number].astype(int) - 128).max(axis=2) < 8
        return bool(gray.mean() > 0.03)

    blank = ("detector raises", "detector gives NaN", "a whole picture raises")
    for name in blank:
        assert all(flat(number) for number in FAULTS[name]), name
    assert report.blanked == sum(len(FAULTS[name]) for name in blank)
    fills = [
        *("encoder gives NaN", "encoder raises", "generator times out", "generator gives NaN"),
        *("engine is out of memory", "recognizer raises", "pasting raises"),
        *("the encoder is given the source", "the scene passes faces through"),
    ]
    for name in fills:
        assert all(filled(number) for number in FAULTS[name]), name
        assert not any(flat(number) for number in FAULTS[name]), name
    assert report.corrected >= len(FAULTS["the encoder is given the source"])
    gaps = [*FAULTS["detector finds nobody"], *FAULTS["detector finds half of the people"]]
    assert not any(filled(number) or flat(number) for number in gaps[1:9])  # replaced as well
    assert len(report.tracks) > 2
    good = [number for number in (5, 35, 75, 145, 165, 250, 299) if not filled(number)]
    assert len(good) == 7
    outside = np.abs(after[250].astype(int) - before[250])[-8:].mean()
    assert outside < 4  # the stamp, which is nobody's face, is as it was


def test_an_exhausted_ledger_fills(tmp_path: Path, bundle: Path, shown: Shown) -> None:
    film = Film(24)
    poor = lf.Anonymizer.load(bundle, ledger=Ledger(budget=0.5))
    source, target = film.write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    report = poor.video(source, target, detector=TrueDetector(film))
    assert report.counts == {"replaced": 0, "filled": report.faces, "pixelated": 0}
    assert not report.complete
    assert all("budget" in reason for track in report.tracks for reason in track.reasons)
    assert exposed(film, shown(source), shown(target)) == []
    assert report.ledger["tracks"] == {}


def test_an_encoder_that_cannot_hide_releases_nothing(
    film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled, blanked, and still the source comes out of the encoder: there is no video."""
    short = Film(16)
    source = short.write(tmp_path / "in.mp4")
    frame = Encoding.frame
    monkeypatch.setattr(
        Encoding, "frame", lambda self, raw, picture, made: frame(self, raw, picture, picture)
    )
    with pytest.raises(PrivacyError, match="could still be seen after encoding"):
        anonymize_video(None, TrueDetector(short), source, scene=FILL)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_frames_that_an_encoder_loses_release_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lreorg_fast.media.segments import SegmentEncoder

    film = Film(16)
    source = film.write(tmp_path / "in.mp4")
    add = SegmentEncoder.add
    monkeypatch.setattr(
        SegmentEncoder, "add", lambda self, raw: [] if raw.pts == 8008 else add(self, raw)
    )
    with pytest.raises(PrivacyError, match="lost by the encoder"):
        anonymize_video(None, TrueDetector(film), source, scene=FILL)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_bad_quality_is_checked_and_not_trusted(tmp_path: Path, shown: Shown) -> None:
    film = Film(24)
    source, target = film.write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    report = anonymize_video(
        None,
        TrueDetector(film),
        source,
        target,
        scene=FILL,
        video=VideoSettings(encoder=EncoderSettings("libx264", 51)),
    )
    assert report.exposed == 0
    assert exposed(film, shown(source), shown(target)) == []


@pytest.mark.parametrize("stage", ["segment", "result"])
def test_a_full_disk_leaves_no_video_and_the_work_can_go_on(
    tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from lreorg_fast.media.segments import SegmentEncoder
    from lreorg_fast.video import anonymizer as module

    film = Film(40)
    source, target = film.write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    how = {"scene": FILL, "video": VideoSettings(segment_frames=16)}
    full = OSError(errno.ENOSPC, "No space left on device")
    add = SegmentEncoder.add
    write = module.write_video

    def failing_add(self: SegmentEncoder, raw: Any) -> Any:
        if raw.pts > 20 * 1001:
            raise full
        return add(self, raw)

    def failing_write(stream: Any, *arguments: Any) -> None:
        write(stream, *arguments)
        raise full

    with monkeypatch.context() as patch:
        if stage == "segment":
            patch.setattr(SegmentEncoder, "add", failing_add)
        else:
            patch.setattr(module, "write_video", failing_write)
        with pytest.raises(OutputError, match="No space left"):
            anonymize_video(None, TrueDetector(film), source, target, **how)
    assert not target.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".out.mp4.lreorg-work", "in.mp4"]
    report = anonymize_video(None, TrueDetector(film), source, target, resume=True, **how)
    assert report.resumed == (1 if stage == "segment" else 3)
    assert exposed(film, shown(source), shown(target)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_source_that_cannot_be_read_gives_no_video(tmp_path: Path) -> None:
    film = Film(24)
    whole = film.write(tmp_path / "whole.mp4").read_bytes()
    sources = {
        "empty.mp4": (b"", "is empty"),
        "truncated.mp4": (whole[: len(whole) // 2], "damaged"),
        "other.mp4": (b"GIF89a" + whole, "not a video"),
        "list.mp4": (b"ffconcat version 1.0\nfile whole.mp4\n", "not a video"),
    }
    for name, (content, reason) in sources.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=reason):
            anonymize_video(None, TrueDetector(film), tmp_path / name, scene=FILL)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*sources, "whole.mp4"])


def test_a_source_that_breaks_off_gives_no_video(tmp_path: Path) -> None:
    """Damage in the middle of a file whose header promises all frames."""
    film = Film(48)
    source = film.write(tmp_path / "in.mp4", ClipFormat(quality="1"))
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    source.write_bytes(content)
    try:
        report = anonymize_video(None, TrueDetector(film), source, scene=FILL)
    except VideoError:
        assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
        return
    # The decoder hid the damage: then it is a video like any other, with the faces that are left.
    assert report.exposed == 0
    assert len(list(VideoReader(tmp_path / "in_anonymized.mp4").frames())) == report.frames
