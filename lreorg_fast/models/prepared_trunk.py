"""The trunk of residual face networks for a CPU: BatchNorm folded into convolutions.

Equal to the modules of :mod:`lreorg_fast.models.residual` up to rounding; shared by the encoder and
by recognizers. Foldings are exact and made in float64. Where BatchNorm comes *before* a zero-padded
convolution its shift is missing in the padding, so the convolution's bias differs at the borders:
nine vectors instead of one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.models.convolution import Convolution, Window, convolution
from lreorg_fast.models.passes import Passes

_INNER = Window(padding=(1, 1))


def affine(norm: Any) -> tuple[Tensor, Tensor]:
    """What BatchNorm does in evaluation: ``x * scale + shift``, float64."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = norm.weight.detach().double() * scale
    shift = -norm.running_mean.double() * scale
    return scale, shift + norm.bias.detach().double() if norm.affine else shift


def _after(convolution: Any, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the BatchNorm that follows it."""
    scale, shift = affine(norm)
    return convolution.weight.detach().double() * scale[:, None, None, None], shift.float()


def _border_bias(weight: Tensor, shift: Tensor) -> Tensor:
    """What a constant input of ``shift`` gives in a zero-padded 3x3 convolution, ``(9, C_out)``."""
    taps = torch.einsum("oiyx,i->yxo", weight, shift)
    inside = (slice(1, 3), slice(0, 3), slice(0, 2))  # taps that see the map: first, inner, last
    return torch.stack([taps[y, x].sum(dim=(0, 1)) for y in inside for x in inside]).float()


class _Unit:
    """One residual unit with squeeze-and-excitation."""

    def __init__(self, unit: Any, size: int, dtype: torch.dtype) -> None:
        norm, first, prelu, second, last_norm, excite = unit.res_layer
        scale, shift = affine(norm)
        weight = first.weight.detach().double()
        self._border_bias = _border_bias(weight, shift)
        self._slope = prelu.weight.detach().to(torch.float32, copy=True)
        self._stride = int(second.stride[0])
        weight = weight * scale[:, None, None]
        self._first = convolution(weight, _INNER, dtype=dtype, size=(size, size))
        weight, self._bias = _after(second, last_norm)
        window = Window(self._stride, (1, 1))
        self._second = convolution(weight, window, dtype=dtype, size=(size, size))
        self._squeeze = excite.fc1.weight.detach()[:, :, 0, 0].to(torch.float32, copy=True)
        self._excite = excite.fc2.weight.detach()[:, :, 0, 0].to(torch.float32, copy=True)
        self._shortcut: Convolution | None = None
        self._shortcut_bias = torch.zeros_like(self._bias)
        if isinstance(unit.shortcut_layer, nn.Sequential):
            weight, self._shortcut_bias = _after(*unit.shortcut_layer)
            window = Window(self._stride)
            self._shortcut = convolution(weight, window, dtype=dtype, size=(size, size))
        self.out_size = size // self._stride

    def __call__(self, x: Tensor, passes: Passes) -> Tensor:
        y = passes.prelu(self._first(x), self._border_bias, self._slope)
        y = self._second(y)
        mean = passes.mean(y) + self._bias
        gate = F.linear(F.relu(F.linear(mean, self._squeeze)), self._excite).sigmoid()
        offset = gate * self._bias + self._shortcut_bias
        shortcut, stride = (x, self._stride) if self._shortcut is None else (self._shortcut(x), 1)
        return passes.gated_sum(y, gate, offset, shortcut, stride)


class PreparedTrunk:
    """``input_layer`` and ``body`` of a network: its first layer and its residual units.

    Attributes:
        out_size: side of the last map.
    """

    def __init__(
        self, input_layer: Any, body: Any, size: int, dtype: torch.dtype, passes: Passes
    ) -> None:
        self._dtype, self._passes = dtype, passes
        stem, norm, prelu = input_layer
        weight, bias = _after(stem, norm)
        self._stem = convolution(weight, _INNER, dtype=dtype, size=(size, size))
        self._stem_bias = bias.expand(9, -1).contiguous()
        self._stem_slope = prelu.weight.detach().to(torch.float32, copy=True)
        self._units: list[_Unit] = []
        for unit in body:
            self._units.append(_Unit(unit, size, dtype))
            size = self._units[-1].out_size
        self.out_size = size

    def __call__(self, x: Tensor, ends: Collection[int]) -> list[Tensor]:
        """Maps ``(N, H, W, C)`` after so many units each, of pictures ``(N, 3, S, S)``."""
        x = x.permute(0, 2, 3, 1).to(self._dtype).contiguous()
        x = self._passes.prelu(self._stem(x), self._stem_bias, self._stem_slope)
        maps: list[Tensor] = []
        for done, unit in enumerate(self._units, start=1):
            x = unit(x, self._passes)
            if done in ends:
                maps.append(x)
        return maps
