"""A whole live run under every fault: what is written shows no known face."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from live_doubles import WAIT, Memory, Script, breaks, stream_threads
from marked_frames import MarkDetector, NearestTracker, exposed, filling, frame, is_blank

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, OutputError, VideoError
from lreorg_fast.live.reader import ReaderSettings
from lreorg_fast.live.session import LiveSession, LiveSettings
from lreorg_fast.media.live_sinks import SinkClosed
from lreorg_fast.privacy import Ledger
from lreorg_fast.scene import SceneAnonymizer, SceneSettings

PICTURES = [frame(number, people=2) for number in range(12)]
QUICK = {"stall": 0.05, "backoff": 0.001}


def session(source, sink, detector=None, scene=None, every=True, **settings) -> LiveSession:
    reader = {k: settings.pop(k) for k in ("stall", "backoff", "retries", "hang") if k in settings}
    return LiveSession(
        source,
        scene or filling(detector),
        sink,
        LiveSettings(ReaderSettings(every=every, **{**QUICK, **reader}), **settings),
        tracker=NearestTracker(),
    )


def waiting_file() -> Script:
    return Script([PICTURES], live=False)


def shows_nobody(sink: Memory) -> bool:
    return sum(map(exposed, sink.pictures)) == 0


def test_every_frame_of_a_file() -> None:
    before = stream_threads()
    sink = Memory()
    stats = session(waiting_file(), sink).run()
    assert len(sink.pictures) == stats.written == stats.processed == stats.received == 12
    assert sink.times == pytest.approx([n / 30 for n in range(12)])
    assert (stats.filled, stats.blanked, stats.dropped, stats.held) == (24, 0, 0, 0)
    assert (sink.opened, sink.closed) == ([(96, 64)], [False])
    assert shows_nobody(sink)
    assert stats.latency.percentile(50) > 0
    assert stream_threads() <= before


def test_processing_that_is_slower_than_the_source_drops_frames() -> None:
    """Each frame is only processed when the next one has been dropped already."""
    given = threading.Semaphore(0)
    processed = threading.Semaphore(0)

    def slow() -> None:
        processed.release()
        assert given.acquire(timeout=WAIT)

    detector = MarkDetector(dict.fromkeys(range(100), slow))
    parts: list[object] = [PICTURES[0], lambda: processed.acquire(timeout=WAIT)]
    for number in range(1, 10, 3):
        parts += [PICTURES[number], PICTURES[number + 1], PICTURES[number + 2], given.release]
        parts += [lambda: processed.acquire(timeout=WAIT)]
    parts += [given.release]
    sink = Memory()
    script = Script([parts])
    running = session(script, sink, detector, every=False, stall=WAIT, retries=0)
    with pytest.raises(VideoError, match="did not come back"):
        running.run()
    stats = running.stats
    assert (stats.received, stats.dropped, stats.processed) == (10, 6, 4)
    assert stats.written + stats.unwritten == 4
    assert shows_nobody(sink)


FAULTS = {
    "detector raises": MarkDetector({3: ValueError(), 4: MemoryError()}),
    "detector finds nothing": MarkDetector({3: "nothing", 4: "nothing", 8: "nothing"}),
    "detector never works": MarkDetector({number: OSError() for number in range(12)}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_detector_faults(name: str) -> None:
    sink = Memory()
    stats = session(waiting_file(), sink, FAULTS[name]).run()
    assert stats.written == 12
    assert shows_nobody(sink)
    if "raises" in name:
        assert stats.blanked == 2
        assert [is_blank(p) for p in sink.pictures] == [n in (3, 4) for n in range(12)]
        assert sum(stats.reasons.values()) == 2
    elif "nothing" in name:
        assert (stats.blanked, stats.held) == (0, 6)
    else:
        assert stats.blanked == 12


def test_processing_that_hangs() -> None:
    hang = threading.Event()
    sink = Memory()
    detector = MarkDetector({2: lambda: hang.wait(WAIT)})
    stats = session(waiting_file(), sink, detector, timeout=0.5).run()
    hang.set()
    assert stats.blanked == 10
    assert list(map(is_blank, sink.pictures)) == [False] * 2 + [True] * 10
    assert shows_nobody(sink)


def test_a_source_that_dies_and_returns() -> None:
    over = threading.Event()
    script = Script([[*PICTURES[:3], OSError()], [OSError()], [*PICTURES[3:6], over.wait]])
    sink = Memory()
    stats = session(script, sink, frames=6).run()
    over.set()
    assert (stats.source_breaks, stats.processed) == (1, 6)
    assert shows_nobody(sink)


def test_a_source_that_hangs_turns_black() -> None:
    over = threading.Event()
    sink = Memory()
    script = Script([[PICTURES[0], over.wait], [PICTURES[5], over.wait]])
    running = session(script, sink, hang=0.6)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    sink.wait_for(lambda pictures: any(p.any() for p in pictures[2:]))
    over.set()
    running._reader.close()
    thread.join(WAIT)
    assert not sink.pictures[1].any()
    assert running.stats.black >= 1
    assert running.stats.source_breaks == 1
    assert shows_nobody(sink)


def test_a_sink_that_breaks_for_good_ends_the_run() -> None:
    before = stream_threads()
    sink = Memory(breaks(3))
    running = session(waiting_file(), sink)
    with pytest.raises(OutputError, match="the cable"):
        running.run()
    assert len(sink.pictures) == 3
    assert sink.closed == [True]
    assert stream_threads() <= before


def test_a_sink_that_returns_is_opened_again() -> None:
    sink = Memory(breaks(3, 4), returns=True)
    stats = session(waiting_file(), sink).run()
    assert stats.sink_breaks == 1
    assert len(sink.opened) == 3
    assert len(sink.pictures) == 10
    assert shows_nobody(sink)


def test_a_sink_that_returns_but_never_worked_ends_the_run() -> None:
    sink = Memory(breaks(0), returns=True)
    with pytest.raises(OutputError, match="the cable"):
        session(waiting_file(), sink).run()
    assert sink.writes == 1


def test_an_unexpected_error_of_a_sink_is_one_sentence() -> None:
    def fault(_: int) -> None:
        raise KeyError("a secret")

    with pytest.raises(OutputError, match=r"cannot write to 'memory': KeyError; check it$"):
        session(waiting_file(), Memory(fault)).run()


def test_a_slow_sink_costs_frames_and_no_latency() -> None:
    """The sink is inside of its first frame until the last one has been processed."""
    release = threading.Event()
    sink = Memory(lambda number: release.wait(WAIT) if number == 0 else None)
    script = Script([[*PICTURES, release.set]], live=True)
    with pytest.raises(VideoError):
        session(script, sink, every=False, stall=WAIT, retries=0).run()
    assert 1 <= len(sink.pictures) <= 12
    assert shows_nobody(sink)


def test_a_window_that_is_closed_is_a_clean_end() -> None:
    def fault(number: int) -> None:
        if number == 2:
            raise SinkClosed

    sink = Memory(fault)
    stats = session(waiting_file(), sink).run()
    assert (stats.written, sink.closed) == (2, [False])


def test_ctrl_c_is_a_clean_end(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stream_threads()
    sink = Memory()
    running = session(waiting_file(), sink)
    out = running._out

    def interrupted(taken, shown) -> bool:
        if running._stats.processed == 5:
            raise KeyboardInterrupt
        return out(taken, shown)

    monkeypatch.setattr(running, "_out", interrupted)
    stats = running.run()
    assert stats.written == 5
    assert sink.closed == [False]
    assert stream_threads() <= before


def test_frames_ends_a_run() -> None:
    sink = Memory()
    assert session(waiting_file(), sink, frames=4).run().written == 4


def test_an_exhausted_ledger_fills(tmp_path: Path) -> None:
    anonymizer = lf.Anonymizer.load(toy_bundle(tmp_path / "toy"), ledger=Ledger(0.5))
    scene = SceneAnonymizer(anonymizer, MarkDetector(), SceneSettings())
    sink = Memory()
    stats = session(waiting_file(), sink, scene=scene).run()
    assert (stats.filled, stats.replaced) == (24, 0)
    assert shows_nobody(sink)


def test_counts_are_reported_on_the_way() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.1
        return now[0]

    said = []
    settings = LiveSettings(ReaderSettings(every=True), timeout=None, interval=0.5)
    LiveSession(
        waiting_file(),
        filling(),
        Memory(),
        settings,
        tracker=NearestTracker(),
        report=said.append,
        clock=clock,
    ).run()
    assert 1 <= len(said) <= 12
    assert [stats.processed for stats in said] == sorted(stats.processed for stats in said)


def test_memory_does_not_grow_with_the_length() -> None:
    """Nothing of 3,000 frames stays: every structure of the run has its bound."""
    small = [np.zeros((2, 2, 3), np.uint8)] * 3000

    class Nothing:
        name, returns = "nothing", False

        def open(self, size, rate): ...
        def write(self, picture, seconds): ...
        def close(self, broken): ...

    running = session(Script([small], live=False), Nothing())
    stats = running.run()
    assert stats.written == 3000
    assert running._reader._next is None
    assert running._writer._waiting is None
    assert not running._processor._last_seen
    assert len(stats.latency._counts) < 1000


@pytest.mark.parametrize(
    "wrong", [{"timeout": 0}, {"hold": -1}, {"frames": 0}, {"interval": 0}, {"interval": np.inf}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        LiveSettings(**wrong)
