"""Reading from sources that hang, break and come back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from live_doubles import WAIT, Script
from marked_frames import frame

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.live.reader import Reader, ReaderSettings

QUICK = {"stall": 0.05, "backoff": 0.001}


def read(script: Script, **settings: object) -> Reader:
    return Reader(script, ReaderSettings(**{**QUICK, **settings}))


def marked(number: int) -> np.ndarray:
    picture = frame(number)
    picture[-1, -1] = number
    return picture


def number_of(taken) -> int | None:
    return None if taken.picture is None else int(taken.picture[-1, -1, 0])


def test_every_frame_waits() -> None:
    reader = read(Script([[marked(n) for n in range(9)]], live=False), every=True)
    found = list(reader)
    assert [number_of(taken) for taken in found] == list(range(9))
    assert [taken.time for taken in found] == pytest.approx([n / 30 for n in range(9)])
    assert (reader.received, reader.dropped) == (9, 0)


def test_the_newest_frame_wins() -> None:
    """All are there before the first is taken."""
    all_given, go_on = threading.Event(), threading.Event()
    script = Script([[*(marked(n) for n in range(9)), all_given.set, go_on.wait]])
    reader = read(script, stall=WAIT, retries=0)
    assert all_given.wait(WAIT)
    assert number_of(next(reader)) == 8
    assert (reader.received, reader.dropped) == (9, 8)
    go_on.set()
    with pytest.raises(VideoError, match="'script' ended and did not come back"):
        next(reader)


def test_black_while_nothing_comes_and_a_new_connection() -> None:
    hang = threading.Event()
    script = Script([[marked(1), hang.wait], [marked(2), hang.wait]])
    reader = read(script, hang=0.5)
    found = []
    while not found or number_of(found[-1]) != 2:
        found.append(next(reader))
    assert number_of(found[0]) == 1
    assert found[1:-1]
    assert all(taken.picture is None and taken.size == (96, 64) for taken in found[1:-1])
    assert reader.unsure == len(found) - 2
    assert reader.breaks == 1
    times = [taken.time for taken in found]
    assert times == sorted(times)
    hang.set()
    reader.close()


@pytest.mark.parametrize("end", [OSError("the cable"), None], ids=["error", "end"])
def test_a_source_that_breaks_comes_back(end: Exception | None) -> None:
    over = threading.Event()
    parts = [[marked(1), *([end] if end else [])], [OSError()], [OSError()], [marked(2), over.wait]]
    reader = read(Script(parts), retries=3, stall=WAIT)
    assert [number_of(next(reader)) for _ in range(2)] == [1, 2]
    assert reader.breaks == 1
    over.set()
    reader.close()


def test_no_black_before_the_stall_is_over() -> None:
    """It counts from the last frame: one comes 0.9 s into a stall of 1 s, the next at 1.5 s."""
    now, begin, looked, over = [0.0], threading.Event(), threading.Event(), threading.Event()

    def clock() -> float:
        if now[0] == 1.5:
            looked.set()
        return now[0]

    script = Script([[lambda: begin.wait(WAIT), marked(1), looked.wait, marked(2), over.wait]])
    reader = Reader(script, ReaderSettings(stall=1.0), clock=clock)
    now[0] = 0.9
    begin.set()
    assert number_of(next(reader)) == 1
    now[0] = 1.5
    assert number_of(next(reader)) == 2
    over.set()
    reader.close()


def test_no_more_attempts_than_allowed() -> None:
    script = Script([[marked(1)], [OSError("a secret")]])
    reader = read(script, retries=2, stall=WAIT)
    assert number_of(next(reader)) == 1
    with pytest.raises(VideoError, match="'script' cannot be read: OSError"):
        next(reader)
    assert script.connections == 3  # the first and two attempts


def test_what_never_worked_is_not_tried_again() -> None:
    script = Script([[VideoError("no such camera")]])
    with pytest.raises(VideoError, match="no such camera"):
        next(read(script, retries=100))
    assert script.connections == 1


def test_a_camera_that_never_gives_a_frame() -> None:
    over = threading.Event()
    reader = read(Script([[over.wait]]), hang=0.1)
    with pytest.raises(VideoError, match="gives no frame and does not answer"):
        next(reader)
    over.set()
    reader.close()


def test_threads_that_hang_are_not_started_without_end() -> None:
    over = threading.Event()
    script = Script([[marked(1), over.wait], *[[over.wait]] * 20])
    reader = read(script, hang=0.05, stall=0.01)
    with pytest.raises(VideoError, match="does not answer"):
        list(reader)
    assert len(reader._threads) == 4
    over.set()
    reader.close()


def test_a_late_thread_that_comes_back_counts_no_more() -> None:
    hang, second = threading.Event(), threading.Event()
    script = Script([[marked(1), hang.wait, marked(7), marked(8)], [marked(2), second.wait]])
    reader = read(script, hang=0.5, stall=0.02)
    found = []
    while not found or found[-1] != 2:
        found.append(number_of(next(reader)))
    first = reader._threads[0]
    hang.set()
    first.join(WAIT)
    assert not first.is_alive()
    second.set()
    reader.close()
    assert reader.received == 2


def test_closing_ends_it_while_it_waits() -> None:
    for live in (True, False):
        over = threading.Event()
        reader = read(Script([[marked(1), over.wait]], live=live), every=True, stall=WAIT)
        next(reader)
        taken: list[object] = []
        waiting = threading.Thread(target=lambda r=reader, t=taken: t.extend(r), daemon=True)
        waiting.start()
        over.set() if live else None
        closing = threading.Thread(target=reader.close, daemon=True)
        closing.start()
        waiting.join(WAIT)
        assert not waiting.is_alive()
        over.set()
        closing.join(WAIT)
        assert taken == []


def test_a_file_in_its_own_time() -> None:
    """Newest frame of a source that could wait: it gives frames when a camera would."""
    now = [0.0]
    reader = Reader(
        Script([[marked(n) for n in range(3)]], live=False),
        ReaderSettings(**QUICK),
        clock=lambda: now[0],
    )
    reader._closing.wait = lambda early: now.__setitem__(0, now[0] + early)
    times = [taken.time for taken in reader]
    assert times
    assert set(np.round(times, 6)) <= {0.0, 0.033333, 0.066667}


@pytest.mark.parametrize(
    "wrong", [{"stall": 0}, {"backoff": -1}, {"hang": float("nan")}, {"retries": -1}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        ReaderSettings(**wrong)


def test_delays_double_up_to_half_a_minute() -> None:
    settings = ReaderSettings(backoff=0.5)
    assert [settings.delay(n) for n in (1, 2, 3, 7, 8, 10_000)] == [0.5, 1, 2, 30, 30, 30]
