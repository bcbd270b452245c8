"""``python -m bench.training_memory``: what constant memory in depth saves, and what it costs.

One step of keyword swap training without pictures (disentangle, fuse and backward) with stored
activations and with recomputed ones, by number of blocks. Memory is what autograd holds for the
backward pass and grows with the batch (the folded weights of the recomputing pass do not); on a
GPU it is a step's peak beyond parameters and gradients. The variants take turns, and their
gradients are compared with those of the network in float64. Writes ``bench/results/<name>.json``
and ``.md``. ``bench.gpu`` times the kernels at one depth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lreorg_fast as lf
from bench import TOKENS
from bench.gpu.training import Step, activation_bytes, gradients, step
from bench.machine import describe
from bench.markdown import table, write_results
from lreorg_fast.cdfnet.training_pass import TrainingPass

BLOCKS = (4, 16, 64)
# Of the gradients of all parameters against float64, 2-norm: the bound for float32. Stored
# activations miss it themselves in 64 blocks, where single hidden units land on the other side of
# their kink; there recomputed ones may be as far off, and twice as far by chance.
LIMIT, BY_CHANCE = 1e-5, 2.0
WRAPS: dict[str, Callable[[lf.CDFNet], Any]] = {
    "stored": lambda net: net,
    "recomputed": TrainingPass,
}


def kept_bytes(made: Step) -> int:
    """Bytes that autograd holds for backward, each storage once, the parameters' own left out."""
    own = {p.untyped_storage().data_ptr() for p in made.net.parameters()}
    found: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(x)  # keeps the address from being given to another tensor
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        made()
    return sum(found.values())


def batch_bytes(name: str, config: lf.CDFNetConfig, batch: int) -> int:
    """Of :func:`kept_bytes`, what grows with the batch: from one batch to two."""
    once, twice = (
        kept_bytes(step(name, WRAPS[name], config, count * batch, "cpu")) for count in (1, 2)
    )
    return twice - once


def measure(blocks: int, batch: int, rounds: int, device: str) -> dict[str, Any]:
    """Times in turn, memory, and the difference of the gradients at one depth."""
    config = lf.CDFNetConfig(num_blocks=blocks)
    steps = {name: step(name, wrap, config, batch, device) for name, wrap in WRAPS.items()}
    exact = gradients(step("stored", WRAPS["stored"], config, batch, device, double=True))
    errors = {name: _error(gradients(made), exact) for name, made in steps.items()}
    limit = max(LIMIT, BY_CHANCE * errors["stored"])
    if not errors["recomputed"] <= limit:
        raise SystemExit(
            f"{blocks} blocks: the gradients differ from those in float64 by "
            f"{errors['recomputed']:.1e}, more than {limit:.1e}"
        )
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, made in steps.items():
            seconds[name].append(_timed(made, device))
    peaks = {name: activation_bytes(made) for name, made in steps.items() if device == "cuda"}
    steps.clear()
    variants = {
        name: {
            "batch_bytes": peaks[name] if peaks else batch_bytes(name, config, batch),
            "seconds_median": statistics.median(times),
            "seconds": times,
            "gradient_error": errors[name],
        }
        for name, times in seconds.items()
    }
    print(f"{blocks} blocks are measured", flush=True)
    return {"blocks": blocks, "variants": variants}


def _error(found: Tensor, exact: Tensor) -> float:
    """2-norm of the difference of all gradients, relative to that of the exact ones."""
    return float((found - exact).norm() / exact.norm())


def _timed(made: Step, device: str) -> float:
    start = time.perf_counter()
    made()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def markdown(cases: list[dict[str, Any]]) -> str:
    """One row per depth."""
    rows = []
    for case in cases:
        stored, recomputed = (case["variants"][name] for name in WRAPS)
        rows.append(
            [
                str(case["blocks"]),
                *(f"{v['batch_bytes'] / 2**20:.1f}" for v in (stored, recomputed)),
                *(f"{v['seconds_median']:.2f}" for v in (stored, recomputed)),
                f"{recomputed['seconds_median'] / stored['seconds_median']:.2f}",
                *(f"{v['gradient_error']:.1e}" for v in (stored, recomputed)),
            ]
        )
    heads = ["blocks", "stored, MiB", "recomputed, MiB", "stored, s", "recomputed, s"]
    errors = ["error of stored", "error of recomputed"]
    return table([*heads, "time ratio", *errors], rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training_memory", description=__doc__)
    parser.add_argument("--batch", type=int, default=16, help=f"pairs of {TOKENS} rows each")
    parser.add_argument("--blocks", type=int, nargs="+", default=list(BLOCKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="about the machine, kept in the results")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results" / "training_memory",
        help="path of the results without ending",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = describe()
    cases = [
        measure(blocks, arguments.batch, arguments.rounds, arguments.device)
        for blocks in arguments.blocks
    ]
    settings = {key: getattr(arguments, key) for key in ("batch", "rounds", "device", "threads")}
    data = {
        "machine": machine,
        "note": arguments.note,
        **settings,
        "tokens": TOKENS,
        "cases": cases,
    }
    text = markdown(cases)
    write_results(arguments.output, data, text)
    print(text)


if __name__ == "__main__":
    main()
