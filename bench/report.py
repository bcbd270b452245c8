"""A run's results as JSON-ready data, and that data as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench.floor import HEADLINE_BYTES, INSTRUCTIONS
from bench.markdown import table
from bench.variants import ENGINE, PLAIN_BFLOAT16

FORMAT = 1

Row = Mapping[str, Any]


def markdown(run: Mapping[str, Any]) -> str:
    """The tables of a run, which is the content of its JSON file."""
    parts = [_head(run), _summary(run)]
    if run["floor"] is not None:
        parts += [_rates(run), _floors(run)]
    parts += [_details(run, faces) for faces in _faces(run)]
    return "\n\n".join(parts) + "\n"


def _head(run: Mapping[str, Any]) -> str:
    machine, case = run["machine"], run["case"]
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    state = "" if run["complete"] else " **The run was interrupted: results are partial.**"
    changes = " with uncommitted changes" if machine["uncommitted_changes"] else ""
    return (
        f"# {case['name']}\n\n"
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['flags'])}), "
        f"{machine['memory_gib']} GiB, {machine['kernel']}; Python {machine['python']}, "
        f"{versions}; commit {str(machine['commit'])[:10]}{changes}; {machine['date']}; "
        f"{run['threads']} threads; load average before the run "
        f"{machine['load_average'][0]:.2f}.{state}\n\n"
        f"{case['tokens']} tokens a face. Wall time of one call; variants timed by turns; every "
        "result compared with the float64 reference in this run."
    )


def _summary(run: Mapping[str, Any]) -> str:
    faces = _faces(run)
    rows = []
    for name, variant in run["variants"].items():
        found = {row["faces"]: row for row in run["results"] if row["variant"] == name}
        if variant["problem"] is not None:
            rows.append([name, variant["problem"], *[""] * (len(faces) - 1)])
        else:
            rows.append([name, *(_cell(found.get(count)) for count in faces)])
    heads = [f"{count} face{'s' if count > 1 else ''}" for count in faces]
    return "## Median time, ms\n\n" + table(["variant", *heads], rows)


def _cell(row: Row | None) -> str:
    if row is None or not (row["failure"] or row["seconds"]):
        return ""  # not yet
    return row["failure"] or _ms(statistics.median(row["seconds"]))


def _details(run: Mapping[str, Any], faces: int) -> str:
    results = [row for row in run["results"] if row["faces"] == faces]
    timed = {row["variant"]: row for row in results if row["seconds"]}
    engine = next((row for name, row in timed.items() if name.startswith(ENGINE)), None)
    plain = timed.get(PLAIN_BFLOAT16)
    rows = [_detail(row, engine, plain) for row in timed.values()]
    heads = ["variant", "median, ms", "least to most, ms", "spread", "n"]
    heads += ["of the first row", "largest error", "RMS error", "RMS of plain bfloat16's"]
    note = ""
    if any(not row["warm"] for row in timed.values()):
        note = "\n\n\\* timed by its first call on these inputs, because one call takes long."
    title = f"## {faces} face{'s' if faces > 1 else ''}"
    return f"{title}\n\n{table(heads, rows)}{note}"


def _detail(row: Row, engine: Row | None, plain: Row | None) -> list[str]:
    seconds = row["seconds"]
    median, least, most = statistics.median(seconds), min(seconds), max(seconds)
    ratio = "" if engine is None else f"{median / statistics.median(engine['seconds']):.2f}"
    to_plain = "" if plain is None else f"{row['rms_error'] / plain['rms_error']:.2g}"
    return [
        row["variant"],
        _ms(median),
        f"{_ms(least)} to {_ms(most)}",
        f"{(most - least) / median:.0%}" if len(seconds) > 1 else "",
        str(len(seconds)) + ("" if row["warm"] else "\\*"),
        ratio,
        f"{row['max_error']:.1e}",
        f"{row['rms_error']:.1e}",
        to_plain,
    ]


def _rates(run: Mapping[str, Any]) -> str:
    floor = run["floor"]
    rows = []
    for sample in floor["samples"]:
        values = sample["values"]
        unit = "GB/s" if sample["what"] == "read" else "Gop/s"
        thread_word = "1 thread" if sample["threads"] == 1 else f"{sample['threads']} threads"
        what = f"{sample['what']} {_size(sample)}, {thread_word}"
        ends = f"{min(values):.1f} to {max(values):.1f}"
        rows.append([what, f"{max(values):.1f} {unit}", ends, str(len(values))])
    heads = ["what the machine can do", "best", "least to most", "n"]
    return "## Rates\n\n" + table(heads, rows)


def _size(sample: Row) -> str:
    if sample["what"] == "rate":
        kinds = [kind for kind, names in INSTRUCTIONS.items() if sample["of"] in names]
        return f"{sample['of']} ({kinds[0]})"
    size = int(sample["of"])
    return "64 MiB" if size == HEADLINE_BYTES else f"{size / 2**20:.1f} MiB"


def _floors(run: Mapping[str, Any]) -> str:
    rows = []
    for row in run["results"]:
        floor = row.get("floor")
        if floor is None or not row["seconds"]:
            continue
        median = statistics.median(row["seconds"])
        least = max(floor["memory"], floor["compute"])
        rows.append(
            [
                str(row["faces"]),
                row["variant"],
                _ms(floor["memory"]),
                _ms(floor["compute"]),
                _ms(median),
                f"{median / least:.2f}",
                f"{floor['memory'] / median:.0%}",
                f"{floor['compute'] / median:.0%}",
            ]
        )
    heads = ["faces", "variant", "memory floor, ms", "compute floor, ms", "engine, ms"]
    heads += ["of its floor", "share of the bandwidth", "share of the rate"]
    return "## The engine and its floor\n\n" + table(heads, rows)


def _faces(run: Mapping[str, Any]) -> list[int]:
    return sorted({row["faces"] for row in run["results"]})


def _ms(seconds: float) -> str:
    ms = 1e3 * seconds
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
