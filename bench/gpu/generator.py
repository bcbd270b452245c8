"""Stage ``generator``: StyleGAN2 at 256 px on the device, plain and prepared."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from bench.gpu.channel import Channel, Context, WrongResult
from bench.gpu.timing import WARM, Call, Clock, by_turns
from bench.gpu.variants import capture

BATCHES = (1, 8)
# RMS error over RMS of the plain result without TF32, which PyTorch's convolutions use.
LIMITS = {"float32": 5e-3, "bfloat16": 0.05}
CAPTURED = "captured"  # a replay of a CUDA graph

_ROUNDS = 20
_STEP_SECONDS = 30.0
_FLUSH = 1 << 16  # not used: all calls are warm

Network = tuple[Mapping[str, Callable[[Tensor], Tensor]], Callable[[int], Tensor], float]


def measure(context: Context, channel: Channel, network: Network | None = None) -> None:
    """Keep ``cases``: times and errors of every variant by batch size.

    Args:
        network: replaces the full-size one, for tests.
    """
    if context.device == "cuda":
        channel.check_device = torch.cuda.synchronize
    if network is None:
        from bench.test_models import generator

        network = generator(context.device)
    clock = Clock(context.device, _FLUSH)
    cases: list[dict[str, Any]] = list(context.kept.get("cases", []))
    for batch in BATCHES[len(cases) :]:
        seconds = context.left / (2 * (len(BATCHES) - len(cases)))
        with torch.inference_mode():
            cases.append(_case(context, channel, network, batch, clock, seconds))
        channel.keep("cases", value=cases)


def _case(
    context: Context,
    channel: Channel,
    network: Network,
    batch: int,
    clock: Clock,
    seconds: float,
) -> dict[str, Any]:
    variants, latents, _ = network
    torch.manual_seed(batch)
    w = latents(batch)
    with _without_tf32():
        exact = variants["plain float32"](w)
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    for name, run in variants.items():
        for captured in (False, True) if context.device == "cuda" else (False,):
            full = f"{name} {CAPTURED}" if captured else name
            made = channel.attempt(
                f"batch {batch}, {full}",
                _STEP_SECONDS,
                functools.partial(_checked, run, w, exact, name.split()[-1], captured),
            )
            if made is not None:
                calls[full], errors[full] = made
    timed = by_turns(calls, clock, (WARM,), _ROUNDS, seconds)
    return {
        "case": f"256 px, batch {batch}",
        "batch": batch,
        "variants": {
            name: {**found[WARM].to_dict(), "rms_error": errors[name]}
            for name, found in timed.items()
        },
    }


def _checked(
    run: Callable[[Tensor], Tensor], w: Tensor, exact: Tensor, dtype: str, captured: bool
) -> tuple[Call, float]:
    call: Call = functools.partial(run, w)
    call = capture(call) if captured else call
    call()
    made = call().float()
    error = float((made - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    if not error <= LIMITS[dtype]:
        raise WrongResult(f"relative RMS error {error:.1e}, at most {LIMITS[dtype]:.0e} is right")
    return call, error


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
