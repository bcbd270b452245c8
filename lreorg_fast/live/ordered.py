"""Items through one worker thread: in order, bounded, and never waiting longer than agreed.

A feeder takes items in while there is room, a worker processes one at a time, and whoever iterates
takes the results out. What the worker cannot do, or does not finish in time, is handed to
``failed``, so that exactly one result comes out per item and none is the item itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from lreorg_fast.log import logger

T = TypeVar("T")
R = TypeVar("R")

LATE = "processing took longer than the time-out"
BEHIND = "an earlier frame is still being processed after its time-out"
# A thread that is inside somebody else's code cannot be ended, only waited for.
_PATIENCE_S = 2.0


@dataclass(eq=False)
class _Job(Generic[T, R]):
    item: T
    started: float | None = None
    done: bool = False
    result: R | None = None
    reason: str | None = None


class InOrder(Generic[T, R]):
    """Iterator over ``process(item)`` for every item, in order; see the module.

    Args:
        process: makes a result; runs in one thread of its own, one item at a time.
        items: taken in another thread, and only while fewer than ``buffer`` are under way.
        failed: ``(item, reason)`` to the result of an item for which ``process`` raised or was
            late; must not fail.
        timeout: seconds that ``process`` may take for one item; None is no limit.
        grace: seconds for which those behind a late item wait for it to come back. After that
            they fail at once until it does.
        buffer: most items that are taken in and not yet given out, at least 1.
        clock: seconds that never go back.

    An error that ``items`` raises is raised after the results of the items before it.
    """

    def __init__(
        self,
        process: Callable[[T], R],
        items: Iterable[T],
        failed: Callable[[T, str], R],
        *,
        timeout: float | None,
        grace: float = 0.0,
        buffer: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process, self._items, self._failed = process, iter(items), failed
        self._timeout, self._grace = timeout, grace
        self._buffer, self._clock = buffer, clock
        self._changed = threading.Condition()
        self._jobs: deque[_Job[T, R]] = deque()  # taken in and not given out
        self._late: _Job[T, R] | None = None  # given up while it runs
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._threads = [
            threading.Thread(target=target, name=f"lreorg-{name}", daemon=True)
            for name, target in (("feeder", self._feed), ("worker", self._work))
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        with self._changed:
            job = self._finished()
            if job is None:
                error, self._error = self._error, None
                raise error if error is not None else StopIteration
        if job.reason is not None:
            return self._failed(job.item, job.reason)
        return cast(R, job.result)

    def close(self) -> None:
        """End the threads and drop what is under way."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
        deadline = self._clock() + _PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock()))
            if thread.is_alive():
                logger.warning("%s has not come back and is left behind", thread.name)

    # ---- the thread that iterates; all with the lock held

    def _finished(self) -> _Job[T, R] | None:
        """The next job to give out, removed; None at the end."""
        while True:
            if self._closed:
                return None
            wait = None
            if self._jobs:
                job = self._jobs[0]
                wait = self._time_left(job)
                if job.done or (wait is not None and wait <= 0):
                    return self._removed(job)
            elif self._ended:
                return None
            self._changed.wait(wait)

    def _removed(self, job: _Job[T, R]) -> _Job[T, R]:
        self._jobs.popleft()
        if not job.done:
            job.reason = BEHIND if job.started is None else LATE
            if job.started is not None:
                self._late = job
        self._changed.notify_all()
        return job

    def _time_left(self, job: _Job[T, R]) -> float | None:
        """Seconds until the first job is given up; None while nothing presses."""
        if self._timeout is None:
            return None
        if job.started is not None:
            return job.started + self._timeout - self._clock()
        if self._late is None or self._late.started is None:
            return None
        return self._late.started + self._timeout + self._grace - self._clock()

    # ---- the other threads

    def _feed(self) -> None:
        try:
            while self._has_room():
                item = next(self._items)
                with self._changed:
                    if self._closed:
                        break
                    self._jobs.append(_Job(item))
                    self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as error:
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _has_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._jobs) < self._buffer)
            return not self._closed

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                result, reason = self._process(job.item), None
            except BaseException as error:
                result, reason = None, f"an error in processing ({type(error).__name__})"
            with self._changed:
                job.done, job.result, job.reason = True, result, reason
                if self._late is job:
                    self._late = None
                self._changed.notify_all()

    def _next_job(self) -> _Job[T, R] | None:
        with self._changed:
            while not self._closed:
                for job in self._jobs:
                    if job.started is None:
                        job.started = self._clock()
                        self._changed.notify_all()
                        return job
                if self._ended:
                    break
                self._changed.wait()
            return None
