"""Percentiles of latencies, and the counts as a person and a program read them."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.live.stats import Latencies, LiveStats


@given(st.lists(st.floats(1e-3, 1e3), min_size=1), st.integers(1, 100))
def test_percentiles_are_those_of_all_within_two_per_cent(values: list[float], p: int) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = np.percentile(values, p, method="inverted_cdf")
    assert latencies.percentile(p) / exact < 1.021
    assert exact / latencies.percentile(p) < 1.021


def test_percentiles_of_nothing_and_of_no_time() -> None:
    latencies = Latencies()
    assert latencies.percentile(50) is None
    latencies.add(0.0)
    assert latencies.percentile(50) < 1e-3


def test_counts_for_programs_and_people() -> None:
    stats = LiveStats(received=7, written=5, seconds=2.0, blanked=1)
    stats.latency.add(0.1)
    content = json.loads(json.dumps(stats.to_dict()))
    assert content["rate"] == 2.0
    assert abs(content["latency_ms"]["p95"] - 100) < 2
    assert content["received"] == 7
    assert "5 frames written, 2.0 per second" in stats.sentence()
    assert "1 blanked" in stats.sentence()
    assert LiveStats().to_dict()["rate"] is None
