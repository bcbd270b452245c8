"""Stage ``recurrence``: the benchmark table. Every variant is compared with the float64 reference
in the run that times it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import lreorg_fast as lf
from bench import cases
from bench.floor import Work
from bench.folded import FoldedRecurrence, weight_elements
from bench.gpu.channel import Channel, Context, WrongResult
from bench.gpu.timing import COLD, WARM, Call, Clock, by_turns
from bench.gpu.variants import PLAIN_BFLOAT16, Prepare, Variant, build, choose, missing
from tolerances import tolerance

# Most telling first: the time may end before the last.
FACES = (1, 256, 16, 64, 8, 2, 4)
QUICK_FACES = (1, 64)

_ROUNDS = 30
_QUICK_ROUNDS = 6
_CACHE_LINES = 4  # the flush writes so many times the last-level cache
_LEAST_FLUSH = 256 << 20
# What one face may use of the time that is left: it has most variants, and all are built there.
_FIRST_SHARE = 0.45
_TIMING_SHARE = 0.35  # of the time of a number of faces
_BUILD_SECONDS = 60.0
_AUTOTUNE_SECONDS = 120.0

Built = dict[str, tuple[Variant, Prepare, Mapping[str, Any]]]


def measure(
    context: Context,
    channel: Channel,
    config: lf.CDFNetConfig | None = None,
    faces: Sequence[int] | None = None,
) -> None:
    """Keep ``work``, ``facts``, ``errors`` and ``times`` by number of faces and variant.

    Args:
        config: replaces ``cdfnet-base``, and ``faces`` the numbers of faces, for tests.
    """
    config = config or lf.CDFNetConfig()
    if context.device == "cuda":
        channel.check_device = torch.cuda.synchronize
    clock = Clock(context.device, flush_bytes(context))
    channel.keep("work", value=work(config))
    built: Built = {}
    counts = faces or (QUICK_FACES if context.quick else FACES)
    for i, count in enumerate(counts):
        if str(count) in context.kept.get("times", {}):
            continue  # a process before this one has done it
        left = len(counts) - i
        share = context.left * (max(_FIRST_SHARE, 1 / left) if i == 0 else 1 / left)
        _one(context, channel, config, count, clock, built, share)


def flush_bytes(context: Context) -> int:
    if context.device != "cuda":
        return 1 << 16
    cache = context.earlier["device"]["gpu"]["l2_bytes"]
    return max(_LEAST_FLUSH, _CACHE_LINES * cache)


def work(config: lf.CDFNetConfig) -> dict[str, Any]:
    """What a reorganization must do: see :class:`bench.floor.Work`; and exchanges of a step."""
    plan = cases.recurrence()
    folded = FoldedRecurrence(*cases.network(config), plan)
    made = Work(weight_elements(folded), len(plan.steps), len(plan.passes))
    return {
        "weights": made.weights,
        "steps": made.steps,
        "passes": made.passes,
        "blocks": config.num_blocks,
        "dim": config.dim,
        "operations_per_face": made.operations(1),
    }


def _one(
    context: Context,
    channel: Channel,
    config: lf.CDFNetConfig,
    count: int,
    clock: Clock,
    built: Built,
    seconds: float,
) -> None:
    """Everything of one number of faces, in about so many seconds."""
    variants = choose(context.quick, count)
    plain_first = sorted(variants, key=lambda variant: variant != PLAIN_BFLOAT16)
    inputs = tuple(x.to(context.device) for x in cases.inputs(count, config))
    exact = cases.expected(count, config).to(context.device)
    calls: dict[str, Call] = {}
    plain = float("nan")
    for variant in plain_first:
        _build(context, channel, config, variant, built)
        if variant.name not in built:
            continue
        prepare = functools.partial(_prepared, built[variant.name], inputs, exact)
        # Autotuning is slow, and a goal is measured against it.
        limit = _AUTOTUNE_SECONDS if variant.mode else _BUILD_SECONDS
        limit = min(limit, context.left / 2)
        made = channel.attempt(f"{count} faces: {variant.name}", limit, prepare)
        if made is None:
            continue
        call, error = made
        plain = error["rms"] if variant == PLAIN_BFLOAT16 else plain
        channel.keep("errors", str(count), variant.name, value=error)
        with channel.step(f"{count} faces: error of {variant.name}", limit):
            judge(variant, built[variant.name][2], error, plain)
            calls[variant.name] = call
    if not calls:
        return
    calls = {v.name: calls[v.name] for v in variants if v.name in calls}
    rounds = _QUICK_ROUNDS if context.quick else _ROUNDS
    with channel.step(f"{count} faces: timing", context.left):
        timed = by_turns(calls, clock, (WARM, COLD), rounds, seconds * _TIMING_SHARE)
        values = {
            name: {cache: times.to_dict() for cache, times in found.items()}
            for name, found in timed.items()
        }
        channel.keep("times", str(count), value=values)


def _build(
    context: Context, channel: Channel, config: lf.CDFNetConfig, variant: Variant, built: Built
) -> None:
    if variant.name in built:
        return
    reason = missing(variant)
    if reason is not None:
        channel.keep("missing", variant.name, value=reason)
        return
    found = channel.attempt(
        f"build {variant.name}", _BUILD_SECONDS, lambda: build(variant, context.device, config)
    )
    if found is not None:
        prepare, facts = found
        built[variant.name] = (variant, prepare, facts)
        channel.keep("facts", variant.name, value=facts)


def _prepared(
    made: tuple[Variant, Prepare, Mapping[str, Any]], inputs: tuple[Tensor, Tensor], exact: Tensor
) -> tuple[Call, dict[str, float]]:
    """(call, its error): called twice, so that nothing is left to compile."""
    _, prepare, _ = made
    call = prepare(*inputs)
    call()
    difference = call().double() - exact
    rms = float(difference.square().mean().sqrt())
    return call, {"max": float(difference.abs().max()), "rms": rms}


def judge(
    variant: Variant, facts: Mapping[str, Any], error: Mapping[str, float], plain: float
) -> None:
    """As tests/cdfnet does it: types that round, by the RMS error of plain bfloat16 PyTorch.

    Raises:
        WrongResult: an engine's error is too large, or is not a number.
    """
    if not variant.is_engine:
        return
    if variant.dtype == "float32":
        found, limit = error["max"], tolerance("cdfnet engine", "float32")
    else:
        how = "exact" if facts["activations"] == "float32" else "rounded"
        name = f"cdfnet {how} activations ratio to plain bfloat16 PyTorch"
        ratio = tolerance(name, variant.dtype)
        found, limit = error["rms"], ratio * plain
    if not found <= limit:
        raise WrongResult(f"error {found:.1e}, at most {limit:.1e} is right")
