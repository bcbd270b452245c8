"""The generator and the encoder on a CPU: prepared forms against the plain modules.

``pytest bench/test_models.py`` prints medians and spreads. ``python bench/test_models.py OUT.json``
times all variants by turns, so that all meet the same noise, and writes the raw seconds together
with the machine's matrix rate. Full FFHQ sizes with random weights; every variant is compared with
the plain float32 module in the run that times it. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lreorg_fast.models import E4EConfig, E4EEncoder, StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.models.inference import prepare_encoder, prepare_generator

Run = Callable[[Tensor], Tensor]
BATCHES = (1, 8)
ROUNDS = 5
# RMS error over the RMS of the plain float32 result that a variant may have here.
LIMITS = {"float32": 1e-5, "bfloat16": 0.05}
VARIANTS = ("plain float32", "plain bfloat16", "prepared float32", "prepared bfloat16")


def generator(device: str = "cpu") -> tuple[dict[str, Run], Callable[[int], Tensor], float]:
    """(variants, latents by batch size, GFLOP of one picture) at 256 px."""
    torch.manual_seed(0)
    net = StyleGAN2Generator(StyleGAN2Config()).eval().requires_grad_(False)
    for layer in (net.conv1, *net.convs):
        layer.noise.weight.fill_(0.1)
        layer.activate.bias.normal_(0, 0.1)
    net.to(device)
    runs: list[Run] = [
        net.synthesis,
        functools.partial(net.synthesis, dtype=torch.bfloat16),
        prepare_generator(net).synthesis,
        prepare_generator(net, torch.bfloat16).synthesis,
    ]
    shape = (net.num_ws, net.config.style_dim)
    latents = functools.partial(torch.randn, device=device)
    return dict(zip(VARIANTS, runs, strict=True)), lambda n: latents(n, *shape), 91.0


def _encoder() -> tuple[dict[str, Run], Callable[[int], Tensor], float]:
    torch.manual_seed(0)
    net = E4EEncoder(E4EConfig(num_ws=14)).eval().requires_grad_(False)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.uniform_(0.5, 1.5)
    low = copy.deepcopy(net).bfloat16()
    for block in low.styles:
        block.linear.float()
    runs: list[Run] = [
        net,
        lambda x: low(x.bfloat16()),
        prepare_encoder(net),
        prepare_encoder(net, torch.bfloat16),
    ]
    size = net.config.input_size
    return (
        dict(zip(VARIANTS, runs, strict=True)),
        lambda n: torch.rand(n, 3, size, size) * 2 - 1,
        119.0,
    )


NETWORKS = {"stylegan2-256": generator, "e4e-256": _encoder}


@functools.cache
def network(name: str) -> tuple[dict[str, Run], Callable[[int], Tensor], float]:
    """(variants, inputs by batch size, GFLOP of one picture)."""
    return NETWORKS[name]()


@functools.cache
def case(name: str, batch: int) -> tuple[Tensor, Tensor]:
    """(inputs, the plain float32 result)."""
    runs, inputs, _ = network(name)
    torch.manual_seed(batch)
    x = inputs(batch)
    with torch.inference_mode():
        return x, runs["plain float32"](x)


def error(name: str, batch: int, variant: str) -> float:
    """Against the plain float32 result, relative in RMS; a wrong result ends the run."""
    x, wanted = case(name, batch)
    with torch.inference_mode():
        found = network(name)[0][variant](x).float()
    relative = float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    assert relative < LIMITS[variant.split()[-1]], f"{name}, {variant}: error {relative}"
    return relative


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NETWORKS)
def test_network(benchmark: Any, name: str, batch: int, variant: str) -> None:
    benchmark.group = f"{name}, {batch} picture(s)"
    benchmark.extra_info.update(error=error(name, batch, variant), threads=torch.get_num_threads())
    run, (x, _) = network(name)[0][variant], case(name, batch)
    with torch.inference_mode():
        benchmark.pedantic(run, (x,), rounds=ROUNDS, warmup_rounds=1)


def matrix_rate(dtype: torch.dtype, clock: str) -> float:
    """GFLOP/s that PyTorch's own product of large matrices reaches now, the best of a few."""
    a, b = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
    return max(2 * 1.024**3 / _seconds(clock, torch.matmul, a, b) for _ in range(10))


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def _seconds(clock: str, run: Callable[..., Tensor], *inputs: Tensor) -> float:
    start = CLOCKS[clock]()
    run(*inputs)
    return CLOCKS[clock]() - start


def by_turns(name: str, batch: int, rounds: int, clock: str) -> dict[str, Any]:
    """Raw seconds of all variants of one network, round after round."""
    runs, _, gflop = network(name)
    x, _ = case(name, batch)
    errors = {variant: error(name, batch, variant) for variant in runs}
    seconds: dict[str, list[float]] = {variant: [] for variant in runs}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    with torch.inference_mode():
        for _ in range(rounds):
            for dtype, found in rates.items():
                found.append(matrix_rate(getattr(torch, dtype), clock))
            for variant, run in runs.items():
                seconds[variant].append(_seconds(clock, run, x))
    return {
        "network": name,
        "batch": batch,
        "clock": clock,
        "threads": torch.get_num_threads(),
        "gflop": gflop * batch,
        "seconds": seconds,
        "rms_error": errors,
        "matrix_gflops": rates,
    }


def machine() -> dict[str, Any]:
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    return {"cpu": cpu, "torch": torch.__version__}


_KEYS = ("network", "batch", "clock", "threads")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="JSON file; cases that it has are kept")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: for one thread when others run"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = json.loads(options.out.read_text())["cases"] if options.out.exists() else []
    for name, batch in itertools.product(options.networks, options.batches):
        measured = by_turns(name, batch, options.rounds, options.clock)
        cases = [case for case in cases if any(case[key] != measured[key] for key in _KEYS)]
        cases.append(measured)
        print(table(measured), flush=True)
        options.out.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n")


def table(measured: dict[str, Any]) -> str:
    plain = statistics.median(measured["seconds"]["plain float32"])
    lines = []
    for variant, seconds in measured["seconds"].items():
        median = statistics.median(seconds)
        lines.append(
            f"{measured['network']} x{measured['batch']} {variant}: {1e3 * median:.0f} ms "
            f"({1e3 * min(seconds):.0f} to {1e3 * max(seconds):.0f}), {plain / median:.2f}x, "
            f"{measured['gflop'] / median:.0f} GFLOP/s of the direct sum, "
            f"error {measured['rms_error'][variant]:.1e}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
