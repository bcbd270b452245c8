"""The ``reference`` backend: the network that defines what is correct, on any torch device."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lreorg_fast.cdfnet.backends.base import Precision, Run
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Plan

# Weight types that weights are rounded to once, before they are widened again.
_ROUNDED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class ReferenceRunner:
    """The reference network, pass by pass. bfloat16 and float16 here mean weights rounded to
    them; activations are never rounded."""

    def __init__(self, net: CDFNet, keywords: Mapping[str, Tensor]) -> None:
        self._net = net
        parameter = next(net.parameters())
        self.device, self.compute_dtype = parameter.device, parameter.dtype
        self._keywords = {
            name: k.to(device=self.device, dtype=self.compute_dtype) for name, k in keywords.items()
        }

    @classmethod
    def build(
        cls, net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision
    ) -> ReferenceRunner:
        own = copy.deepcopy(net).eval().requires_grad_(False)
        if precision.dtype in _ROUNDED:
            own = own.to(_ROUNDED[precision.dtype])
        double = precision.dtype == "float64"
        return cls(own.to(torch.float64 if double else torch.float32), keywords)

    def prepare(self, plan: Plan) -> Run:
        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(plan.inputs, inputs, strict=True))
            with torch.no_grad():
                for item in plan.passes:
                    k, second = self._keywords[item.keyword], values[item.reads[1]]
                    if item.direction == "disentangle":
                        results = self._net.disentangle(second, k)
                    else:
                        results = self._net.fuse(values[cast(str, item.reads[0])], second, k)
                    for name, result in zip(item.writes, results, strict=True):
                        if name is not None:
                            values[name] = result
            return [values[name] for name in plan.outputs]

        return run

    def build_info(self) -> dict[str, Any]:
        return {
            "device": str(self.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "activations": str(self.compute_dtype).removeprefix("torch."),
        }

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> ReferenceRunner:
        return ReferenceRunner(self._net, keywords)
