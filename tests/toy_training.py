"""Keyword swap training in milliseconds, and as child processes: killed, or working together."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.training.keyword_swap import SwapTrainingConfig
from lreorg_fast.training.run import Interrupted, Run
from lreorg_fast.training.trainer import train_cdfnet
from lreorg_fast.training.workers import Workers

DIM, COND = 8, 4
FEATURES = {"identity": torch.eye(COND)[0], "age": torch.eye(COND)[1]}


class ToyJudges:
    """A 'generator' that shows the latent itself: identity is one half, age the other."""

    def latents(self, count: int) -> Tensor:
        return torch.randn(count, 2, DIM)

    def picture(self, latents: Tensor) -> Tensor:
        return latents.mean(1)[:, :, None, None].expand(-1, -1, 4, 4)

    def identity(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        return F.normalize(picture[:, : DIM // 2, 0, 0], dim=1), [picture]

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        assert set(keywords) <= {"age"}
        return [torch.softmax(4 * picture[:, -2:, 0, 0], dim=1) for _ in keywords]


class SignallingJudges(ToyJudges):
    """Sends this process a signal when it is asked for latents the n-th time."""

    def __init__(self, number: int, at: int) -> None:
        self.number, self.left = number, at

    def latents(self, count: int) -> Tensor:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return super().latents(count)


def toy_config(**changes: object) -> SwapTrainingConfig:
    settings = {
        "steps": 12,
        "batch": 4,
        "learning_rate": 1e-2,
        "keyword_shares": {"identity": 1.0, "age": 1.0},
        "kept_keywords": ("age",),
        "recurrence_every": 3,
        "identity_floor": 0.05,
    }
    return SwapTrainingConfig(**{**settings, **changes})


def toy_net() -> CDFNet:
    torch.manual_seed(0)
    return CDFNet(CDFNetConfig(dim=DIM, cond_dim=COND, num_blocks=2, growth=4))


def nothing(_message: str) -> None:
    pass


def train_toy(folder: Path, judges: ToyJudges | None = None, **changes: object) -> CDFNet:
    """A toy run of seed 9 in ``folder``, saved after every step."""
    net = toy_net()
    torch.manual_seed(9)
    config = toy_config(**changes)
    train_cdfnet(net, judges or ToyJudges(), FEATURES, config, folder, nothing, save_every=0.0)
    return net


@contextlib.contextmanager
def stopped_at(position: int) -> Iterator[None]:
    """Every run is interrupted at this position."""
    steps = Run.steps

    def stopping(self: Run, *arguments: Any) -> Iterator[float]:
        for at in steps(self, *arguments):
            self.stopping = at == position
            yield at

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "steps", stopping)
        with pytest.raises(Interrupted):
            yield


def train_until_killed(folder: str, at: int) -> None:
    """For a child process."""
    torch.set_num_threads(1)
    train_toy(Path(folder), SignallingJudges(signal.SIGKILL, at))


def train_together(rank: int, size: int, folder: str, steps: int, stop_at: int) -> None:
    """For child processes: what each ends with is left in ``folder``; rank 1 may be stopped."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    rendezvous = f"file://{folder}/rendezvous-{stop_at}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    judges = SignallingJudges(signal.SIGTERM, stop_at if rank == 1 else -1)
    try:
        net = train_toy(Path(folder) / "run", judges, steps=steps, average=0.9)
        torch.save(net.state_dict(), Path(folder) / f"parameters-{rank}.pt")
    except KeyboardInterrupt:
        (Path(folder) / f"stopped-{rank}").touch()
    finally:
        dist.destroy_process_group()


def mean_of_gradients(rank: int, size: int, folder: str) -> None:
    """For child processes: each leaves the mean gradients that it was given."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/r", rank=rank, world_size=size)
    first, second = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    first.grad = torch.full((3,), float(rank))
    if rank == 0:  # the other one's step did not use it
        second.grad = torch.full((3,), 4.0)
    workers = Workers()
    workers.mean_gradients([first, second])
    flags = workers.any((rank == 1, False), torch.device("cpu"))
    torch.save((first.grad, second.grad, flags), Path(folder) / f"means-{rank}.pt")
    dist.destroy_process_group()
