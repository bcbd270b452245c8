"""A long computation that shows progress, can be interrupted, and resumes exactly.

A :class:`Run` owns one folder: ``state.pt`` (last checkpoint, replaced atomically), ``log.jsonl``
(one line of figures per report) and ``done.json`` once finished. The checkpoint carries the
state of torch's random generator, so a resumed run draws what it would have drawn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from lreorg_fast.errors import CheckpointError
from lreorg_fast.files import atomic_file

Say = Callable[[str], None]
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


class Run:
    """Progress, checkpoints and the log of one stage.

    ``total`` counts in ``unit`` (steps, thousands of pictures). ``save_every`` is in seconds, so
    that an interruption never costs more than that.
    """

    def __init__(
        self, folder: Path, name: str, total: float, unit: str, say: Say, save_every: float = 60.0
    ) -> None:
        self.folder = folder
        self.name = name
        self.total = total
        self.unit = unit
        self.say = say
        self.save_every = save_every
        self.position = 0.0
        self.seconds = 0.0
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
        self.position, self.seconds = state["position"], state["seconds"]
        self.averages = state["averages"]
        torch.set_rng_state(state["random"])
        self.say(f"{self.name}: resumed at {self.position:g} of {self.total:g} {self.unit}")
        payload: dict[str, Any] = state["payload"]
        return payload

    def save(self, payload: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically; a crash leaves the old one."""
        state = {
            "position": self.position,
            "seconds": self.seconds,
            "averages": self.averages,
            "random": torch.get_rng_state(),
            "payload": dict(payload),
        }
        with atomic_file(self.folder / "state.pt", overwrite=True) as stream:
            torch.save(state, stream)

    def track(self, **values: float) -> None:
        """Running means of figures, for the progress line."""
        for key, value in values.items():
            before = self.averages.get(key, value)
            self.averages[key] = _SMOOTHING * before + (1 - _SMOOTHING) * value

    def steps(self, size: float, payload: Callable[[], Mapping[str, Any]]) -> Iterator[float]:
        """Yield the position until ``total``, saving and reporting as time passes.

        One step advances by ``size``. ``payload`` is called for what has to be saved.
        """
        last_save = last_time = time.monotonic()
        last_position = self.position
        while self.position < self.total:
            yield self.position
            self.position += size
            now = time.monotonic()
            if now - last_save >= self.save_every:
                self.seconds += now - last_time
                rate = (self.position - last_position) / max(now - last_time, 1e-9)
                self._report(rate)
                last_time, last_position = now, self.position
                self.save(payload())
                last_save = time.monotonic()
        self.seconds += time.monotonic() - last_time
        self.save(payload())

    def finish(self, **figures: Any) -> None:
        """Mark the stage as finished, with its figures and the time it took."""
        record = {"stage": self.name, "total": self.total, "unit": self.unit}
        record |= {"seconds": round(self.seconds, 1), **figures}
        with atomic_file(self.folder / "done.json", overwrite=True) as stream:
            stream.write(json.dumps(record, indent=1).encode())
        self.say(f"{self.name}: done in {format_seconds(self.seconds)}")

    def _report(self, rate: float) -> None:
        left = format_seconds((self.total - self.position) / max(rate, 1e-9))
        figures = " ".join(f"{k} {v:.4g}" for k, v in self.averages.items())
        self.say(
            f"{self.name}: {self.position:.4g}/{self.total:g} {self.unit} "
            f"({rate * 60:.3g} a minute, {left} left) {figures}"
        )
        line = {"position": self.position, "seconds": round(self.seconds, 1), **self.averages}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
