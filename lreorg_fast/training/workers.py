"""Several processes that train one network, each on its own latents (torchrun)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError


class Workers:
    """This process among ``size`` of them; alone unless torch.distributed is initialized.

    Gradients are averaged by hand and not by DistributedDataParallel, which hooks into a module's
    forward pass: a step runs CDFNet in both directions, several times, and recomputes its blocks.
    """

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.rank: int = dist.get_rank() if joined else 0
        self.size: int = dist.get_world_size() if joined else 1

    def share_parameters(self, net: nn.Module) -> None:
        """Everybody gets the first one's."""
        if self.size > 1:
            for parameter in net.parameters():
                dist.broadcast(parameter.data, 0)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the mean over all processes, in one message."""
        if self.size == 1:
            return
        # A step's keyword decides which layers get a gradient, so they differ between processes.
        owners = list(parameters)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in owners]
        joined = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(joined)
        joined /= self.size
        for owner, part in zip(owners, joined.split([p.numel() for p in owners]), strict=True):
            owner.grad = part.view_as(owner)

    def any(self, flags: Sequence[bool], device: torch.device) -> tuple[bool, ...]:
        """Which of the flags some process raises."""
        if self.size == 1:
            return tuple(flags)
        raised = torch.tensor(flags, dtype=torch.int32, device=device)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def random_states(self, device: torch.device) -> list[Tensor]:
        """The state of torch's random generator of each process, in order."""
        own = torch.get_rng_state()
        if self.size == 1:
            return [own]
        everybody = [torch.empty_like(own, device=device) for _ in range(self.size)]
        dist.all_gather(everybody, own.to(device))
        return [state.cpu() for state in everybody]


def local_device(device: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device; under torchrun a GPU per process.

    Raises:
        ConfigError: no such device.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if available else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device is '{device}', but must be auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cpu":
        return chosen
    if chosen.type != "cuda" or not available:
        raise ConfigError(f"device is '{device}', but this torch sees no such device; use cpu")
    index = chosen.index if ":" in device else int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"GPU {index} is asked for, but there are {torch.cuda.device_count()}; start fewer "
            "processes or name another"
        )
    return torch.device("cuda", index)


def join_workers(device: torch.device) -> bool:
    """Join the group that torchrun's environment describes; whether there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return False
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return True


def leave_workers() -> None:
    """Leave it again."""
    dist.destroy_process_group()
