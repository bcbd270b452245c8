"""``stream``: one out for one in, and no face through, whatever fails."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from live_doubles import stream_threads
from marked_frames import (
    DISC,
    MarkDetector,
    NearestTracker,
    exposed,
    filling,
    frame,
    frames,
    is_blank,
)

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, ImageError
from lreorg_fast.live import Shown, StreamSettings, stream
from lreorg_fast.live.ordered import BEHIND, LATE
from lreorg_fast.privacy import Ledger
from lreorg_fast.scene import SceneAnonymizer, SceneSettings

WAIT = 20.0


def run(detector: MarkDetector, source, **settings) -> tuple[list[np.ndarray], list[Shown]]:
    said: list[Shown] = []
    out = list(
        stream(
            filling(detector),
            source,
            StreamSettings(**settings),
            tracker=NearestTracker(),
            report=said.append,
        )
    )
    return out, said


def test_one_out_for_one_in_in_order() -> None:
    sources = [frame(number) for number in range(12)]
    for number, source in enumerate(sources):
        source[-1, -1] = number
    out, said = run(MarkDetector(), iter(sources))
    assert [picture[-1, -1, 0] for picture in out] == list(range(12))
    assert [shown.picture is picture for shown, picture in zip(said, out, strict=True)]
    assert all(len(shown.faces) == 1 and not shown.held for shown in said)
    assert sum(map(exposed, out)) == 0
    # The marks are there without the stream, so the line above could have failed.
    assert all(exposed(source) == DISC.sum() for source in sources)


def test_one_buffer_may_serve_for_all_frames() -> None:
    """The second frame is written over the first one while that is being processed."""
    buffer = np.zeros((64, 96, 3), np.uint8)
    overwritten = threading.Event()

    def one_buffer():
        for number in range(8):
            buffer[:] = frame(number)
            buffer[-1, -1] = number
            if number == 1:
                overwritten.set()
            yield buffer
            assert exposed(buffer) == DISC.sum()  # and nobody fills faces in it

    detector = MarkDetector({0: lambda: overwritten.wait(WAIT)})
    out, _ = run(detector, one_buffer(), buffer=4)
    assert [picture[-1, -1, 0] for picture in out] == list(range(8))
    assert all(not np.shares_memory(picture, buffer) for picture in out)
    assert sum(map(exposed, out)) == 0


def refuse() -> None:
    raise MemoryError("a name")


@pytest.mark.parametrize("fault", [ValueError("a name"), refuse], ids=["error", "memory"])
def test_a_detector_that_fails_blanks_its_frame_only(fault: object) -> None:
    out, said = run(MarkDetector({3: fault, 4: fault}), frames(10))
    assert [is_blank(picture) for picture in out] == [n in (3, 4) for n in range(10)]
    assert "a name" not in str(said[3].reason)
    assert sum(map(exposed, out)) == 0


def test_a_face_that_the_detector_misses_stays_covered() -> None:
    missing = dict.fromkeys((4, 5, 6, 11), "nothing")
    out, said = run(MarkDetector(missing), frames(16, people=2))
    assert [shown.held for shown in said] == [2 if n in missing else 0 for n in range(16)]
    assert sum(map(exposed, out)) == 0
    assert not any(map(is_blank, out))


def test_the_hold_time_is_what_is_asked_for() -> None:
    missing = dict.fromkeys(range(5, 30), "nothing")

    def first_exposed(hold: float) -> int:
        out, _ = run(MarkDetector(dict(missing)), frames(30), hold=hold, rate=10.0)
        return next(n for n, picture in enumerate(out) if exposed(picture))

    assert first_exposed(hold=1.0) == 15
    assert first_exposed(hold=2.0) == 25
    assert first_exposed(hold=0.0) == 8  # three frames at least


def test_a_detection_that_the_tracker_drops_is_covered() -> None:
    class Doubting(NearestTracker):
        def update(self, detections, time):
            return []

    said: list[Shown] = []
    out = list(stream(filling(), frames(4), tracker=Doubting(), report=said.append))
    assert sum(map(exposed, out)) == 0
    assert [shown.held for shown in said] == [1] * 4


def test_a_tracker_that_fails_blanks() -> None:
    class Broken(NearestTracker):
        def update(self, detections, time):
            raise IndexError

    assert all(map(is_blank, stream(filling(), frames(3), tracker=Broken())))


def test_a_late_frame_is_blank_and_so_are_those_behind_it() -> None:
    release = threading.Event()
    detector = MarkDetector({1: lambda: release.wait(WAIT)})
    said: list[Shown] = []
    pictures = stream(
        filling(detector),
        frames(5),
        StreamSettings(timeout=0.5),
        tracker=NearestTracker(),
        report=said.append,
    )
    out = [next(pictures) for _ in range(5)]
    release.set()
    assert [shown.reason for shown in said] == [None, LATE, BEHIND, BEHIND, BEHIND]
    assert list(map(is_blank, out)) == [False, True, True, True, True]
    with pytest.raises(StopIteration):
        next(pictures)


@pytest.mark.parametrize("end", ["close", "collected"])
def test_closing_ends_the_threads(end: str) -> None:
    before = stream_threads()
    pictures = stream(filling(), frames(10**6), tracker=NearestTracker())
    next(pictures)
    assert stream_threads() - before
    if end == "close":
        pictures.close()
    del pictures
    gc.collect()
    assert stream_threads() <= before


def test_a_stream_that_is_never_read_starts_nothing() -> None:
    before = stream_threads()

    def never():
        raise AssertionError("read before it was asked for")
        yield

    stream(filling(), never(), tracker=NearestTracker()).close()
    assert stream_threads() <= before


@pytest.mark.parametrize(
    "bad", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_frame_is_an_error(bad: object) -> None:
    pictures = stream(filling(), iter([frame(0), bad]), tracker=NearestTracker())
    assert exposed(next(pictures)) == 0
    with pytest.raises(ImageError, match=r"must be \(height, width, 3\) uint8 RGB"):
        next(pictures)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": float("nan")},
        {"hold": -1},
        {"hold": float("inf")},
        {"buffer": 0},
        {"buffer": 1.5},
        {"rate": 0},
    ],
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        StreamSettings(**wrong)


# ---- with networks


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def run_networks(bundle: Path) -> Callable[..., tuple[list[Shown], Ledger]]:
    def go(ledger: Ledger, people: int = 1, count: int = 6, **keywords):
        anonymizer = lf.Anonymizer.load(bundle, ledger=ledger)
        said: list[Shown] = []
        out = list(
            anonymizer.stream(
                frames(count, people),
                detector=MarkDetector(),
                tracker=NearestTracker(),
                report=said.append,
                **keywords,
            )
        )
        assert len(out) == count
        if "scene" not in keywords:  # a mosaic of a face of one colour has that colour
            assert sum(map(exposed, out)) == 0
        return said, ledger

    return go


def test_a_person_pays_once_however_long_the_stream(run_networks) -> None:
    said, ledger = run_networks(Ledger(), people=2)
    assert {face.status for shown in said for face in shown.faces} == {"replaced"}
    assert sorted(ledger.report()["tracks"].values()) == [1, 1]
    tracks = [{face.track for face in shown.faces} for shown in said]
    assert tracks == [tracks[0]] * len(said)


def test_two_streams_share_no_person(run_networks) -> None:
    ledger = Ledger()
    run_networks(ledger)
    run_networks(ledger)
    assert list(ledger.report()["tracks"].values()) == [1, 1]


def test_an_exhausted_ledger_fills(run_networks) -> None:
    said, _ = run_networks(Ledger(0.5))
    assert {face.status for shown in said for face in shown.faces} == {"filled"}


def test_scene_settings_are_used(run_networks) -> None:
    said, ledger = run_networks(Ledger(), scene=SceneSettings(epsilon=0.25))
    assert list(ledger.report()["tracks"].values()) == [0.25]
    said, _ = run_networks(Ledger(), scene=SceneSettings(method="pixelate"))
    assert {face.status for shown in said for face in shown.faces} == {"pixelated"}


def test_networks_that_fail_fill(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anonymizer = lf.Anonymizer.load(bundle)

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(anonymizer.generator, "synthesis", broken)
    scene = SceneAnonymizer(anonymizer, MarkDetector(), SceneSettings())
    out = list(stream(scene, frames(3), tracker=NearestTracker()))
    assert sum(map(exposed, out)) == 0


def test_a_generator_that_hangs_blanks(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anonymizer = lf.Anonymizer.load(bundle)
    release = threading.Event()
    synthesis = anonymizer.generator.synthesis

    def hanging(*arguments: object):
        assert release.wait(WAIT)
        return synthesis(*arguments)

    monkeypatch.setattr(anonymizer.generator, "synthesis", hanging)
    out = anonymizer.stream(
        frames(4),
        settings=StreamSettings(timeout=0.1),
        detector=MarkDetector(),
        tracker=NearestTracker(),
    )
    blank = [next(out) for _ in range(4)]
    release.set()
    assert all(map(is_blank, blank))


def test_draws_of_people_who_left_are_dropped(bundle: Path) -> None:
    anonymizer = lf.Anonymizer.load(bundle)
    came = dict.fromkeys(range(2, 5), "nothing")
    pictures = anonymizer.stream(
        frames(5),
        settings=StreamSettings(rate=1 / 40, hold=0),
        detector=MarkDetector(came),
        tracker=NearestTracker(),
    )
    for _ in pictures:
        pass
    assert not anonymizer.ledger._held
    assert len(anonymizer.ledger.report()["tracks"]) == 1
