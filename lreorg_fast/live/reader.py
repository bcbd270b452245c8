"""Frames of a source that may hang, break and come back, with a bounded age.

A thread reads. Between it and whoever processes is one place: a new frame takes the place of one
that nobody took (newest wins), or waits for it to be taken (every frame). While nothing comes, the
reader gives black frames, so that no old picture stands still as if it were live.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lreorg_fast.errors import ConfigError, LReorgError, VideoError
from lreorg_fast.log import logger
from lreorg_fast.media.live_sources import Source
from lreorg_fast.media.pictures import Picture

# Black frames per second: enough for a receiver to know that the stream lives.
_UNSURE_RATE = 5.0
# Threads that hang inside of a driver cannot be ended; more than so many are not started.
_MOST_LEFT_BEHIND = 3


@dataclass(frozen=True)
class ReaderSettings:
    """How a source is read.

    Args:
        every: no frame is dropped, the source waits; else the newest wins, and a source that
            could wait gives its frames at their own times.
        stall: seconds without a frame after which the picture turns black, above 0.
        retries: attempts to connect again after a break, at least 0; each frame that comes starts
            the count anew.
        backoff: seconds before the first of them, above 0; doubled for each, up to 30.
        hang: seconds without a sign of life after which the reading thread is left behind and
            another one connects; above the source's own time-out, which should have ended it.

    Raises:
        ConfigError: out of range.
    """

    every: bool = False
    stall: float = 2.0
    retries: int = 10
    backoff: float = 0.5
    hang: float = 15.0

    def __post_init__(self) -> None:
        for name in ("stall", "backoff", "hang"):
            value = getattr(self, name)
            if not 0 < value <= 3600:
                raise ConfigError(f"{name} is {value}, but must be above 0 and at most 3600")
        if not self.retries >= 0:
            raise ConfigError(f"retries is {self.retries}, but must be at least 0")

    def delay(self, attempt: int) -> float:
        """Seconds before attempt 1, 2, ... after a break."""
        return float(min(self.backoff * 2.0 ** min(attempt - 1, 20), 30.0))


@dataclass(frozen=True, eq=False)
class Taken:
    """What is processed next.

    Attributes:
        picture: (H, W, 3) uint8 RGB; None: nothing came, show black.
        time: seconds at which it is shown, from the start of the stream.
        received: by the clock, when it was there; for latency.
        size: (width, height), also of black frames.
    """

    picture: Picture | None
    time: float
    received: float
    size: tuple[int, int]


class Reader:
    """Iterator over what is to be processed; see the module.

    An error that the source raises before its first frame is raised; later ones are tried again.
    """

    def __init__(
        self,
        source: Source,
        settings: ReaderSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._settings, self._clock = source, settings, clock
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._next: Taken | None = None
        self._size: tuple[int, int] | None = None
        self._ended = False
        self._error: Exception | None = None
        self._start = clock()
        self._sign_of_life = self._start
        self._black_due = self._start + settings.stall
        # Between two attempts, and while a frame is offered, the source is not what is waited for.
        self._waiting = self._offering = False
        self.received = self.dropped = self.unsure = self.breaks = 0
        self._threads: list[threading.Thread] = []
        self._reading: threading.Thread | None = None  # the one that counts
        self._connect()

    # ---- whoever processes

    def __iter__(self) -> Iterator[Taken]:
        return self

    def __next__(self) -> Taken:
        with self._changed:
            while True:
                if self._next is not None:
                    taken, self._next = self._next, None
                    self._changed.notify_all()
                    return taken
                if self._ended or self._closing.is_set():
                    error, self._error = self._error, None
                    raise error if error is not None else StopIteration
                if not self._source.live or self._offering:
                    self._changed.wait()
                    continue
                self._leave_behind()
                wait = self._black_due - self._clock()
                if wait <= 0 and self._size is not None:
                    return self._black(self._size)
                self._changed.wait(max(wait, 1 / _UNSURE_RATE))

    def close(self) -> None:
        """End the reading; a thread inside of a driver is left behind."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._reading is not None:
            self._reading.join(self._settings.stall)

    def _black(self, size: tuple[int, int]) -> Taken:
        now = self._clock()
        self._black_due = now + 1 / _UNSURE_RATE
        self.unsure += 1
        return Taken(None, now - self._start, now, size)

    def _leave_behind(self) -> None:
        """If the thread hangs, start another; if that has been of no use, end."""
        if self._waiting or self._clock() - self._sign_of_life < self._settings.hang:
            return
        self.breaks += 1
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) > _MOST_LEFT_BEHIND or self._size is None:
            self._ended = True
            self._error = VideoError(
                f"'{self._source.name}' gives no frame and does not answer; check it"
            )
            self._reading = None
            return
        logger.warning("a source hangs; its thread is left behind, and another one connects")
        self._connect()

    # ---- the thread that reads

    def _connect(self) -> None:
        self._sign_of_life = self._clock()
        thread = threading.Thread(target=self._read, name="lreorg-reader", daemon=True)
        self._threads.append(thread)
        self._reading = thread
        thread.start()

    def _mine(self) -> bool:
        """Whether this thread is the one that counts."""
        return not self._closing.is_set() and threading.current_thread() is self._reading

    def _read(self) -> None:
        attempt = 0
        while True:
            error: Exception | None = None
            try:
                for picture, seconds in self._source.frames():
                    attempt = 0
                    if not self._put(picture, seconds):
                        return
            except Exception as failure:
                error = failure
            with self._changed:
                if not self._mine():
                    return
                attempt += 1
                if self._is_over(error, attempt):
                    self._ended, self._error = True, self._worded(error)
                    self._changed.notify_all()
                    return
                self.breaks += attempt == 1
                self._waiting = True
            logger.warning("a source broke off; attempt %d to connect again", attempt)
            if self._closing.wait(self._settings.delay(attempt)):
                return
            with self._changed:
                if not self._mine():
                    return
                self._waiting = False
                self._sign_of_life = self._clock()

    def _is_over(self, error: Exception | None, attempt: int) -> bool:
        if not self._source.live:
            return True
        never = self._size is None and error is not None
        return never or attempt > self._settings.retries

    def _worded(self, error: Exception | None) -> Exception | None:
        if error is None:
            if not self._source.live:
                return None
            return VideoError(f"'{self._source.name}' ended and did not come back; check it")
        if isinstance(error, LReorgError):
            return error
        return VideoError(f"'{self._source.name}' cannot be read: {type(error).__name__}; check it")

    def _put(self, picture: Picture, seconds: float) -> bool:
        """Offer a frame; False when this thread must end."""
        settings = self._settings
        if not (settings.every or self._source.live):
            early = seconds - (self._clock() - self._start)
            if early > 0:
                self._closing.wait(early)
        with self._changed:
            if settings.every:
                self._offering = True
                self._changed.wait_for(lambda: self._next is None or not self._mine())
                self._offering = False
            if not self._mine():
                return False
            now = self._sign_of_life = self._clock()
            self._black_due = now + settings.stall
            self.received += 1
            self.dropped += self._next is not None
            self._size = (picture.shape[1], picture.shape[0])
            waits = settings.every and not self._source.live
            shown_at = seconds if waits else now - self._start
            self._next = Taken(picture, shown_at, now, self._size)
            self._changed.notify_all()
            return True
