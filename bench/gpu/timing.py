"""Timing calls on a device by turns: every round calls each of them, so that all meet the same
clocks and temperatures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Call = Callable[[], Any]

WARM, COLD = "warm", "cold"

# A turn makes one call of a slow variant and some of a fast one.
_TURN_SECONDS = 0.02
_TURN_CALLS = 25
_LEAST_SECONDS = 1e-7  # what a clock can tell apart
_MOST_CALLS = 250  # of one variant: enough for a 99th percentile
_DIGITS = 8  # of seconds: 10 ns


@dataclasses.dataclass
class Times:
    """Of one call, again and again.

    Attributes:
        wall: seconds from before the call until its result is there, which is what a user waits.
        device: seconds between two events around it, which leaves out waiting for the host.
    """

    wall: list[float] = dataclasses.field(default_factory=list)
    device: list[float] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, list[float]]:
        return {
            "wall": [round(x, _DIGITS) for x in self.wall],
            "device": [round(x, _DIGITS) for x in self.device],
        }


class Clock:
    """Times calls on one torch device.

    Args:
        device: "cuda" or "cpu".
        flush_bytes: size of the write that empties the caches before a cold call; several times
            the last-level cache.
    """

    def __init__(self, device: str, flush_bytes: int) -> None:
        self._cuda = device == "cuda"
        self._flush = torch.empty(flush_bytes // 4, dtype=torch.float32, device=device)
        if self._cuda:
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def once(self, call: Call, cache: str, times: Times) -> float:
        """Add one call to ``times``; returns its wall seconds.

        The device is idle when the call starts: calls do not hide each other's launches.
        """
        if cache == COLD:
            self._flush.fill_(len(times.wall))
        self.wait()
        start = time.perf_counter()
        if not self._cuda:
            call()
            seconds = device = time.perf_counter() - start
        else:
            self._events[0].record()
            call()
            self._events[1].record()
            torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            device = 1e-3 * self._events[0].elapsed_time(self._events[1])
        times.wall.append(seconds)
        times.device.append(device)
        return seconds

    def wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()


def by_turns(
    calls: Mapping[str, Call], clock: Clock, caches: Sequence[str], rounds: int, seconds: float
) -> dict[str, dict[str, Times]]:
    """Times by name and cache.

    Args:
        calls: by name; each was called before, so that nothing is left to compile.
        caches: WARM (after a call of the same that is not timed), COLD (after the flush) or both.
        rounds: at most so many turns of each.
        seconds: for all; a round that was begun is finished, and there is at least one.
    """
    found = {name: {cache: Times() for cache in caches} for name in calls}
    end = time.monotonic() + seconds
    for number in range(rounds):
        if number > 0 and time.monotonic() >= end:
            break
        for name, call in calls.items():
            for cache, times in found[name].items():
                _turn(call, clock, cache, times)
    return found


def _turn(call: Call, clock: Clock, cache: str, times: Times) -> None:
    left = _MOST_CALLS - len(times.wall)
    if left <= 0:
        return
    if cache == WARM:
        call()  # the others have emptied the caches
    one = clock.once(call, cache, times)
    for _ in range(min(_TURN_CALLS, left, int(_TURN_SECONDS / max(one, _LEAST_SECONDS))) - 1):
        clock.once(call, cache, times)
