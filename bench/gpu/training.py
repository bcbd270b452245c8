"""Stage ``training``: one step of keyword swap training without pictures, forward and backward."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import lreorg_fast as lf
from bench import TOKENS, cases
from bench.gpu.channel import Channel, Context, WrongResult
from bench.gpu.timing import WARM, Call, Clock, by_turns
from lreorg_fast.cdfnet.training_pass import TrainingPass
from lreorg_fast.training import losses

BATCH = 64
KEYWORD = "identity"
# Of the gradients of all parameters against float64, RMS over RMS; PyTorch's own are not judged.
LIMITS = {"triton": 1e-3, "triton-bfloat16": 0.1}

_ROUNDS = 20
_STEP_SECONDS = 60.0  # Triton compiles in the first

Net = Any  # disentangle and fuse of lf.CDFNet
Wrap = Callable[[lf.CDFNet], Net]  # called in every step


def measure(
    context: Context,
    channel: Channel,
    config: lf.CDFNetConfig | None = None,
    batch: int = BATCH,
    wraps: Mapping[str, Wrap] | None = None,
) -> None:
    """Keep ``cases``: times, peak memory and gradients' errors of every variant.

    Args:
        config, batch, wraps: replace ``cdfnet-base``, 64 and :data:`WRAPS`, for tests.
    """
    config, wraps = config or lf.CDFNetConfig(), wraps or WRAPS
    if context.device == "cuda":
        channel.check_device = torch.cuda.synchronize
    exact = gradients(step("eager", WRAPS["eager"], config, batch, context.device, double=True))
    calls: dict[str, Call] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, wrap in wraps.items():
        made = channel.attempt(
            name,
            _STEP_SECONDS,
            functools.partial(_checked, name, wrap, config, batch, context.device, exact),
        )
        if made is not None:
            calls[name], facts[name] = made
    clock = Clock(context.device, 1 << 16)
    timed = by_turns(calls, clock, (WARM,), _ROUNDS, context.left / 2)
    variants = {name: {**found[WARM].to_dict(), **facts[name]} for name, found in timed.items()}
    case = {"case": f"batch {batch} of {TOKENS} tokens", "batch": batch, "variants": variants}
    channel.keep("cases", value=[case])


class Step:
    """Forward and backward of one step; gradients stay in ``net``'s parameters.

    Attributes:
        net: the network whose parameters are trained.
    """

    def __init__(self, net: lf.CDFNet, run: Callable[[], Tensor]) -> None:
        self.net = net
        self._run = run

    def __call__(self) -> None:
        for parameter in self.net.parameters():
            parameter.grad = None
        self._run().backward()


def step(
    name: str, wrap: Wrap, config: lf.CDFNetConfig, batch: int, device: str, double: bool = False
) -> Step:
    """As training.keyword_swap does it: both halves of every pair in one pass."""
    dtype = torch.float64 if double else torch.float32
    net, keywords = cases.network(config)
    own = copy.deepcopy(net).to(device, dtype).requires_grad_(True)
    generator = torch.Generator().manual_seed(2)
    s = torch.randn(2 * batch, TOKENS, config.dim, generator=generator).to(device, dtype)
    k = keywords[KEYWORD].to(device, dtype)
    autocast = functools.partial(
        torch.autocast, device, torch.bfloat16, enabled=name.endswith("autocast")
    )

    def run() -> Tensor:
        with autocast():
            model = wrap(own)
            f, r = model.disentangle(s, k)
            lost, swapped = model.fuse(f.roll(batch, dims=0), r, k)
            # The squares stand for what pictures would ask of the latents.
            meaning = swapped.square().mean()
            return meaning + losses.latent_change(s, swapped) + losses.information_lost(lost)

    return Step(own, run)


def gradients(made: Step) -> Tensor:
    """All of them side by side, float64."""
    made()
    found = [parameter.grad for parameter in made.net.parameters()]
    return torch.cat([grad.detach().double().reshape(-1) for grad in found if grad is not None])


def _checked(
    name: str, wrap: Wrap, config: lf.CDFNetConfig, batch: int, device: str, exact: Tensor
) -> tuple[Call, dict[str, Any]]:
    made = step(name, wrap, config, batch, device)
    found = gradients(made)
    if found.shape != exact.shape:
        raise WrongResult(f"{len(exact) - len(found)} parameters have no gradient")
    error = float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    limit = LIMITS.get(name, float("inf"))
    if not error <= limit:
        raise WrongResult(f"relative error of the gradients {error:.1e}, at most {limit:.0e}")
    facts: dict[str, Any] = {"gradient_error": error}
    if device == "cuda":
        half = lf.CDFNetConfig(**{**config.to_dict(), "num_blocks": config.num_blocks // 2})
        facts["activation_bytes"] = activation_bytes(made)
        facts["activation_bytes_at_half_depth"] = activation_bytes(
            step(name, wrap, half, batch, device)
        )
    return made, facts


def activation_bytes(made: Step) -> int:
    """The most memory of a step beyond what it leaves behind: parameters and gradients."""
    made()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    made()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()


def _eager(net: lf.CDFNet) -> Net:
    return net


WRAPS: dict[str, Wrap] = {
    "eager": _eager,
    "eager-autocast": _eager,
    "triton": TrainingPass,
    "triton-bfloat16": functools.partial(TrainingPass, products=torch.bfloat16),
}
