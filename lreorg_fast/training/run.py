"""A long computation that shows progress, can be interrupted, and resumes exactly.

A :class:`Run` owns one folder: ``state.pt`` (last checkpoint, replaced atomically), ``log.jsonl``
(one line of figures per report) and ``done.json`` once finished. The checkpoint carries the
state of torch's random generator, so a resumed run draws what it would have drawn.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from lreorg_fast.errors import CheckpointError, OutputError
from lreorg_fast.files import atomic_file

Say = Callable[[str], None]
# (stop, save) as this process wants it -> as all processes of the run do it
Agree = Callable[[bool, bool], tuple[bool, bool]]
ModuleT = TypeVar("ModuleT", bound=nn.Module)
_SMOOTHING = 0.98


class Stateful(Protocol):
    """What a checkpoint is made of: a network, an optimizer, a schedule."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def states(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """What to save of several parts, by name."""
    return {name: part.state_dict() for name, part in parts.items()}


def restore_states(parts: Mapping[str, Stateful], saved: Mapping[str, Any]) -> None:
    """Load what :func:`states` returned."""
    for name, part in parts.items():
        part.load_state_dict(saved[name])


def channels_last(module: ModuleT) -> ModuleT:
    """The same module with its convolutions in the order that CPUs are fastest in."""
    convert: Any = module.to  # the overload for memory_format is typed in some torch versions only
    convert(memory_format=torch.channels_last)
    return module


def format_seconds(seconds: float) -> str:
    """``3725`` -> ``1:02:05``."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def append_line(path: Path, line: str) -> None:
    """Add a line to a log.

    Raises:
        OutputError: the file cannot be written, for instance because the disk is full.
    """
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop; everything up to there is saved."""


class Run:
    """Progress, checkpoints and the log of one stage.

    ``total`` counts in ``unit`` (steps, thousands of pictures). ``save_every`` is in seconds, so
    that an interruption never costs more than that. Of several processes only one ``writes``.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        total: float,
        unit: str,
        say: Say,
        save_every: float = 60.0,
        writes: bool = True,
    ) -> None:
        self.folder = folder
        self.name = name
        self.total = total
        self.unit = unit
        self.say = say
        self.save_every = save_every
        self.writes = writes
        self.stopping = False
        self.position = 0.0
        self.seconds = 0.0
        self._since = time.monotonic()
        self.averages: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def done(self) -> bool:
        """Whether an earlier call finished this stage."""
        return (self.folder / "done.json").exists()

    def resume(self) -> dict[str, Any] | None:
        """The last saved state, or None; sets position, time spent and the random generator."""
        path = self.folder / "state.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{path} cannot be read ({type(error).__name__}): delete it to start anew"
            ) from error
        try:
            self.position, self.seconds = state["position"], state["seconds"]
            self.averages = state["averages"]
            torch.set_rng_state(state["random"])
            payload: dict[str, Any] = state["payload"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is no checkpoint of a training run: move it away to start anew"
            ) from error
        self.say(f"{self.name}: resumed at {self.position:g} of {self.total:g} {self.unit}")
        return payload

    def save(self, payload: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically; a crash or a full disk leaves the old one."""
        if not self.writes:
            return
        state = {
            "position": self.position,
            "seconds": self.seconds,
            "averages": self.averages,
            "random": torch.get_rng_state(),
            "payload": dict(payload),
        }
        # In memory first: torch turns the errors of a stream into ones that say nothing.
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_file(self.folder / "state.pt", overwrite=True) as stream:
            stream.write(content.getbuffer())

    def track(self, **values: float) -> None:
        """Running means of figures, for the progress line."""
        for key, value in values.items():
            before = self.averages.get(key, value)
            self.averages[key] = _SMOOTHING * before + (1 - _SMOOTHING) * value

    def steps(
        self, size: float, payload: Callable[[], Mapping[str, Any]], agree: Agree | None = None
    ) -> Iterator[float]:
        """Yield the position until ``total``, saving and reporting as time passes.

        One step advances by ``size``. ``payload`` is called for what has to be saved. ``agree`` is
        for several processes, which must save and stop at the same step.

        Raises:
            Interrupted: ``stopping`` was set; the step was finished and saved.
        """
        last_save = last_time = self._since = time.monotonic()
        last_position = self.position
        while self.position < self.total:
            yield self.position
            self.position += size
            now = time.monotonic()
            stop, save = self.stopping, now - last_save >= self.save_every
            if agree is not None:
                stop, save = agree(stop, save)
            if stop or save:
                self.seconds = self.elapsed()
                rate = (self.position - last_position) / max(now - last_time, 1e-9)
                self._report(rate)
                last_time = self._since = now
                last_position = self.position
                self.save(payload())
                last_save = time.monotonic()
            if stop:
                raise Interrupted(
                    f"stopped at {self.position:g} of {self.total:g} {self.unit}, saved in "
                    f"'{self.folder}'; give the same command again to go on"
                )
        self.seconds, self._since = self.elapsed(), time.monotonic()
        self.save(payload())

    def elapsed(self) -> float:
        """Seconds spent on this run, earlier sessions included."""
        return self.seconds + time.monotonic() - self._since

    @contextlib.contextmanager
    def stops_on_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM finish the step and save; a second SIGINT ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can have handlers; whoever started this one stops it
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(_number: int, _frame: Any) -> None:
            self.stopping = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.say(f"{self.name}: stopping after this step; again to end at once")

        try:
            for number in before:
                signal.signal(number, stop)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def finish(self, **figures: Any) -> None:
        """Mark the stage as finished, with its figures and the time it took."""
        if not self.writes:
            return
        record = {"stage": self.name, "total": self.total, "unit": self.unit}
        record |= {"seconds": round(self.seconds, 1), **figures}
        with atomic_file(self.folder / "done.json", overwrite=True) as stream:
            stream.write(json.dumps(record, indent=1).encode())
        self.say(f"{self.name}: done in {format_seconds(self.seconds)}")

    def _report(self, rate: float) -> None:
        if not self.writes:
            return
        left = format_seconds((self.total - self.position) / max(rate, 1e-9))
        # A name with a dot is a part of something that is said as a whole.
        whole = {name: value for name, value in self.averages.items() if "." not in name}
        figures = " ".join(f"{name} {value:.4g}" for name, value in whole.items())
        self.say(
            f"{self.name}: {self.position:.4g}/{self.total:g} {self.unit} "
            f"({rate * 60:.3g} a minute, {left} left) {figures}"
        )
        line = {"position": self.position, "seconds": round(self.seconds, 1), **self.averages}
        append_line(self.folder / "log.jsonl", json.dumps(line))
