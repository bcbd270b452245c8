"""The loop around keyword swap training: optimizer, schedule, interruption, figures."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import LReorgError
from lreorg_fast.training.keyword_swap import Judges, KeywordSwap, SwapTrainingConfig
from lreorg_fast.training.run import Run, Say, Stateful, restore_states, states


class TrainingStopped(LReorgError, RuntimeError):
    """A loss stopped being a number; the last good checkpoint is kept."""


def train_cdfnet(
    net: CDFNet,
    judges: Judges,
    features: Mapping[str, Tensor],
    config: SwapTrainingConfig,
    folder: Path,
    say: Say,
    save_every: float = 60.0,
) -> None:
    """Train ``net`` in place, or go on from ``folder``; Adam betas (0.5, 0.999) as published.

    The learning rate falls to a twentieth along a cosine, which matters for a short run.
    ``save_every`` in seconds: an interruption never costs more than that.

    Raises:
        TrainingStopped: a loss term is NaN or infinite; the message names it.
    """
    run = Run(folder, "cdfnet", config.steps, "steps", say, save_every)
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.5, 0.999))
    swap = KeywordSwap(net, judges, features, config)
    state = run.resume()
    if state is None:
        leave_saddle(net)
    average = copy.deepcopy(net).requires_grad_(False)
    parts: dict[str, Stateful] = {"net": net, "optimizer": optimizer}
    if config.average:
        parts["average"] = average
    if state is not None:
        restore_states(parts, state)

    def payload() -> dict[str, Any]:
        return states(parts)

    skipped = 0
    for position in run.steps(1, payload):
        progress = position / config.steps
        for group in optimizer.param_groups:
            cosine = 0.525 + 0.475 * math.cos(math.pi * progress)
            group["lr"] = config.learning_rate * cosine * min(1.0, (position + 1) / config.warm_up)
        kind, loss, terms = swap.step(int(position))
        if _is_finite(terms):
            skipped = 0
        else:
            skipped += 1
            if skipped > config.skip_limit:
                raise _stopped(kind, terms, folder)
            say(f"cdfnet: step {position:g} is skipped, its loss is not finite")
            continue
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.gradient_limit)
        optimizer.step()
        if config.average:
            _follow(average, net, min(config.average, (position + 1) / (position + 10)))
        run.track(**{f"{kind}.{name}": term.item() for name, term in terms.items()})
    run.finish(parameters=sum(p.numel() for p in net.parameters()))


@torch.no_grad()
def leave_saddle(net: CDFNet, scale: float = 0.03) -> None:
    """Give the zero layers of a fresh net small random weights.

    Where the net is the identity, a swap changes a latent only in second order of these layers:
    the gradient of every loss is exactly zero there, and without rounding errors training would
    never start. ``scale`` is relative to the usual 1 / sqrt(fan in).
    """
    for parameter in net.parameters():
        if parameter.dim() == 2 and not parameter.any():
            parameter.normal_(std=scale / math.sqrt(parameter.shape[1]))


@torch.no_grad()
def _follow(average: CDFNet, net: CDFNet, decay: float) -> None:
    """One step of the moving average; ``decay`` starts small, so that it forgets the start."""
    for kept, new in zip(average.parameters(), net.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def _is_finite(terms: Mapping[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(term)) for term in terms.values())


def _stopped(kind: str, terms: Mapping[str, Tensor], folder: Path) -> TrainingStopped:
    name, term = next((n, t) for n, t in terms.items() if not torch.isfinite(t))
    return TrainingStopped(
        f"the term '{name}' of a {kind} step is {term.item()}: training stopped, and the last "
        f"good checkpoint is in {folder}; lower the learning rate and resume"
    )
