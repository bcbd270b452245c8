"""The steps of coupling blocks in plain PyTorch: on the CPU, float32 or float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lreorg_fast.cdfnet.config import LEAKY_SLOPE
from lreorg_fast.cdfnet.coupling import HIDDEN_LAYERS, Coupling, Stream


class PlainSteps:
    """Plain PyTorch, below autograd; what products read is rounded and multiplied in the streams'
    own dtype."""

    def __init__(self, clamp: float, products: torch.dtype) -> None:
        self._clamp = clamp
        self._products = products

    def stream(self, values: Tensor) -> Stream:
        own = values.clone()
        return Stream(own, self._round(own))

    def couple(
        self, coupling: Coupling, target: Stream, source: Stream, index: Tensor, inverse: bool
    ) -> None:
        results = self._results(coupling, self._hidden(coupling, source.copy), source.copy, index)
        if not coupling.scales:
            target.values.add_(results[0], alpha=-1 if inverse else 1)
        elif inverse:
            scale = torch.exp(-self._log_scale(results[0]))
            target.values.sub_(results[1]).mul_(scale)
        else:
            target.values.mul_(torch.exp(self._log_scale(results[0]))).add_(results[1])
        target.copy = self._round(target.values)

    def undo(
        self,
        coupling: Coupling,
        target: Stream,
        source: Stream,
        index: Tensor,
        inverse: bool,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        hidden = self._hidden(coupling, source.copy)
        results = self._results(coupling, hidden, source.copy, index)
        if not coupling.scales:
            target.values.add_(results[0], alpha=-1 if inverse else 1)
            of_result = (gradient if inverse else -gradient)[None]
        else:
            log_scale = self._log_scale(results[0])
            bounded = log_scale / self._clamp
            slope = 0.5 * self._clamp * (1 - bounded.square())
            if inverse:
                moved = target.values - results[1]
                of_result = torch.stack([gradient * moved * slope, gradient])
                target.values.copy_(moved * torch.exp(-log_scale))
                gradient.mul_(torch.exp(log_scale))
            else:
                of_scale = -gradient * target.values * slope
                target.values.mul_(torch.exp(log_scale)).add_(results[1])
                gradient.mul_(torch.exp(-log_scale))
                of_result = torch.stack([of_scale, -gradient])
        target.copy = self._round(target.values)
        return self._round(of_result), hidden

    def source_gradient(
        self, coupling: Coupling, hidden: Tensor | None, of_result: Tensor, gradient: Tensor
    ) -> Tensor | None:
        gradient.add_((of_result @ self._matrix(coupling.direct)).sum(0))
        if coupling.hidden is None:
            return None
        assert hidden is not None
        layers = coupling.hidden
        of_hidden = of_result @ self._matrix(layers.output)
        chain, growth = self._matrix(layers.chain), hidden.shape[-1] // HIDDEN_LAYERS
        for i in reversed(range(HIDDEN_LAYERS)):
            layer = slice(i * growth, (i + 1) * growth)
            part = of_hidden[..., layer]
            part = self._round(torch.where(hidden[..., layer] > 0, part, part * LEAKY_SLOPE))
            of_hidden[..., layer] = part
            of_hidden[..., : layer.start] += part @ chain[:, layer, : layer.start]
        gradient.add_((of_hidden @ self._matrix(layers.weights)).sum(0))
        return of_hidden

    def _hidden(self, coupling: Coupling, x: Tensor) -> Tensor | None:
        if coupling.hidden is None:
            return None
        layers = coupling.hidden
        pre = x @ self._matrix(layers.weights).mT + layers.bias[:, None]
        growth, chain = pre.shape[-1] // HIDDEN_LAYERS, self._matrix(layers.chain)
        hidden = pre[..., :0]
        for i in range(HIDDEN_LAYERS):
            layer = slice(i * growth, (i + 1) * growth)
            z = pre[..., layer] + hidden @ chain[:, layer, : layer.start].mT
            hidden = torch.cat([hidden, self._round(F.leaky_relu(z, LEAKY_SLOPE))], dim=-1)
        return hidden

    def _results(
        self, coupling: Coupling, hidden: Tensor | None, x: Tensor, index: Tensor
    ) -> Tensor:
        """What the subnets make of the source: (S, rows, D)."""
        results = x @ self._matrix(coupling.direct).mT
        if coupling.hidden is None:
            return results + coupling.table[index].transpose(0, 1)
        assert hidden is not None
        results += hidden @ self._matrix(coupling.hidden.output).mT
        return results + coupling.table[:, None]

    def _matrix(self, matrix: Tensor) -> Tensor:
        return self._round(matrix)

    def _round(self, x: Tensor) -> Tensor:
        return x.to(self._products).to(x.dtype)

    def _log_scale(self, x: Tensor) -> Tensor:
        return self._clamp * torch.tanh(x / 2)
