"""Timing many workers by turns: every round calls each of them, so that all meet the same noise."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.worker import Worker, WorkerError

# A turn makes one call of a slow variant and a few of a fast one, after one that is not timed: the
# other variants have emptied the caches, and a live service calls again and again.
_TURN_SECONDS = 0.3
_TURN_CALLS = 5


@dataclasses.dataclass(frozen=True)
class Budget:
    """When to stop, for one number of faces.

    Attributes:
        rounds: at most so many turns of each variant.
        seconds: of timed calls, shared equally among the variants. A variant whose first call
            takes more than its share is timed by that call alone.
    """

    rounds: int
    seconds: float


@dataclasses.dataclass
class Measurement:
    """One variant at one number of faces.

    Attributes:
        seconds: wall time of every timed call.
        warm: False if the only one was its first call on these inputs.
        max_error, rms_error: against the float64 reference, over all values.
        failure: why it has no numbers.
    """

    variant: str
    faces: int
    seconds: list[float] = dataclasses.field(default_factory=list)
    warm: bool = True
    max_error: float | None = None
    rms_error: float | None = None
    failure: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(largest - least) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def measure(
    workers: Sequence[Worker],
    inputs: tuple[NDArray[np.float32], NDArray[np.float32]],
    exact: NDArray[np.float64],
    faces: int,
    budget: Budget,
    after_turn: Callable[[list[Measurement]], None],
) -> list[Measurement]:
    """Check every worker's result once, then time them round after round.

    Args:
        workers: what to time, in order.
        inputs: latents and new key features, each (rows, dim).
        exact: the float64 reference's result, (rows, dim).
        faces: for the record.
        budget: when to stop.
        after_turn: called with everything so far, after each check and each round.
    """
    measurements: list[Measurement] = []
    expected: dict[str, float] = {}
    share = budget.seconds / max(1, len(workers))
    for worker in workers:
        measurement = Measurement(worker.variant.name, faces)
        measurements.append(measurement)
        with _noting_failure(measurement):
            expected[measurement.variant] = _check(worker, inputs, exact, measurement, share)
        after_turn(measurements)
    for _ in range(budget.rounds):
        took_part = False
        for worker, measurement in zip(workers, measurements, strict=True):
            if not _has_turn(measurement, expected, share):
                continue
            took_part = True
            one = expected[measurement.variant]
            calls = min(_TURN_CALLS, max(1, int(_TURN_SECONDS / one)))
            with _noting_failure(measurement):
                measurement.seconds += worker.time(calls, lead_in=one < _TURN_SECONDS)
        if not took_part:
            break
        after_turn(measurements)
    return measurements


def _check(
    worker: Worker,
    inputs: tuple[NDArray[np.float32], NDArray[np.float32]],
    exact: NDArray[np.float64],
    measurement: Measurement,
    share: float,
) -> float:
    first = worker.load(*inputs)
    error = first.result.astype(np.float64) - exact
    measurement.max_error = float(np.abs(error).max())
    measurement.rms_error = float(np.sqrt(np.mean(error**2)))
    if first.seconds > share:
        measurement.seconds.append(first.seconds)
        measurement.warm = False
    return first.seconds


def _has_turn(measurement: Measurement, expected: dict[str, float], share: float) -> bool:
    if measurement.failure is not None:
        return False
    if not measurement.seconds:
        return True
    return sum(measurement.seconds) + expected[measurement.variant] <= share


@contextlib.contextmanager
def _noting_failure(measurement: Measurement) -> Any:
    try:
        yield
    except WorkerError as error:
        measurement.failure = f"failed: {error}"
