"""One process per variant, which sleeps while others are timed.

In one process the thread pools of the libraries would disturb each other: OpenMP's workers spin
for milliseconds after a call. Here a worker answers only once its process has stopped using the
processor, so that the next variant finds the machine idle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from bench.runtimes import Array, Call, Setting, as_array, build, export
from bench.variants import Variant

_LONG_CALL = 2.0  # seconds from which a first call is not repeated

_IDLE_LOOK = 0.01  # seconds between two looks at the process's use of the processor
_IDLE_SHARE = 0.1  # of one processor; a spinning pool uses at least one
_IDLE_LIMIT = 1.0  # seconds; a library that never rests is timed all the same


class WorkerError(Exception):
    """A worker could not do what it was asked for; the message is the library's own."""


@dataclasses.dataclass(frozen=True)
class FirstCall:
    """A result on new inputs, (rows, dim), and the wall time of that call in seconds."""

    result: Array
    seconds: float


class Worker:
    """A variant in its own process. Every method raises WorkerError if the variant fails."""

    def __init__(self, variant: Variant, setting: Setting) -> None:
        self.variant = variant
        self._process, self._connection = _start(_serve, variant, setting)
        try:
            self.facts: dict[str, Any] = self._receive()
        except WorkerError:
            self.close()
            raise

    def load(self, s: Array, f: Array) -> FirstCall:
        """Give it new inputs (rows, dim) and call it on them, twice unless that takes long."""
        made: FirstCall = self._ask(_Server.load, s, f)
        return made

    def time(self, calls: int, lead_in: bool) -> list[float]:
        """Seconds of each of ``calls`` calls, after an untimed one if ``lead_in``."""
        seconds: list[float] = self._ask(_Server.time, calls, lead_in)
        return seconds

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _ask(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            self._connection.send((method.__name__, arguments))
        except OSError as error:
            raise WorkerError(f"its process ended ({error})") from None
        return self._receive()

    def _receive(self) -> Any:
        return _receive(self._process, self._connection)


def export_network(network: str, setting: Setting) -> None:
    """:func:`bench.runtimes.export` in a process of its own, whose memory is then free again."""
    process, connection = _start(_export, network, setting)
    try:
        _receive(process, connection)
    finally:
        connection.close()
        process.terminate()
        process.join()


def _start(
    target: Callable[..., None], *arguments: Any
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    # Spawned, not forked: a forked copy of torch's thread pool hangs.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    return process, here


def _receive(process: multiprocessing.process.BaseProcess, connection: Connection) -> Any:
    try:
        error, answer = connection.recv()
    except (EOFError, OSError):
        process.join(timeout=1)
        raise WorkerError(f"its process ended with code {process.exitcode}") from None
    if error is not None:
        raise WorkerError(error)
    return answer


class _Server:
    """What runs in the process of a variant."""

    def __init__(self, variant: Variant, setting: Setting) -> None:
        self._prepare, self.facts = build(variant, setting)
        self._call: Call | None = None

    def load(self, s: Array, f: Array) -> FirstCall:
        self._call = self._prepare(s, f)
        result, seconds = _timed(self._call)
        if seconds < _LONG_CALL:
            result, seconds = _timed(self._call)
        return FirstCall(as_array(result), seconds)

    def time(self, calls: int, lead_in: bool) -> list[float]:
        assert self._call is not None
        if lead_in:
            self._call()
        return [_timed(self._call)[1] for _ in range(calls)]


def _timed(call: Call) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _serve(connection: Connection, variant: Variant, setting: Setting) -> None:
    with _one_process(connection, setting):
        server = _Server(variant, setting)
        connection.send((None, server.facts))
        while True:
            method, arguments = connection.recv()
            answer = getattr(server, method)(*arguments)
            _rest()
            connection.send((None, answer))


def _export(connection: Connection, network: str, setting: Setting) -> None:
    with _one_process(connection, setting):
        export(network, setting)
        connection.send((None, None))


@contextlib.contextmanager
def _one_process(connection: Connection, setting: Setting) -> Iterator[None]:
    """Send an error of the block to the parent, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(setting.threads)
    try:
        yield
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone or has enough
    except Exception as error:
        lines = str(error).strip().splitlines()
        connection.send((f"{type(error).__name__}: {lines[0] if lines else ''}", None))


def _rest() -> None:
    """Wait until this process's threads have gone to sleep."""
    limit = time.perf_counter() + _IDLE_LIMIT
    while time.perf_counter() < limit:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(_IDLE_LOOK)
        if time.process_time() - used < _IDLE_SHARE * (time.perf_counter() - start):
            return
