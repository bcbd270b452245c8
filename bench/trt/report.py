"""A run's record as Markdown, and the goals of the export beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from bench.gpu.goals import Data, Goal
from bench.gpu.report import Record, data, goals_table, head, stages_table
from bench.gpu.timing import WARM
from bench.markdown import table

STAGES = ("cdfnet", "encoder", "generator", "pipeline")
COMPILED = "compile bfloat16"
_TENSORRT = "tensorrt"


def _variants(of: Mapping[str, Any], faces: int) -> Mapping[str, Any]:
    """Of one number of faces; empty where that was not measured."""
    cases = [case for case in of.get("cases", []) if case["faces"] == faces]
    return cases[0]["variants"] if cases else {}


def _median(found: Mapping[str, Any]) -> float:
    return statistics.median(found[WARM]["wall"])


def _best(of: Mapping[str, Any], faces: int) -> float | None:
    """Seconds of the fastest engine in 16 bits."""
    times = [
        _median(found) for name, found in _variants(of, faces).items() if name.startswith(_TENSORRT)
    ]
    return min(times, default=None)


def _milliseconds(faces: int) -> Any:
    def measure(of: Data) -> float | None:
        best = _best(of("pipeline"), faces)
        return None if best is None else 1e3 * best

    return measure


def _to_compiled(of: Data) -> float | None:
    """torch.compile over the best engine, where it is least."""
    ratios = []
    for stage in STAGES:
        for case in of(stage).get("cases", []):
            best = _best(of(stage), case["faces"])
            compiled = case["variants"].get(COMPILED)
            if best is not None and compiled is not None:
                ratios.append(_median(compiled) / best)
    return min(ratios, default=None)


GOALS = (
    Goal("whole pipeline at 256 px, one face", 4, "ms", False, _milliseconds(1)),
    Goal("whole pipeline at 256 px, 8 faces", 10, "ms", False, _milliseconds(8)),
    Goal("every stage: torch.compile over TensorRT, the least", 1, "x", True, _to_compiled),
)


def summary(record: Record) -> str:
    """The stages and the goals: what is printed at the end of a run."""
    return f"{stages_table(record)}\n\n{goals_table(record, GOALS)}"


def markdown(record: Record) -> str:
    """All tables of a record, which is the content of the JSON file."""
    parts = [head(record), _tensorrt(record), summary(record), *_tables(record)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tensorrt(record: Record) -> str:
    found = data(record, "tensorrt")
    if not found:
        return ""
    return (
        f"TensorRT {found.get('version')}; plugin {found.get('plugin')}; onnxruntime "
        f"{found.get('onnxruntime')}."
    )


def _tables(record: Record) -> Iterator[str]:
    passed = data(record, "engine").get("passed")
    if passed:
        yield "## Checks of one engine\n\nPassed: " + "; ".join(passed) + "."
    for stage in STAGES:
        of = data(record, stage)
        if of.get("builds"):
            yield f"## {stage}: engines\n\n" + table(
                ["engine", "MB", "plugin", "from the cache"], _built(of["builds"])
            )
        for case in of.get("cases", []):
            heads = ["variant", "caches", "median, ms", "p90", "p99", "least"]
            heads += ["on the device, median", "n", "RMS error"]
            yield f"## {case['case']}\n\n" + table(heads, _rows(case["variants"]))


def _built(builds: Mapping[str, Any]) -> Iterable[list[str]]:
    for name, facts in builds.items():
        yes = ("yes" if facts[key] else "no" for key in ("plugin", "cached"))
        yield [name, f"{facts['bytes'] / 1e6:.0f}", *yes]


def _rows(variants: Mapping[str, Any]) -> Iterable[list[str]]:
    for name, found in variants.items():
        for cache, times in found.items():
            if cache == "rms_error":
                continue
            wall = [1e3 * seconds for seconds in times["wall"]]
            device = 1e3 * statistics.median(times["device"])
            p90, p99 = np.percentile(wall, [90, 99])
            cells = (statistics.median(wall), p90, p99, min(wall), device)
            yield [
                name,
                cache,
                *(f"{cell:.3g}" for cell in cells),
                str(len(wall)),
                f"{found['rms_error']:.1e}",
            ]
