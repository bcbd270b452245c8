"""The steps of coupling blocks as Triton kernels: on CUDA, or on the CPU in its interpreter."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet.config import LEAKY_SLOPE
from lreorg_fast.cdfnet.coupling import Coupling, Stream
from lreorg_fast.errors import BackendUnavailable


class TritonSteps:
    """The Triton kernels; weights as products read them, or narrower."""

    def __init__(self, clamp: float, products: torch.dtype) -> None:
        self._kernels = kernels()
        self._clamp = clamp
        self._products = products

    def stream(self, values: Tensor) -> Stream:
        own = values.clone(memory_format=torch.contiguous_format)
        return Stream(own, own.to(self._products))

    def couple(
        self, coupling: Coupling, target: Stream, source: Stream, index: Tensor, inverse: bool
    ) -> None:
        self._couple(coupling, target, source, index, inverse, self._hidden(coupling, source))

    def undo(
        self,
        coupling: Coupling,
        target: Stream,
        source: Stream,
        index: Tensor,
        inverse: bool,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        hidden = self._hidden(coupling, source)
        if not coupling.scales:
            self._couple(coupling, target, source, index, inverse, hidden)
            signed = gradient if inverse else -gradient
            return signed.to(self._products)[None], hidden
        of_result = source.copy.new_empty(2, *gradient.shape)
        self._couple(coupling, target, source, index, inverse, hidden, gradient, of_result)
        return of_result, hidden

    def source_gradient(
        self, coupling: Coupling, hidden: Tensor | None, of_result: Tensor, gradient: Tensor
    ) -> Tensor | None:
        add = self._kernels.add
        if coupling.hidden is None:
            for part, direct in zip(of_result, coupling.direct, strict=True):
                add(gradient, None, part, direct.T)
            return None
        layers = coupling.hidden
        of_hidden: Tensor = self._kernels.hidden_gradient(
            of_result, layers.output, hidden, layers.chain, LEAKY_SLOPE
        )
        parts = zip(of_result, coupling.direct, of_hidden, layers.weights, strict=True)
        for part, direct, hidden_part, weights in parts:
            add(gradient, None, part, direct.T, None, None, hidden_part, weights.T)
        return of_hidden

    def _hidden(self, coupling: Coupling, source: Stream) -> Tensor | None:
        if coupling.hidden is None:
            return None
        layers = coupling.hidden
        hidden: Tensor = self._kernels.hidden_layers(
            source.copy, layers.weights, layers.bias, layers.chain, LEAKY_SLOPE
        )
        return hidden

    def _couple(
        self,
        coupling: Coupling,
        target: Stream,
        source: Stream,
        index: Tensor,
        inverse: bool,
        hidden: Tensor | None,
        gradient: Tensor | None = None,
        of_result: Tensor | None = None,
    ) -> None:
        copy = None if target.copy is target.values else target.copy
        output = None if coupling.hidden is None else coupling.hidden.output
        tokens = index if coupling.hidden is None else None
        if coupling.scales:
            self._kernels.scale_shift(
                target.values,
                copy,
                source.copy,
                coupling.direct,
                coupling.table,
                tokens,
                hidden,
                output,
                self._clamp,
                inverse,
                gradient,
                of_result,
            )
            return
        self._kernels.add(
            target.values,
            copy,
            source.copy,
            coupling.direct[0],
            coupling.table.select(-2, 0),
            tokens,
            None if hidden is None else hidden[0],
            None if output is None else output[0],
            -1.0 if inverse else 1.0,
        )


def kernels() -> Any:
    """``lreorg_fast.kernels.triton.launch``, imported on first use.

    Raises:
        BackendUnavailable: triton is not installed.
    """
    # By name: kernels/ is part of the package only once it is installed, which mypy does not see.
    package = "lreorg_fast.kernels.triton"
    reason = importlib.import_module(package).missing()
    if reason is not None:
        raise BackendUnavailable(f"the Triton kernels cannot run: {reason}.")
    return importlib.import_module(f"{package}.launch")
