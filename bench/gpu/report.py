"""A run's record as Markdown: the stages, the goals beside what was measured, the tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.gpu.goals import GOALS, Goal, times_of
from bench.markdown import table

Record = Mapping[str, Any]


def markdown(record: Record) -> str:
    """All tables of a record, which is the content of the JSON file."""
    parts = [head(record), summary(record), *_tables(record)]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(record: Record) -> str:
    """The stages and the goals: what is printed at the end of a run."""
    return f"{stages_table(record)}\n\n{goals_table(record, GOALS)}"


def data(record: Record, stage: str) -> Mapping[str, Any]:
    """What a stage kept; empty where it did not run."""
    found: Mapping[str, Any] = record["stages"].get(stage, {}).get("data", {})
    return found


def head(record: Record) -> str:
    """The machine, the versions and the date."""
    found = data(record, "device")
    gpu, machine = found.get("gpu", {}), found.get("machine", {})
    facts = [
        f"compute capability {'.'.join(map(str, gpu.get('capability', [])))}",
        f"{gpu.get('multiprocessors')} multiprocessors",
        f"{gpu.get('memory_bytes', 0) / 2**30:.0f} GiB",
        f"{gpu.get('l2_bytes', 0) / 2**20:.0f} MiB of L2",
        *(f"{name} {value}" for name, value in found.get("state", {}).items() if value),
    ]
    versions = [f"{name} {v}" for name, v in found.get("packages", {}).items() if v]
    programs = [f"{name}: {v}" for name, v in found.get("programs", {}).items() if v]
    state = "" if record["complete"] else "\n\n**The run did not finish: results are partial.**"
    return (
        f"# {gpu.get('name', 'unknown device')}\n\n{', '.join(facts)}; "
        f"PyTorch's CUDA {gpu.get('torch_cuda')}; {', '.join(versions)}; {'; '.join(programs)}; "
        f"{machine.get('cpu')}, {machine.get('kernel')}; commit {machine.get('commit')}, "
        f"sources {found.get('sources')}; "
        f"{record['date']}; {record['seconds']:.0f} s{', quick' if record['quick'] else ''}.{state}"
    )


def stages_table(record: Record) -> str:
    """What ran, and why not."""
    rows = []
    for name, stage in record["stages"].items():
        status = "**wrong result**" if stage["wrong"] else stage["status"]
        rows.append([name, stage["title"], status, f"{stage['seconds']:.0f}", _why(stage)])
    return "## Stages\n\n" + table(["stage", "what", "status", "seconds", "why"], rows)


def _why(stage: Mapping[str, Any]) -> str:
    steps = [f"{step}: {reason}" for step, reason in stage["failed"].items()]
    words = "; ".join(steps) or stage["reason"] or ""
    return words.replace("|", "/").replace("\n", " ")


def goals_table(record: Record, goals: Iterable[Goal]) -> str:
    """Goals beside what was measured."""
    rows = []
    for goal in goals:
        found = goal.measure(lambda stage: data(record, stage))
        if found is None:
            rows.append([goal.what, goal.wanted, "not measured", ""])
        else:
            words = "met" if goal.is_met(found) else "**missed**"
            rows.append([goal.what, goal.wanted, f"{found:.3g} {goal.unit}".strip(), words])
    return "## Goals\n\n" + table(["goal", "wanted", "measured", ""], rows)


def _tables(record: Record) -> Iterator[str]:
    yield _rates(data(record, "rates"))
    yield _probe("Exchanges", data(record, "exchange").get("exchange", []))
    yield _probe("Weight streams", data(record, "exchange").get("stream", []))
    yield _sanitizer(data(record, "sanitizer"))
    for title, stage in (("Generator", "generator"), ("Training step", "training")):
        yield _cases(title, data(record, stage).get("cases", []))
    recurrence = data(record, "recurrence")
    if recurrence:
        yield _overview(recurrence)
        for faces in sorted(recurrence.get("times", {}), key=int):
            yield _details(recurrence, faces)


def _rates(rates: Mapping[str, Any]) -> str:
    rows = [
        [f"torch.matmul {name}", f"{found['flops'] / 1e12:.1f} TFLOP/s"]
        for name, found in rates.get("matrix", {}).items()
    ]
    if "copy" in rates:
        rows.append(
            ["copy, bytes read and written", f"{rates['copy']['bytes_per_second'] / 1e9:.0f} GB/s"]
        )
    return "## Rates\n\n" + table(["what", "rate"], rows) if rows else ""


def _probe(title: str, rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    heads = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[str(row.get(name, "")) for name in heads] for row in rows]
    return f"## {title}\n\n" + table([name.replace("_", " ") for name in heads], cells)


def _sanitizer(found: Mapping[str, Any]) -> str:
    rows = []
    for case, plain in found.get("plain", {}).items():
        ran = plain if isinstance(plain, str) else f"RMS error {plain['rms_error']:.1e}"
        rows.append(
            [case, ran, *(found.get(tool, {}).get(case, "") for tool in ("memcheck", "racecheck"))]
        )
    return (
        "## Memory and races\n\n" + table(["case", "alone", "memcheck", "racecheck"], rows)
        if rows
        else ""
    )


def _cases(title: str, cases: list[Mapping[str, Any]]) -> str:
    rows = []
    for case in cases:
        first = statistics.median(next(iter(case["variants"].values()))["wall"])
        for name, found in case["variants"].items():
            median = statistics.median(found["wall"])
            others = [
                f"{key.replace('_', ' ')} {_short(value)}"
                for key, value in found.items()
                if key not in ("wall", "device")
            ]
            rows.append(
                [case["case"], name, _ms(median), f"{first / median:.2f}x", ", ".join(others)]
            )
    heads = ["case", "variant", "median, ms", "speed of the first", "and"]
    return f"## {title}\n\n" + table(heads, rows) if rows else ""


def _overview(found: Mapping[str, Any]) -> str:
    times = found.get("times", {})
    counts = sorted(times, key=int)
    names = list(
        dict.fromkeys(
            [*(name for count in counts for name in times[count]), *found.get("missing", {})]
        )
    )
    rows = []
    for name in names:
        cells = [_cell(times[count].get(name)) for count in counts]
        if not any(cells):
            cells = [found["missing"][name], *cells[1:]]
        rows.append([name, *cells])
    heads = [f"{count} face{'s' if count != '1' else ''}" for count in counts]
    note = "Wall time of one call, caches warm / emptied, the device idle before it."
    return f"## Median time, ms\n\n{note}\n\n" + table(["variant", *heads], rows)


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return " / ".join(_ms(statistics.median(times["wall"])) for times in found.values())


def _details(found: Mapping[str, Any], faces: str) -> str:
    rows = []
    for name, caches in found["times"][faces].items():
        error = found["errors"][faces][name]
        for cache in caches:
            wall, device = (
                times_of(found, faces, name, cache, what) for what in ("wall", "device")
            )
            rows.append(
                [
                    name,
                    cache,
                    *(_ms(wall[key]) for key in ("median", "p90", "p99", "least")),
                    _ms(device["median"]),
                    str(wall["n"]),
                    f"{error['max']:.1e}",
                    f"{error['rms']:.1e}",
                ]
            )
    heads = ["variant", "caches", "median, ms", "p90", "p99", "least", "on the device, median", "n"]
    heads += ["largest error", "RMS error"]
    return f"## {faces} face{'s' if faces != '1' else ''}\n\n" + table(heads, rows)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
