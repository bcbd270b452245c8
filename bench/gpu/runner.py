"""Runs one stage in a process of its own, and keeps what it said whatever becomes of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Between the end of the pipe and the end of the process: interpreters and CUDA clean up.
_EXIT_SECONDS = 10.0
_REASON_BYTES = 4000

PASSED = "passed"
FAILED = "failed"
TIMED_OUT = "timed out"
UNAVAILABLE = "unavailable"
NOT_RUN = "not run"


@dataclasses.dataclass
class Outcome:
    """What is known of a stage.

    Attributes:
        status: one of the words above.
        reason: why it is not "passed"; one line.
        seconds: wall time of all its processes.
        failed: reasons by step; a stage goes on after a step that failed.
        wrong: a result was not what it must be.
        data: what it kept.
    """

    status: str = NOT_RUN
    reason: str | None = None
    seconds: float = 0.0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    wrong: bool = False
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Process:
    """How the processes of a stage are started.

    Attributes:
        command: the arguments, from what is known so far and the number of the pipe's end.
        log: an existing file that takes their output.
        folder: where they run.
        environment: variables beside the command's own.
    """

    command: Callable[[Outcome, int], Sequence[str]]
    log: Path
    folder: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run(process: Process, limit: float, changed: Callable[[Outcome], None]) -> Outcome:
    """Run a stage to its end, or for ``limit`` seconds.

    A process that dies, or stays longer in a step than it said, fails in that step; another one
    goes on without it. So nothing is lost but the step, and there are at most as many processes
    as steps.

    Args:
        process: how to start it.
        limit: seconds for all its processes together.
        changed: called with the outcome after every message.
    """
    outcome = Outcome()
    start = time.monotonic()
    again = True
    while again:
        failures = len(outcome.failed)
        attempt = _Attempt(process, outcome, start + limit)
        attempt.follow(changed)
        again = attempt.died and len(outcome.failed) > failures and time.monotonic() < start + limit
    _conclude(outcome, attempt)
    outcome.seconds = round(time.monotonic() - start, 1)
    changed(outcome)
    return outcome


def _conclude(outcome: Outcome, last: _Attempt) -> None:
    if outcome.status == UNAVAILABLE:
        return
    if last.out_of_time:
        outcome.status, outcome.reason = TIMED_OUT, "its time was up"
    elif last.died and not outcome.failed:
        outcome.status, outcome.reason = FAILED, last.end
    elif outcome.failed:
        step, reason = next(iter(outcome.failed.items()))
        more = f", and {len(outcome.failed) - 1} more" if len(outcome.failed) > 1 else ""
        outcome.status, outcome.reason = FAILED, f"{step}: {reason}{more}"
    else:
        outcome.status = PASSED


class _Attempt:
    """One process of a stage.

    Attributes:
        died: it ended otherwise than by finishing.
        out_of_time: the stage's time ended it.
        end: how it ended, in words.
    """

    def __init__(self, process: Process, outcome: Outcome, deadline: float) -> None:
        self._outcome = outcome
        self._deadline = deadline
        self._log = process.log
        self._log_start = process.log.stat().st_size
        self._step: str | None = None
        self._step_deadline = float("inf")
        self.died, self.out_of_time, self.end = False, False, ""
        self._pipe, there = os.pipe()
        try:
            with process.log.open("ab") as log:
                self._process = subprocess.Popen(
                    process.command(outcome, there),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=process.folder,
                    env={**os.environ, **process.environment},
                    pass_fds=[there],
                    start_new_session=True,  # so that what it starts ends with it
                )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(there)

    def follow(self, changed: Callable[[Outcome], None]) -> None:
        """Take its messages until it ends or must be ended."""
        try:
            late = self._read(changed)
            self.end = self._finish(late)
        finally:
            self._kill()
            os.close(self._pipe)
        if self.died and self._step is not None:
            self._outcome.failed[self._step] = self.end

    def _read(self, changed: Callable[[Outcome], None]) -> bool:
        """True if time was up, False at the end of the pipe."""
        text = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while True:
                until = min(self._deadline, self._step_deadline)
                if not selector.select(max(0.0, until - time.monotonic())):
                    return True
                found = os.read(self._pipe, 1 << 16)
                if not found:
                    return False
                *lines, text = (text + found).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                    changed(self._outcome)

    def _take(self, message: Mapping[str, Any]) -> None:
        if "begin" in message:
            self._step = message["begin"]
            self._step_deadline = time.monotonic() + message["limit"]
        elif "keep" in message:
            _put(self._outcome.data, message["keep"], message["value"])
        elif "unavailable" in message:
            self._outcome.status = UNAVAILABLE
            self._outcome.reason = message["unavailable"]
        else:
            if "fail" in message:
                self._outcome.failed[message["fail"]] = message["reason"]
                self._outcome.wrong |= message["wrong"]
            self._step, self._step_deadline = None, float("inf")

    def _finish(self, late: bool) -> str:
        if late:
            self.died = True
            self.out_of_time = time.monotonic() >= self._deadline
            return "the stage's time was up" if self.out_of_time else "it took too long"
        try:
            code = self._process.wait(timeout=_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.died = True
            return "its process did not end"
        self.died = code != 0
        what = f"code {code}" if code >= 0 else signal.Signals(-code).name
        return f"its process ended with {what}: {self._last_words()}"

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(self._log_start, self._log.stat().st_size - _REASON_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _put(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        data = data.setdefault(name, {})
    data[path[-1]] = value
