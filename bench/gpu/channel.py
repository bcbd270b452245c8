"""What the process of a stage tells the command while it works, so that its end loses nothing.

Messages are JSON, one a line, through a pipe: a step begins (and by when it must have ended), a
step failed, a value to keep. A step is the unit that may fail, hang or crash on its own: the
command then starts the stage again, and the stage leaves out the steps that failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

# Of a process whose CUDA context an error has made useless: only a new process can go on.
BROKEN = 86


@dataclasses.dataclass(frozen=True)
class Context:
    """What a stage is told.

    Attributes:
        root: the checkout.
        work: an existing folder that outlives the run: builds and caches.
        seconds: the stage's time limit.
        quick: measure less.
        device: torch device; "cpu" runs what can run there, for tests.
        earlier: what earlier stages kept, by stage.
        kept: what this stage kept before its process was started again.
        started: when this process began, on the monotonic clock.
    """

    root: Path
    work: Path
    seconds: float
    quick: bool = False
    device: str = "cuda"
    earlier: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    kept: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    started: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the command ends this process."""
        return self.started + self.seconds - time.monotonic()

    @property
    def site(self) -> Path:
        """The private folder that the built package is in."""
        return self.work / "site"


class Unavailable(Exception):
    """A stage cannot run on this machine although nothing is wrong; the message says why."""


class WrongResult(Exception):
    """A result is not what it must be: the whole run has failed."""


class Channel:
    """The stage's end of the pipe.

    Args:
        stream: where the lines go.
        failed: steps that are to be left out because they failed before.
        check_device: raises if the process can no longer use its device.
    """

    def __init__(
        self,
        stream: TextIO,
        failed: Mapping[str, str] | None = None,
        check_device: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._failed = set(failed or {})
        self.check_device = check_device

    def keep(self, *path: str, value: Any) -> None:
        """Put a JSON-ready value into the stage's results; the path's dicts are made."""
        self._send({"keep": list(path), "value": value})

    def attempt(self, step: str, limit: float, work: Callable[[], Any]) -> Any:
        """The result of ``work()``; None if it fails or has failed before.

        Args:
            step: its name, unique in the stage.
            limit: seconds after which the command ends the process.
            work: called once.
        """
        if step in self._failed:
            return None
        with self.step(step, limit):
            return work()
        return None  # after an error, which the block has reported

    @contextlib.contextmanager
    def step(self, name: str, limit: float) -> Iterator[None]:
        """A block as a step; its error is reported and ends there."""
        self.begin(name, limit)
        try:
            yield
        except Unavailable:
            raise
        except Exception as error:
            traceback.print_exc()
            self.fail(name, one_line(error), wrong=isinstance(error, WrongResult))
            self.stop_if_broken()
        else:
            self.end(name)

    def begin(self, step: str, limit: float) -> None:
        self._send({"begin": step, "limit": limit})

    def end(self, step: str) -> None:
        self._send({"end": step})

    def fail(self, step: str, reason: str, wrong: bool = False) -> None:
        self._failed.add(step)
        self._send({"fail": step, "reason": reason, "wrong": wrong})

    def unavailable(self, reason: str) -> None:
        self._send({"unavailable": reason})

    def has_failed(self, step: str) -> bool:
        return step in self._failed

    def stop_if_broken(self) -> None:
        """End this process if an error has made its device useless."""
        try:
            self.check_device()
        except Exception as error:
            print(f"the device cannot be used any more ({one_line(error)})", flush=True)
            os._exit(BROKEN)

    def _send(self, message: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(message) + "\n")
        self._stream.flush()


def one_line(error: BaseException) -> str:
    """The error's type and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
