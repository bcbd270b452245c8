"""The threads under every stream: order, bounds, failures, time-outs, and their end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_doubles import stream_threads

from lreorg_fast.live.ordered import BEHIND, LATE, InOrder

WAIT = 20.0  # seconds after which a broken test fails; nothing waits for it when all is well


def failed(item: int, reason: str) -> tuple[int, str]:
    return (item, reason)


def line(process, items, timeout=None, buffer=3, **more):
    return InOrder(process, items, failed, timeout=timeout, buffer=buffer, **more)


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5))
def test_one_result_per_item_in_order(items: list[int], buffer: int) -> None:
    assert list(line(lambda item: item * 2, items, buffer=buffer)) == [2 * item for item in items]


@given(st.lists(st.booleans(), max_size=20))
def test_an_error_costs_its_own_item_only(bad: list[bool]) -> None:
    def process(item: tuple[int, bool]) -> object:
        if item[1]:
            raise ValueError("a name")
        return item

    items = list(enumerate(bad))
    reason = "an error in processing (ValueError)"
    assert list(line(process, items)) == [(i, reason) if i[1] else i for i in items]


@pytest.mark.parametrize("error", [SystemExit, MemoryError, KeyboardInterrupt])
def test_no_kind_of_error_ends_the_worker(error: type[BaseException]) -> None:
    def process(item: int) -> int:
        if item == 1:
            raise error
        return item

    assert [r if isinstance(r, int) else r[0] for r in line(process, range(4))] == [0, 1, 2, 3]


@pytest.mark.parametrize("buffer", [1, 2, 5])
def test_no_more_items_are_taken_than_fit(buffer: int) -> None:
    taken = []
    full = threading.Event()

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            if len(taken) >= buffer:
                full.set()
            yield item

    results = line(lambda item: item, items(), buffer=buffer)
    for given_out in range(20):
        assert full.wait(WAIT)
        assert len(taken) <= given_out + buffer
        assert next(results) == given_out
    results.close()


def test_an_error_of_the_source_comes_after_what_it_gave() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the cable")

    results = line(lambda item: item, items())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="the cable"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_a_late_item_fails_and_so_do_those_behind_it_until_it_returns() -> None:
    stuck, returned, release = threading.Event(), threading.Event(), threading.Event()
    allow = threading.Semaphore(0)

    def process(item: int) -> int:
        if item == 1:
            stuck.set()
            assert release.wait(WAIT)
            returned.set()
        return item

    def items() -> Iterator[int]:
        for item in range(6):
            assert allow.acquire(timeout=WAIT)
            yield item

    now = [0.0]
    results = line(process, items(), timeout=5.0, clock=lambda: now[0])
    allow.release(2)
    assert next(results) == 0
    assert stuck.wait(WAIT)
    now[0] = 5.0
    assert next(results) == (1, LATE)
    allow.release(2)
    assert [next(results), next(results)] == [(2, BEHIND), (3, BEHIND)]
    release.set()
    assert returned.wait(WAIT)
    while results._late is not None:  # the worker is between two lines
        pass
    allow.release(2)
    assert [next(results), next(results)] == [4, 5]  # and the late result of 1 is gone
    assert list(results) == []


@pytest.mark.parametrize("returns", [True, False])
def test_those_behind_a_late_item_wait_for_it_first(returns: bool) -> None:
    release, stuck = threading.Event(), threading.Event()
    now = [0.0]

    def process(item: int) -> int:
        if item == 0:
            stuck.set()
            assert release.wait(WAIT)
        return item

    results = line(process, range(3), timeout=5.0, grace=3.0, clock=lambda: now[0])
    assert stuck.wait(WAIT)
    now[0] = 5.0
    assert next(results) == (0, LATE)
    if returns:  # within the grace: those behind are processed as if nothing had been
        now[0] = 7.9
        release.set()
        assert list(results) == [1, 2]
    else:
        now[0] = 8.0
        assert list(results) == [(1, BEHIND), (2, BEHIND)]
        release.set()


def test_the_time_out_is_of_real_time() -> None:
    release = threading.Event()
    results = line(lambda item: release.wait(WAIT), [1], timeout=0.05)
    assert next(results) == (1, LATE)
    release.set()
    results.close()


def test_close_ends_the_threads_and_the_source() -> None:
    before = stream_threads()
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    results = line(lambda item: item, items())
    assert next(results) == 1
    results.close()
    assert closed.is_set()
    assert stream_threads() <= before
    assert list(results) == []


def test_threads_end_with_the_items() -> None:
    before = stream_threads()
    results = line(lambda item: item, [1])
    assert list(results) == [1]
    results.close()
    assert stream_threads() <= before
