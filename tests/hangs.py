"""Work that hangs until a test is over, and a clock that knows when it does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from lreorg_fast.time_limit import TimeLimit

# Between two looks at whether work hangs; nothing is expected to end within it.
_LOOK_S = 0.002


class Hanging:
    """Makes functions hang, in chosen calls, until :meth:`release`.

    ``limit`` is a time limit whose time is up as soon as something hangs, and never before.
    """

    def __init__(self) -> None:
        self._release = threading.Event()
        self._lock = threading.Lock()
        self._begun = 0  # work that hangs and that nobody has given up yet
        self.calls = 0
        self.limit = TimeLimit(60.0, self.wait)

    def instead_of(
        self, original: Callable[..., Any], hangs: Callable[[int], bool]
    ) -> Callable[..., Any]:
        """``original``, which hangs in its calls (0, 1, ...) of which ``hangs`` says so."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                number, self.calls = self.calls, self.calls + 1
                self._begun += hangs(number)
            if hangs(number):
                self._release.wait()
            return original(*arguments, **options)

        return call

    def wait(self, finished: threading.Event, _seconds: float) -> None:
        """Until the work ends, or work has begun to hang. For one waiting thread."""
        while not finished.wait(_LOOK_S):
            with self._lock:
                if self._begun:
                    self._begun -= 1
                    return

    def release(self) -> None:
        """Let everything that hangs come back."""
        self._release.set()
