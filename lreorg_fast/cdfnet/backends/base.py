"""What every backend has in common: a runner, how it is asked for, and how it is described."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Plan

Run = Callable[[Sequence[Tensor]], list[Tensor]]


@dataclasses.dataclass(frozen=True)
class Precision:
    """What a runner is asked for.

    Attributes:
        dtype: how weights are stored.
        exact: products read float32 activations even where rounded ones are faster.
    """

    dtype: str
    exact: bool


class Runner(Protocol):
    """One network on one backend."""

    @property
    def device(self) -> torch.device:
        """Where inputs must be."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """What inputs must be converted to."""

    def prepare(self, plan: Plan) -> Run:
        """A thread-safe function from the plan's inputs to its outputs, all (tokens, dim).

        On a GPU it only queues work on torch's current stream of the runner's device. Inputs that
        are not finite must give outputs that are not, as IEEE arithmetic does: that is what the
        engine withholds.
        """

    def build_info(self) -> dict[str, Any]:
        """What really runs, beyond the backend's name and dtype."""

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> Runner:
        """A runner for exactly these keywords that shares the weights."""


@runtime_checkable
class ReportsFaults(Protocol):
    """A runner whose device can give up on a run and say where."""

    def fault(self) -> str | None:
        """Why the calling thread's last run gave no result, or None; waits for that run."""


Build = Callable[[CDFNet, Mapping[str, Tensor], Precision], Runner]


@dataclasses.dataclass(frozen=True)
class BackendInfo:
    """A backend as data.

    Attributes:
        name: what users pass as ``backend=``.
        unavailable: None where it can run, else the reason, in words that end a sentence.
        dtypes: the weight types that it offers.
        rounded_only: those of ``dtypes`` whose products cannot read float32 activations.
        devices: torch device types that its inputs may be on; None means any.
        build: makes a runner.
    """

    name: str
    unavailable: Callable[[], str | None]
    dtypes: tuple[str, ...]
    rounded_only: tuple[str, ...]
    devices: tuple[str, ...] | None
    build: Build

    def offers(self, precision: Precision) -> bool:
        """Whether it has this weight type, with exact activations where they are asked for."""
        possible = precision.dtype in self.dtypes
        return possible and not (precision.exact and precision.dtype in self.rounded_only)
