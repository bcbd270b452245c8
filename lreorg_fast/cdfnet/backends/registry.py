"""The backends as data, and the choice between them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

from lreorg_fast import log
from lreorg_fast.cdfnet.backends import cpu, cuda, triton
from lreorg_fast.cdfnet.backends.base import BackendInfo, Precision, Runner
from lreorg_fast.cdfnet.backends.reference import ReferenceRunner
from lreorg_fast.cdfnet.backends.tiered import Tier, TieredRunner
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.errors import BackendUnavailable, ConfigError

_GPU_DTYPES = ("bfloat16", "float16", "float32")

# "auto" takes the first that can run: fastest first, at one face.
BACKENDS: tuple[BackendInfo, ...] = (
    BackendInfo(
        name="cuda",
        unavailable=cuda.unavailable,
        dtypes=_GPU_DTYPES,
        rounded_only=("float16",),
        devices=("cuda",),
        build=cuda.CudaRunner.build,
    ),
    BackendInfo(
        name="triton",
        unavailable=triton.unavailable,
        dtypes=_GPU_DTYPES,
        rounded_only=(),
        devices=("cuda",),
        build=triton.build,
    ),
    BackendInfo(
        name="cpu",
        unavailable=cpu.unavailable,
        dtypes=("float32", "bfloat16", "int8"),
        rounded_only=(),
        devices=("cpu",),
        build=cpu.NativeRunner.build,
    ),
    BackendInfo(
        name="reference",
        unavailable=lambda: None,
        dtypes=("float32", "bfloat16", "float16", "float64"),
        rounded_only=(),
        devices=None,
        build=ReferenceRunner.build,
    ),
)

# The most tokens of a call for which a backend is faster than the named one, by weight type. An
# estimate that no GPU has confirmed: the latency kernel runs 8 faces of 14 tokens at a time on 132
# multiprocessors in about 0.7 ms, and a chain of a thousand throughput launches takes about 3 ms
# however few the tokens are. float32 weights are three products, on both.
CROSSOVERS: dict[tuple[str, str], dict[str, int]] = {
    ("cuda", "triton"): {"bfloat16": 448, "float16": 448, "float32": 448},
}
# Says in build_info where CROSSOVERS comes from.
CROSSOVERS_FROM = "an estimate, not measured"


def available_backends() -> dict[str, bool | str]:
    """Backends by name: True where one can run here, else the reason why it cannot."""
    return {info.name: info.unavailable() or True for info in BACKENDS}


def build(
    name: str, net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision
) -> tuple[str, Runner]:
    """The backend that runs and its runner, by its name or "auto".

    Raises:
        ConfigError: there is no such backend, or it does not offer the precision.
        BackendUnavailable: it cannot run here.
    """
    if name != "auto":
        info = _named(name, precision)
        return info.name, info.build(net, keywords, precision)
    tiers = _built(net, keywords, precision)
    if len(tiers) == 1:
        return tiers[0].backend, tiers[0].runner
    return tiers[0].backend, TieredRunner(tiers, CROSSOVERS_FROM)


def _built(net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision) -> list[Tier]:
    """What "auto" takes. A backend may run here in general and yet not take this network, which is
    known only once it has tried; then the next one is asked."""
    refused: dict[str, str] = {}
    runners: dict[str, Runner] = {}
    while True:
        chosen = _automatic(precision, next(net.parameters()).device.type, refused)
        for info, _ in chosen:
            try:
                if info.name not in runners:
                    runners[info.name] = info.build(net, keywords, precision)
            except BackendUnavailable as error:
                refused[info.name] = str(error).rstrip(".")
                break
        else:
            return [Tier(info.name, runners[info.name], most) for info, most in chosen]


def _named(name: str, precision: Precision) -> BackendInfo:
    known = {info.name: info for info in BACKENDS}
    if name not in known:
        raise ConfigError(f"backend is {name!r}; allowed are auto, {', '.join(known)}.")
    info = known[name]
    reason = info.unavailable()
    if reason is not None:
        raise BackendUnavailable(
            f"backend {name!r} cannot run: {reason}; use backend='auto' or another one."
        )
    if not info.offers(precision):
        others = [other.name for other in BACKENDS if other.offers(precision)]
        raise ConfigError(
            f"backend {name!r} does not offer {_asked(precision)}; it offers "
            f"{', '.join(info.dtypes)}; {precision.dtype} is offered by {', '.join(others)}."
        )
    return info


def _automatic(
    precision: Precision, device: str, refused: Mapping[str, str]
) -> list[tuple[BackendInfo, int | None]]:
    """The backends of an engine, each with the most tokens that it takes; none that refused the
    network, by name with the reason."""
    passed_over: list[str] = []
    runnable: list[BackendInfo] = []
    for info in BACKENDS:
        reason = refused.get(info.name) or _passed_over(info, precision, device)
        if reason is None:
            runnable.append(info)
        elif not runnable:
            passed_over.append(f"{info.name}: {reason}")
    if not runnable:
        raise BackendUnavailable(f"no backend can run: {'; '.join(passed_over)}.")
    first = runnable[0]
    chosen: list[tuple[BackendInfo, int | None]] = [(first, None)]
    for other in runnable[1:]:
        most = CROSSOVERS.get((first.name, other.name), {}).get(precision.dtype)
        if most is not None:
            chosen = [(first, most), (other, None)]
    names = [f"{info.name!r}" + (f" up to {most} tokens" if most else "") for info, most in chosen]
    why = "; ".join(passed_over) or "it is the first choice"
    log.once(
        f"backend {names} {precision} {device}",
        f"backend 'auto' ({precision.dtype}) chose {', '.join(names)}: {why}",
        logging.INFO,
    )
    return chosen


def _passed_over(info: BackendInfo, precision: Precision, device: str) -> str | None:
    reason = info.unavailable()
    if reason is None and not info.offers(precision):
        reason = f"no {_asked(precision)}"
    if reason is None and info.devices is not None and device not in info.devices:
        reason = f"the network is on {device}"
    return reason


def _asked(precision: Precision) -> str:
    exact = " with float32 activations" if precision.exact else ""
    return f"dtype {precision.dtype!r}{exact}"
