"""The goals of spec/kernels.md for a GPU, as data, and what a record says of each."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Data = Callable[[str], Mapping[str, Any]]

ENGINE = "auto-bfloat16"  # what lf.compile gives who asks for nothing
AUTOTUNED = "compile-max-autotune-bfloat16-captured"
EAGER = ("eager-float32", "eager-bfloat16")


@dataclasses.dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        what: the quantity.
        limit: its bound.
        unit: of both.
        at_least: the bound is a lower one.
        measure: its value from the data of the stages by name; None where it was not measured.
    """

    what: str
    limit: float
    unit: str
    at_least: bool
    measure: Callable[[Data], float | None]

    @property
    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g} {self.unit}".strip()

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def times_of(
    recurrence: Mapping[str, Any], faces: str, variant: str, cache: str, what: str = "wall"
) -> dict[str, float]:
    """Median, percentiles, least and number of one variant's times, seconds; KeyError without."""
    seconds = recurrence["times"][faces][variant][cache][what]
    p90, p99 = np.percentile(seconds, [90, 99])
    return {
        "median": statistics.median(seconds),
        "p90": float(p90),
        "p99": float(p99),
        "least": min(seconds),
        "n": len(seconds),
    }


def _measured(function: Callable[[Data], float]) -> Callable[[Data], float | None]:
    """None where something that the function needs is not in the record."""

    def measure(data: Data) -> float | None:
        try:
            return function(data)
        except (KeyError, ValueError, StopIteration):
            return None

    return measure


def _median(data: Data, faces: str, variant: str) -> float:
    return times_of(data("recurrence"), faces, variant, "warm")["median"]


def _one_face(data: Data) -> float:
    return 1e3 * _median(data, "1", ENGINE)


def _to_autotuned(data: Data) -> float:
    return _median(data, "1", AUTOTUNED) / _median(data, "1", ENGINE)


def _to_eager(data: Data) -> float:
    """The faster eager one."""
    return min(_median(data, "1", name) for name in EAGER) / _median(data, "1", ENGINE)


def _share_of_rate(data: Data) -> float:
    """Of the bfloat16 rate of the best product measured in this run, in percent."""
    rates = data("rates")["matrix"].items()
    rate = max(found["flops"] for name, found in rates if name.startswith("bfloat16"))
    operations = 256 * data("recurrence")["work"]["operations_per_face"]
    return 100 * operations / _median(data, "256", ENGINE) / rate


def _training(data: Data, batch: int = 64) -> Mapping[str, Any]:
    cases = data("training")["cases"]
    variants: Mapping[str, Any] = next(c["variants"] for c in cases if c.get("batch") == batch)
    return variants


def _training_speed(data: Data) -> float:
    found = _training(data)
    return statistics.median(found["eager"]["wall"]) / statistics.median(found["triton"]["wall"])


def _training_memory(data: Data) -> float:
    """Peak of activations at all blocks over that at half of them: 2 if it grows with depth."""
    found = _training(data)["triton"]
    return float(found["activation_bytes"] / found["activation_bytes_at_half_depth"])


GOALS = (
    Goal("one face, default reorganization, warm", 1, "ms", False, _measured(_one_face)),
    Goal(
        "one face: torch.compile max-autotune with graphs over this",
        4,
        "x",
        True,
        _measured(_to_autotuned),
    ),
    Goal("one face: eager PyTorch over this", 20, "x", True, _measured(_to_eager)),
    Goal(
        "256 faces: share of the measured bfloat16 rate", 60, "%", True, _measured(_share_of_rate)
    ),
    Goal("training step, batch 64: eager over this", 2, "x", True, _measured(_training_speed)),
    Goal(
        "training step: activations at all blocks over half of them",
        1.25,
        "x",
        False,
        _measured(_training_memory),
    ),
)
