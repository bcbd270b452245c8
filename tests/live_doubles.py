"""Sources and sinks that do what a test says, for live runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lreorg_fast.errors import OutputError

WAIT = 20.0


def stream_threads() -> set[threading.Thread]:
    """Threads of streams that are alive; those of an earlier test may still be ending."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("lreorg-")}


class Script:
    """A source that plays one part of a script for every connection.

    A part is a list of frames, exceptions (raised), and callables (called, for example to wait).
    After the last part each connection fails.
    """

    name = "script"
    rate = 30.0

    def __init__(self, parts: Sequence[Sequence[Any]], live: bool = True) -> None:
        self._parts, self.live = list(parts), live
        self.connections = 0

    def frames(self) -> Iterator[tuple[np.ndarray, float]]:
        number, self.connections = self.connections, self.connections + 1
        if number >= len(self._parts):
            raise OSError("no part left")
        for position, item in enumerate(self._parts[number]):
            if isinstance(item, BaseException):
                raise item
            if callable(item):
                item()
            else:
                yield item, position / self.rate


class Memory:
    """A sink that keeps what it takes; ``fault(number of the write)`` may raise or wait."""

    name = "memory"

    def __init__(
        self, fault: Callable[[int], None] = lambda _: None, returns: bool = False
    ) -> None:
        self.fault, self.returns = fault, returns
        self.pictures: list[np.ndarray] = []
        self.times: list[float] = []
        self.opened: list[tuple[int, int]] = []
        self.closed: list[bool] = []
        self.writes = 0
        self.changed = threading.Condition()

    def open(self, size: tuple[int, int], rate: float) -> None:
        self.opened.append(size)

    def write(self, picture: np.ndarray, seconds: float) -> None:
        number, self.writes = self.writes, self.writes + 1
        self.fault(number)
        with self.changed:
            self.pictures.append(picture.copy())
            self.times.append(seconds)
            self.changed.notify_all()

    def close(self, broken: bool) -> None:
        self.closed.append(broken)

    def wait_for(self, condition: Callable[[list[np.ndarray]], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.pictures), WAIT)


def breaks(*numbers: int) -> Callable[[int], None]:
    """A fault of :class:`Memory`: these writes fail."""

    def fault(number: int) -> None:
        if number in numbers:
            raise OutputError("the cable")

    return fault
