"""What a live stream did: counts, and the distribution of its latency in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# Latencies are counted in steps of two per cent, which is the error of a percentile.
_STEP = math.log(1.02)
_LEAST_S = 1e-4
PERCENTILES = (50, 95, 99)


class Latencies:
    """Percentiles of any number of durations; at most some hundred counters."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[round(math.log(max(seconds, _LEAST_S)) / _STEP)] += 1

    def percentile(self, percent: float) -> float | None:
        """Seconds that so many per cent do not exceed, within two per cent; None for none."""
        left = math.ceil(self._counts.total() * percent / 100)
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return math.exp(step * _STEP)
        return None


@dataclass
class LiveStats:
    """Counts of one run; every received frame is written, dropped, or under way.

    Attributes:
        received: frames that the source gave.
        dropped: received and never processed, because a newer one was there.
        processed: came out of processing, blank or not.
        blanked: of these, without a picture because processing failed or was late.
        black: shown while nothing came from the source.
        written: frames that the sink took, black ones included.
        unwritten: processed and never written, because the sink was slow or away.
        replaced, filled, pixelated: faces by what became of them, once per frame.
        held: places of lost faces that were covered, once per frame.
        source_breaks, sink_breaks: how often each was lost.
        seconds: from the first frame to the last.
        latency: from receiving a frame to having written it.
        reasons: why frames were blanked, with their number.
    """

    received: int = 0
    dropped: int = 0
    processed: int = 0
    blanked: int = 0
    black: int = 0
    written: int = 0
    unwritten: int = 0
    replaced: int = 0
    filled: int = 0
    pixelated: int = 0
    held: int = 0
    source_breaks: int = 0
    sink_breaks: int = 0
    seconds: float = 0.0
    latency: Latencies = field(default_factory=Latencies, repr=False)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float | None:
        """Frames written per second; None before the second one."""
        return (self.written - 1) / self.seconds if self.seconds > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; latencies in milliseconds."""
        counts = {
            name: value for name, value in vars(self).items() if isinstance(value, (int, float))
        }
        found = {f"p{p}": self.latency.percentile(p) for p in PERCENTILES}
        return {
            **counts,
            "seconds": round(self.seconds, 3),
            "rate": None if self.rate is None else round(self.rate, 2),
            "latency_ms": {
                name: None if value is None else round(1000 * value, 1)
                for name, value in found.items()
            },
            "reasons": dict(self.reasons),
        }

    def sentence(self) -> str:
        """One line for a person."""
        content = self.to_dict()
        latency = " ".join(
            f"{name} {'-' if value is None else f'{value:.0f}'}"
            for name, value in content["latency_ms"].items()
        )
        rate = "-" if self.rate is None else f"{self.rate:.1f}"
        return (
            f"{self.written} frames written, {rate} per second, latency {latency} ms; "
            f"{self.received} received, {self.dropped} dropped, {self.unwritten} unwritten, "
            f"{self.blanked} blanked, {self.black} black; faces: {self.replaced} replaced, "
            f"{self.filled} filled, {self.pixelated} pixelated, {self.held} held; breaks: source "
            f"{self.source_breaks}, sink {self.sink_breaks}"
        )
