"""``python -m bench.onnx_check``: exported files at full size in onnxruntime, on a CPU.

Random weights in the shapes of the FFHQ-256 networks (e4e, StyleGAN2-256, CDFNet 512). Each stage
is exported, checked, compared with the plain float32 networks, and timed against this package's
own CPU path, variants by turns. Writes ``bench/results/<name>.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lreorg_fast as lf
from bench.full_size import full_size_bundle, random_networks
from bench.machine import describe
from bench.markdown import table, write_results
from lreorg_fast.keywords import DEFAULT_KEEP, KEYWORDS
from lreorg_fast.models.inference import prepare_encoder, prepare_generator
from lreorg_fast.weights.bundle import Bundle

GIB = 2**30
Run = Callable[..., Tensor]


@dataclass(frozen=True)
class Stage:
    """A stage with its inputs, its reference and this package's own variants."""

    name: str
    inputs: Mapping[str, Tensor]
    reference: Run
    own: Mapping[str, Run]
    exports: Mapping[str, Mapping[str, Any]]


def stages(networks: Mapping[str, Any], bundle: Bundle, batch: int) -> list[Stage]:
    encoder, generator, net = (networks[role] for role in ("encoder", "generator", "cdfnet"))
    low = torch.bfloat16
    tables = bundle.tensors("tables")
    features = {name: tables[f"keyword.{name}"] for name in KEYWORDS}
    s, f = torch.randn(batch, 14, 512), torch.randn(batch, 512)

    def reorganized(backend: str, dtype: str) -> Run:
        engine = lf.compile(net, features, backend=backend, dtype=dtype)
        return lambda latent, replace_identity: engine.reorganize(
            latent, {"identity": replace_identity[:, None]}, DEFAULT_KEEP
        )

    precisions = {f"onnxruntime {dtype}": {"dtype": dtype} for dtype in ("float32", "float16")}
    prepared, prepared_low = (prepare_generator(generator, dtype) for dtype in (torch.float32, low))
    return [
        Stage(
            "encoder",
            {"picture": torch.rand(batch, 3, 256, 256) * 2 - 1},
            lambda picture: encoder(picture),
            {
                "prepared float32": _named(prepare_encoder(encoder), "picture"),
                "prepared bfloat16": _named(prepare_encoder(encoder, low), "picture"),
            },
            precisions,
        ),
        Stage(
            "cdfnet",
            {"latent": s, "replace_identity": f},
            reorganized("reference", "float64"),
            {
                "engine float32": reorganized("cpu", "float32"),
                "engine bfloat16": reorganized("cpu", "bfloat16"),
            },
            {**precisions, "onnxruntime float32, function": {"form": "plugin"}},
        ),
        Stage(
            "generator",
            {"latent": s},
            _named(generator.synthesis, "latent"),
            {
                "prepared float32": _named(prepared.synthesis, "latent"),
                "prepared bfloat16": _named(prepared_low.synthesis, "latent"),
            },
            precisions,
        ),
    ]


def _named(run: Callable[[Tensor], Tensor], name: str) -> Run:
    return lambda **inputs: run(inputs[name])


def session(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(**inputs: Tensor) -> Tensor:
        given = {name: x.numpy() for name, x in inputs.items()}
        return torch.from_numpy(made.run(None, given)[0])

    return run


@torch.inference_mode()
def check(stage: Stage, bundle: Bundle, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Export, load, compare, then time all variants by turns."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in (*stage.own, *stage.exports)}
    runs = dict(stage.own)
    for name, settings in stage.exports.items():
        path = folder / f"{stage.name}-{len(runs)}.onnx"
        started = time.perf_counter()
        lf.export.onnx(bundle, path, stage=stage.name, **settings)
        exported = time.perf_counter()
        runs[name] = session(path)
        rows[name] = {
            "export_seconds": exported - started,
            "load_seconds": time.perf_counter() - exported,
            "bytes": path.stat().st_size,
        }
        path.unlink()
    wanted = stage.reference(**stage.inputs).double()
    for name, run in runs.items():
        error = run(**stage.inputs).double() - wanted
        rows[name]["largest_error"] = float(error.abs().max() / wanted.abs().max())
        rows[name]["rms_error"] = float(
            error.square().mean().sqrt() / wanted.square().mean().sqrt()
        )
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(**stage.inputs)
            seconds[name].append(time.perf_counter() - started)
    return [
        {"stage": stage.name, "variant": name, **row, "seconds": seconds[name]}
        for name, row in rows.items()
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """One line for each variant of each stage."""
    heads = ("stage", "variant", "file, MB", "export, s", "load, s", "largest error", "RMS error",
             "median, ms", "least to most")  # fmt: skip

    def given(row: dict[str, Any], key: str, form: str, unit: float = 1.0) -> str:
        return format(row[key] / unit, form) if key in row else ""

    def line(row: dict[str, Any]) -> tuple[str, ...]:
        times = [1000 * value for value in row["seconds"]]
        return (
            row["stage"],
            row["variant"],
            given(row, "bytes", ".1f", 1e6),
            given(row, "export_seconds", ".1f"),
            given(row, "load_seconds", ".1f"),
            given(row, "largest_error", ".1e"),
            given(row, "rms_error", ".1e"),
            f"{statistics.median(times):.1f}",
            f"{min(times):.1f} to {max(times):.1f}",
        )

    return table(heads, map(line, rows)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.onnx_check", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each variant")
    parser.add_argument("--batch", type=int, default=1, help="faces of a call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results" / "onnx_cpu",
        help="path of the results without ending",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = describe()
    networks = random_networks()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="lreorg-onnx-") as name:
        folder = Path(name)
        bundle = full_size_bundle(folder / "bundle", networks)
        for stage in stages(networks, bundle, options.batch):
            rows += check(stage, bundle, folder, options.rounds)
            print(markdown(rows[-len(stage.own) - len(stage.exports) :]), flush=True)
        started = time.perf_counter()
        (pipeline,) = lf.export.onnx(bundle, folder / "pipeline.onnx")
        whole = {"bytes": pipeline.stat().st_size, "seconds": time.perf_counter() - started}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    data = {
        "machine": machine,
        "threads": options.threads,
        "batch": options.batch,
        "stages": rows,
        "pipeline_export": whole,
        "peak_gib": peak / GIB,
    }
    write_results(options.output, data, markdown(rows))
    print(f"pipeline: {whole['bytes'] / 1e6:.0f} MB in {whole['seconds']:.1f} s")
    print(f"peak memory of everything: {peak / GIB:.1f} GiB")


if __name__ == "__main__":
    main()
