"""The loop around keyword swap training: optimizer, schedule, interruption, figures."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import CheckpointError, LReorgError
from lreorg_fast.training.keyword_swap import Judges, KeywordSwap, SwapTrainingConfig
from lreorg_fast.training.run import Run, Say, Stateful, restore_states, states
from lreorg_fast.training.workers import Workers


class TrainingStopped(LReorgError, RuntimeError):
    """A loss stopped being a number; the last good checkpoint is kept."""


@dataclass(frozen=True)
class Step:
    """What one step came to; ``position`` counts the finished steps, this one included."""

    position: int
    kind: str
    terms: Mapping[str, float]
    learning_rate: float
    gradient_norm: float
    seconds: float


# Told of every step that changed the network; the network it gets is the one to look at.
Watch = Callable[[Step, CDFNet], None]


def train_cdfnet(
    net: CDFNet,
    judges: Judges,
    features: Mapping[str, Tensor],
    config: SwapTrainingConfig,
    folder: Path,
    say: Say,
    save_every: float = 60.0,
    *,
    watch: Watch | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> CDFNet:
    """Train ``net`` in place, or go on from ``folder``; Adam betas (0.5, 0.999) as published.

    Under torch.distributed every process draws its own latents, ``batch`` pairs each, and the
    first one writes. ``save_every`` in seconds: an interruption never costs more than that.
    ``on_resume`` is told the number of finished steps before the first one.

    Returns:
        The moving average of the network, or ``net`` itself if none is kept.

    Raises:
        TrainingStopped: a loss term is NaN or infinite; the message names it.
        Interrupted: SIGINT or SIGTERM; the step was finished and saved.
        CheckpointError: the folder's checkpoint is damaged or of another network.
        OutputError: the folder cannot be written; what was saved before is kept.
    """
    workers = Workers()
    device = next(net.parameters()).device
    quiet = say if workers.rank == 0 else _nothing
    run = Run(folder, "cdfnet", config.steps, "steps", quiet, save_every, workers.rank == 0)
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate, betas=(0.5, 0.999))
    swap = KeywordSwap(net, judges, features, config)
    average = copy.deepcopy(net).requires_grad_(False)
    parts: dict[str, Stateful] = {"net": net, "optimizer": optimizer}
    if config.average:
        parts["average"] = average
    _begin(run, parts, net, workers)
    if on_resume is not None:
        on_resume(int(run.position))
    result = average if config.average else net
    skipped = 0

    def payload() -> dict[str, Any]:
        return states(parts) | {"workers": workers.random_states(device)}

    def agree(stop: bool, save: bool) -> tuple[bool, bool]:
        stop, save = workers.any((stop, save), device)
        return stop, save

    with run.stops_on_signals():
        for position in run.steps(1, payload, agree):
            rate = _learning_rate(config, int(position))
            for group in optimizer.param_groups:
                group["lr"] = rate
            kind, loss, terms = swap.step(int(position))
            (broken,) = workers.any((not _is_finite(terms),), device)
            if broken:
                skipped += 1
                if skipped > config.skip_limit:
                    raise _stopped(kind, terms, folder, int(position))
                quiet(f"cdfnet: step {position:g} is skipped, its loss is not finite")
                continue
            skipped = 0
            optimizer.zero_grad()
            loss.backward()
            workers.mean_gradients(net.parameters())
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), config.gradient_limit)
            optimizer.step()
            if config.average:
                _follow(average, net, min(config.average, (position + 1) / (position + 10)))
            values = {name: term.item() for name, term in terms.items()}
            run.track(**{kind: sum(values.values())})
            run.track(**{f"{kind}.{name}": value for name, value in values.items()})
            if watch is not None:
                done = int(position) + 1
                watch(Step(done, kind, values, rate, float(norm), run.elapsed()), result)
    run.finish(parameters=sum(p.numel() for p in net.parameters()), workers=workers.size)
    return result


def _begin(run: Run, parts: Mapping[str, Stateful], net: CDFNet, workers: Workers) -> None:
    """Restore what was saved, or disturb a fresh network; every process has its own draws then."""
    state = run.resume()
    if state is None:
        leave_saddle(net)
        workers.share_parameters(net)
        if workers.rank:
            torch.manual_seed(torch.initial_seed() + workers.rank)
        return
    own = state.get("workers", [torch.get_rng_state()])
    if len(own) != workers.size:
        raise CheckpointError(
            f"'{run.folder}' was trained by {len(own)} processes, but is resumed by "
            f"{workers.size}; start as many as before (torchrun --nproc-per-node {len(own)})"
        )
    try:
        restore_states(parts, state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint in '{run.folder}' is of another network or other settings; name "
            "another folder, or move it away to start anew"
        ) from error
    torch.set_rng_state(own[workers.rank])


def _learning_rate(config: SwapTrainingConfig, position: int) -> float:
    """Warm-up, and a cosine down to ``final_rate``."""
    low = config.final_rate
    cosine = low + (1 - low) * (1 + math.cos(math.pi * position / config.steps)) / 2
    return config.learning_rate * cosine * min(1.0, (position + 1) / config.warm_up)


def _nothing(_message: str) -> None:
    """What the other processes say."""


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


def _stopped(kind: str, terms: Mapping[str, Tensor], folder: Path, step: int) -> TrainingStopped:
    broken = [(name, term.item()) for name, term in terms.items() if not torch.isfinite(term)]
    what = f"the term '{broken[0][0]}' is {broken[0][1]}" if broken else "another process's loss"
    return TrainingStopped(
        f"{what} in step {step} ({kind}): training stopped, and the last good checkpoint is in "
        f"{folder}; lower the learning rate and resume"
    )
