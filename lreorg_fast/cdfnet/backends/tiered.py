"""Two backends behind one engine: which one runs is decided by the number of tokens of a call."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet.backends.base import ReportsFaults, Run, Runner
from lreorg_fast.cdfnet.schedule import Plan


@dataclasses.dataclass(frozen=True)
class Tier:
    """A backend and how far it goes.

    Attributes:
        backend: its name.
        runner: the network on it.
        most_tokens: the most tokens of a call that it runs; None is any number.
    """

    backend: str
    runner: Runner
    most_tokens: int | None

    def takes(self, tokens: int) -> bool:
        """Whether a call of so many tokens may run on it."""
        return self.most_tokens is None or tokens <= self.most_tokens


class TieredRunner:
    """The first of several tiers that takes a call's tokens; the last takes any number.

    All tiers have the same device and compute the same to their rounding, but not bit for bit.
    """

    def __init__(self, tiers: Sequence[Tier], source: str) -> None:
        """``source`` says where the numbers of tokens come from, for build_info."""
        self._tiers = tuple(tiers)
        self._source = source
        self._ran = threading.local()

    @property
    def device(self) -> torch.device:
        return self._tiers[0].runner.device

    @property
    def compute_dtype(self) -> torch.dtype:
        return self._tiers[0].runner.compute_dtype

    def prepare(self, plan: Plan) -> Run:
        prepared: dict[str, Run] = {}

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            tier = self._tier(len(inputs[0]))
            self._ran.runner = tier.runner
            # Two threads may both prepare; they store equal things.
            if tier.backend not in prepared:
                prepared[tier.backend] = tier.runner.prepare(plan)
            return prepared[tier.backend](inputs)

        return run

    def fault(self) -> str | None:
        runner = getattr(self._ran, "runner", None)
        return runner.fault() if isinstance(runner, ReportsFaults) else None

    def build_info(self) -> dict[str, Any]:
        tiers = [
            {"backend": tier.backend, "most_tokens": tier.most_tokens, **tier.runner.build_info()}
            for tier in self._tiers
        ]
        return {**self._tiers[0].runner.build_info(), "by_tokens": tiers, "crossover": self._source}

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> TieredRunner:
        return TieredRunner(
            [
                dataclasses.replace(tier, runner=tier.runner.with_keywords(keywords))
                for tier in self._tiers
            ],
            self._source,
        )

    def _tier(self, tokens: int) -> Tier:
        return next(tier for tier in self._tiers if tier.takes(tokens))
