"""The thread that hands frames to a sink, which may be slow, break, and come back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lreorg_fast.errors import LReorgError, OutputError
from lreorg_fast.live.reader import ReaderSettings
from lreorg_fast.log import logger
from lreorg_fast.media.live_sinks import Sink, SinkClosed
from lreorg_fast.media.pictures import Picture


@dataclass(frozen=True, eq=False)
class Outgoing:
    """A finished frame: what is shown, when, and when it was received."""

    picture: Picture
    time: float
    received: float


class Writer:
    """Writes frames in a thread of its own; one waits at most.

    Args:
        sink: opened here with the first frame.
        rate: about how many frames per second come.
        settings: ``every`` makes :meth:`put` wait for the sink, else a newer frame takes the place
            of a waiting one; ``retries`` and ``backoff`` are for sinks that return.
        written: called for every frame that the sink took, in the writer's thread.
    """

    def __init__(
        self,
        sink: Sink,
        rate: float,
        settings: ReaderSettings,
        written: Callable[[Outgoing], None],
    ) -> None:
        self._sink, self._rate, self._settings = sink, rate, settings
        self._written = written
        self._changed = threading.Condition()
        self._waiting: Outgoing | None = None
        self._finishing = threading.Event()
        self._over = False
        self._error: Exception | None = None
        self._attempt = 0
        self._worked = False
        self.dropped = self.breaks = 0
        self._thread = threading.Thread(target=self._run, name="lreorg-writer", daemon=True)
        self._thread.start()

    def put(self, frame: Outgoing) -> bool:
        """Hand over a frame; False when the sink was closed on purpose.

        Raises:
            OutputError: the sink is broken for good.
        """
        with self._changed:
            if self._settings.every:
                self._changed.wait_for(lambda: self._over or self._waiting is None)
            if self._over:
                self._raise()
                return False
            self.dropped += self._waiting is not None
            self._waiting = frame
            self._changed.notify_all()
        return True

    def finish(self, patience: float) -> None:
        """Write what waits, close the sink, end the thread.

        Raises:
            OutputError: the sink broke, or does not finish within ``patience`` seconds.
        """
        self._finishing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(patience)
        if self._thread.is_alive():
            raise OutputError(
                f"'{self._sink.name}' did not take its last frames within {patience:g} seconds; "
                "check who reads it"
            )
        with self._changed:
            self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # ---- the thread

    def _run(self) -> None:
        opened = False
        while (frame := self._take()) is not None:
            try:
                if not opened:
                    self._sink.open((frame.picture.shape[1], frame.picture.shape[0]), self._rate)
                    opened = True
                self._sink.write(frame.picture, frame.time)
            except Exception as error:
                opened = False
                if not self._again(error):
                    return
                continue
            self._attempt, self._worked = 0, True
            self._written(frame)
        self._close()

    def _take(self) -> Outgoing | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._finishing.is_set())
            frame, self._waiting = self._waiting, None
            self._changed.notify_all()
            return frame

    def _again(self, error: Exception) -> bool:
        """What follows a failure: another attempt, or the end."""
        purpose = isinstance(error, SinkClosed)
        with contextlib.suppress(Exception):  # it is broken, and the error is known
            self._sink.close(broken=not purpose)
        with self._changed:
            self.breaks += self._attempt == 0 and not purpose
            self._attempt += 1
            # What never worked is wrong, and does not come back.
            returns = self._sink.returns and self._worked
            if purpose or not returns or self._attempt > self._settings.retries:
                self._end(None if purpose else error)
                return False
        logger.warning("a sink broke off; attempt %d to connect again", self._attempt)
        if self._finishing.wait(self._settings.delay(self._attempt)):
            with self._changed:
                self._end(None)  # nobody waits for it any more; the break is counted
            return False
        return True

    def _close(self) -> None:
        try:
            self._sink.close(broken=False)
        except Exception as error:
            with self._changed:
                self._end(error)
        else:
            with self._changed:
                self._end(None)

    def _end(self, error: Exception | None) -> None:
        if error is not None and not isinstance(error, LReorgError):
            error = OutputError(
                f"cannot write to '{self._sink.name}': {type(error).__name__}; check it"
            )
        self._over, self._error = True, error
        self._changed.notify_all()
