"""The e4e encoder for a CPU: BatchNorm folded into convolutions, one pass between them.

Equal to :class:`~lreorg_fast.models.e4e.E4EEncoder` up to rounding. Foldings are exact and made in
float64. Where BatchNorm comes *before* a zero-padded convolution its shift is missing in the
padding, so the convolution's bias differs at the borders: nine vectors instead of one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.convolution import Convolution, Window, convolution
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.passes import Passes, default_passes

_INNER = Window(padding=(1, 1))
_HALVING = Window(stride=2, padding=(1, 1))


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What BatchNorm does in evaluation: ``x * scale + shift``, float64."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def _after(convolution: Any, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the BatchNorm that follows it."""
    scale, shift = _affine(norm)
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
        scale, shift = _affine(norm)
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


class _Head:
    """The convolutions of one latent row, down to one pixel."""

    def __init__(self, block: Any, size: int, dtype: torch.dtype) -> None:
        self._convolutions: list[Convolution] = []
        for layer, activation in zip(block.convs[::2], block.convs[1::2], strict=True):
            self._convolutions.append(
                convolution(
                    layer.weight,
                    _HALVING,
                    dtype=dtype,
                    size=(size, size),
                    bias=layer.bias,
                    leak=activation.negative_slope,
                )
            )
            size //= 2

    def __call__(self, x: Tensor) -> Tensor:
        for convolve in self._convolutions:
            x = convolve(x)
        return x.flatten(1).float()


class PreparedEncoder:
    """Made by :func:`~lreorg_fast.models.inference.prepare_encoder`; any thread may call it."""

    def __init__(
        self, encoder: E4EEncoder, dtype: torch.dtype, passes: Passes | None = None
    ) -> None:
        self.config: E4EConfig = encoder.config
        self.dtype = dtype
        self._average = encoder.latent_avg.detach().clone()
        self._passes = passes or default_passes()
        size = self.config.input_size
        parts: list[Any] = list(encoder.input_layer)
        stem, norm, prelu = parts
        weight, bias = _after(stem, norm)
        self._stem = convolution(weight, _INNER, dtype=dtype, size=(size, size))
        self._stem_bias = bias.expand(9, -1).contiguous()
        self._stem_slope = prelu.weight.detach().to(torch.float32, copy=True)
        self._units: list[_Unit] = []
        for unit in encoder.body:
            self._units.append(_Unit(unit, size, dtype))
            size = self._units[-1].out_size
        self._lateral = [
            convolution(
                layer.weight, Window(), dtype=dtype, size=(size * scale,) * 2, bias=layer.bias
            )
            for layer, scale in ((encoder.latlayer1, 2), (encoder.latlayer2, 4))
        ]
        self._levels = [encoder.level(row) for row in range(self.config.num_ws)]
        self._heads = [
            _Head(block, size << level, dtype)
            for block, level in zip(encoder.styles, self._levels, strict=True)
        ]
        linears: list[Any] = [block.linear for block in encoder.styles]
        # (num_ws, channels, style_dim)
        self._linear = torch.stack(
            [(linear.weight.detach() * linear.scale).t().float() for linear in linears]
        )
        self._linear_bias = torch.stack([linear.bias.detach().float() for linear in linears])

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`E4EEncoder.forward` with all rows, float32, without a gradient."""
        self.config.check(x)
        if torch.is_grad_enabled() and x.requires_grad:
            raise ConfigError(
                "a prepared encoder gives no gradient, but its pictures require one; use the "
                "encoder that it was made from"
            )
        if not len(x):
            return x.new_empty(0, self.config.num_ws, self.config.style_dim)
        with torch.inference_mode():
            levels = self._pyramid(x.permute(0, 2, 3, 1).to(self.dtype).contiguous())
            rows = [
                head(levels[level]) for head, level in zip(self._heads, self._levels, strict=True)
            ]
            offsets = torch.bmm(torch.stack(rows), self._linear) + self._linear_bias[:, None]
            offsets[1:] += offsets[0]
            codes = offsets.transpose(0, 1) + self._average
        return codes if torch.is_inference_mode_enabled() else codes.clone()

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """Maps of 1, 2 and 4 times the last unit's size."""
        x = self._passes.prelu(self._stem(x), self._stem_bias, self._stem_slope)
        ends = [sum(self.config.units[: i + 1]) for i in range(4)]
        maps: list[Tensor] = []
        for i, unit in enumerate(self._units):
            x = unit(x, self._passes)
            if i + 1 in ends[1:]:
                maps.append(x)
        fine, middle, coarse = maps
        middle = self._passes.stretched_sum(coarse, self._lateral[0](middle))
        return [coarse, middle, self._passes.stretched_sum(middle, self._lateral[1](fine))]
