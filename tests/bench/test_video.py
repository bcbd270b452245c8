"""The benchmark of whole pictures on the smallest case: it runs, and its numbers add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import video


def test_it_measures_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(video.SIZES, "720p", (320, 192))
    output = tmp_path / "v"
    options = "--sizes 720p --faces 2 --frames 2 --warm 1 --memory-frames 40 --threads 1"
    video.main([*options.split(), "--output", str(output)])
    results = json.loads(output.with_suffix(".json").read_text())
    (case,) = results["cases"].values()
    times = case["ms_per_frame"]
    assert tuple(times) == video.STAGES
    for stage in ("decode", "detect", "track", "E", "G", "verify", "blend", "encode out"):
        assert times[stage] > 0, stage
    total = sum(times.values())
    assert case["frames_per_second"] == pytest.approx(1000 / total, rel=0.05)
    share = (total - times["E"] - times["G"]) / total
    assert case["all_but_E_and_G"] == pytest.approx(share, abs=0.01)
    assert sum(case["faces"].values()) == 4  # two people in two frames: known, or held
    assert results["memory"]["frames"] == 40
    assert results["memory"]["threads_left"] <= 0  # those of an earlier test may end
    assert len(results["memory"]["resident_mib"]) == 11
    assert "| 720p, 2 faces |" in output.with_suffix(".md").read_text()


def test_a_stage_inside_of_another_stops_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(video.time, "perf_counter", lambda: now[0])
    stages = video.Stages()
    with stages("outer"):
        now[0] += 1
        with stages("inner"):
            now[0] += 10
        now[0] += 100
    assert stages.seconds == {"outer": 101, "inner": 10}
