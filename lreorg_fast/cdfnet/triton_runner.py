"""The runner of the "triton" backend: folded weights, tiles of tokens, for large batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet.backends import program
from lreorg_fast.cdfnet.backends.base import Precision, Run
from lreorg_fast.cdfnet.coupling import Weights, run, stacked
from lreorg_fast.cdfnet.coupling_triton import TritonSteps, kernels
from lreorg_fast.cdfnet.folding import KeywordFold, fold
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.replay import Replayed
from lreorg_fast.cdfnet.schedule import Pass, Plan

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class TritonRunner:
    """A network on one CUDA device, or on the CPU in Triton's interpreter.

    A plan's passes of one step run as one batch. On a GPU a whole plan is replayed as a CUDA
    graph from its second call of a size on. Thread-safe.

    Args:
        weights: matrices as they are stored; constants (keywords, n, 3, D).
        keywords: the names of the rows of constants.
        fold: makes the constants of other keywords.
        exact: products read the float32 streams, not copies rounded to the matrices' dtype.
    """

    compute_dtype = torch.float32

    def __init__(
        self,
        weights: Weights,
        keywords: Sequence[str],
        fold: KeywordFold,
        clamp: float,
        exact: bool,
    ) -> None:
        self.device = weights.constants.device
        self._weights = weights
        self._index = {name: i for i, name in enumerate(keywords)}
        self._fold = fold
        self._clamp = clamp
        self._exact = exact
        self._products = torch.float32 if exact else weights.condition.dtype
        self._steps = TritonSteps(clamp, self._products)

    @classmethod
    def build(
        cls, net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision
    ) -> TritonRunner:
        """Fold, round once and stack the network's weights on its device.

        Raises:
            BackendUnavailable: triton is not installed.
            ConfigError: a parameter is not finite.
        """
        folded = fold(net)
        device = next(net.parameters()).device
        constants = _constants(folded.keywords, keywords, device)
        weights = stacked(folded, constants).rounded(DTYPES[precision.dtype]).contiguous()
        clamp = net.config.clamp
        return cls(weights, tuple(keywords), folded.keywords, clamp, precision.exact)

    def prepare(self, plan: Plan) -> Run:
        """A function from the plan's inputs to its outputs, all (tokens, dim) float32."""

        def execute(inputs: Sequence[Tensor]) -> list[Tensor]:
            return self._execute(plan, inputs)

        return Replayed(execute) if self.device.type == "cuda" else execute

    def build_info(self) -> dict[str, Any]:
        import triton

        return {
            "device": str(self.device),
            "kernels": "interpreted" if kernels().INTERPRETED else "compiled",
            "activations": str(self._products).removeprefix("torch."),
            "triton": triton.__version__,
            "torch": torch.__version__,
            "packed_bytes": sum(x.nbytes for x in self._weights.tensors()),
        }

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> TritonRunner:
        weights = Weights(
            _constants(self._fold, keywords, self.device), *self._weights.tensors()[1:]
        )
        return TritonRunner(weights, tuple(keywords), self._fold, self._clamp, self._exact)

    @torch.no_grad()
    def _execute(self, plan: Plan, inputs: Sequence[Tensor]) -> list[Tensor]:
        values = dict(zip(plan.inputs, inputs, strict=True))
        for step in plan.steps:
            second = [values[item.reads[1]] for item in step]
            first = [
                torch.zeros_like(latent) if item.reads[0] is None else values[item.reads[0]]
                for item, latent in zip(step, second, strict=True)
            ]
            streams = run(
                self._steps,
                torch.cat(first),
                torch.cat(second),
                self._tokens(step, len(second[0])),
                self._weights,
                inverse=step[0].direction == "fuse",
            )
            for stream, result in enumerate(streams):
                for item, rows in zip(step, result.chunk(len(step)), strict=True):
                    name = item.writes[stream]
                    if name is not None:
                        values[name] = rows
        return [values[name] for name in plan.outputs]

    def _tokens(self, step: Sequence[Pass], tokens: int) -> Tensor:
        """The keyword of every token of a step's batch; made on the device, without a copy."""
        index = torch.empty(len(step), tokens, dtype=torch.int32, device=self.device)
        for lane, item in zip(index, step, strict=True):
            lane.fill_(self._index[item.keyword])
        return index.view(-1)


def _constants(fold: KeywordFold, keywords: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """c(k) of every keyword (keywords, n, 3, D), float32."""
    return torch.from_numpy(program.constants(fold, keywords)).to(device)
