"""Work that may hang: it gets so many seconds, and whoever waits for it goes on without it.

A thread inside of somebody else's code (a network on a GPU, a detector from a file) cannot be
ended from outside. So the work runs in a thread that is replaced by a new one when it is late, and
what it still may give is thrown away. The late thread keeps its memory and maybe a core, so only a
few are left behind before the run has to end.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from lreorg_fast.errors import ConfigError, LateError, StuckError
from lreorg_fast.log import logger

T = TypeVar("T")
# Waits until the event or for so many seconds.
Wait = Callable[[threading.Event, float], object]

# Of one face, and of one look for faces. The slowest look that was measured is 5 s (12 million
# pixels, one busy core), the slowest face 0.5 s, with whatever is compiled or loaded for the first
# one below a minute: what takes five minutes does not come back.
DEFAULT_SECONDS = 300.0
# Each keeps what it was working on in memory; after so many it is no accident.
MOST_LEFT_BEHIND = 3


def left_behind() -> bool:
    """Whether any thread of this process is late and has not come back.

    Such a thread may be inside of a library while the interpreter takes it down, which crashes:
    a program that ends then should do so at once, by :func:`os._exit`.
    """
    return bool(_POOL.late)


class TimeLimit:
    """Gives work so many seconds; safe to call from several threads.

    Args:
        seconds: for one face; None or 0 is no limit, and the work runs where it is called.
        wait: waits for the end of work; for tests, which have no time.

    Raises:
        ConfigError: negative, infinite or no number.
    """

    def __init__(
        self, seconds: float | None = DEFAULT_SECONDS, wait: Wait = threading.Event.wait
    ) -> None:
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ConfigError(
                f"the face time-out is {seconds}, but must be a number of seconds, or 0 for none"
            )
        self.seconds = seconds or None
        self._wait = wait
        self._lock = threading.Lock()
        self._late: set[_Worker] = set()

    def __call__(self, work: Callable[[], T], what: str, faces: int = 1) -> T:
        """What ``work`` returns or raises.

        Args:
            work: anything that may hang.
            what: for the message, such as "the search for faces".
            faces: how many it is about; their times add up.

        Raises:
            LateError: it did not end in time, or so much is late already that nothing is begun.
        """
        if self.seconds is None:
            return work()
        if self.stuck:
            raise LateError(f"{what} was not begun, because {_STUCK}")
        seconds = self.seconds * max(1, faces)
        task = _Task(work)
        worker = _POOL.begin(task)
        try:
            self._wait(task.finished, seconds)
        finally:  # also when Ctrl-C ends the waiting
            late = _POOL.end(worker, task)
        if not late:
            result: T = task.outcome()
            return result
        with self._lock:
            self._late.add(worker)
        reason = f"{what} took longer than {seconds:g} s"
        logger.error("%s, and is left behind", reason)
        raise LateError(reason)

    @property
    def stuck(self) -> bool:
        """Whether so much is late that nothing more is begun."""
        with self._lock:
            self._late &= _POOL.late
            return len(self._late) >= MOST_LEFT_BEHIND

    def check(self) -> None:
        """Raises StuckError where :attr:`stuck`."""
        if self.stuck:
            raise StuckError(ENDING)


_STUCK = f"{MOST_LEFT_BEHIND} pieces of work were late and have not come back"
ENDING = (
    f"{_STUCK}, so the run ends here; see whether the device still works, then go on with --resume"
)


class _Task:
    """Work, and what became of it once ``finished`` is set."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.finished = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # whoever waits raises it
            self._error = error
        self.finished.set()

    def outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


class _Worker(threading.Thread):
    """Does one task after another. A daemon: it must not keep the process."""

    def __init__(self, pool: _Pool, number: int) -> None:
        super().__init__(name=f"lreorg-limited-{number}", daemon=True)
        self._pool = pool
        self.tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            task = self.tasks.get()
            task.run()
            del task  # an idle worker holds no picture
            if self._pool.came_back(self):
                return


class _Pool:
    """The threads of this process: as many as ever worked at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._idle: list[_Worker] = []
        self.late: set[_Worker] = set()

    def begin(self, task: _Task) -> _Worker:
        """Let a worker do it; the one that worked last, whose memory is warm."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker(self, next(self._numbers))
            worker.start()
        worker.tasks.put(task)
        return worker

    def end(self, worker: _Worker, task: _Task) -> bool:
        """Nobody waits any more; whether the worker is left behind."""
        with self._lock:
            if task.finished.is_set():
                self._idle.append(worker)
                return False
            self.late.add(worker)
            return True

    def came_back(self, worker: _Worker) -> bool:
        """After each task; whether the worker was late, so that another has its place."""
        with self._lock:
            if worker not in self.late:
                return False
            self.late.remove(worker)
            return True


_POOL = _Pool()
