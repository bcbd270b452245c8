"""The e4e encoder for a CPU: BatchNorm folded into convolutions, one pass between them.

Equal to :class:`~lreorg_fast.models.e4e.E4EEncoder` up to rounding; see
:mod:`lreorg_fast.models.prepared_trunk`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.convolution import Convolution, Window, convolution
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.passes import Passes, default_passes
from lreorg_fast.models.prepared_trunk import PreparedTrunk

_HALVING = Window(stride=2, padding=(1, 1))


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
        self._trunk = PreparedTrunk(encoder.input_layer, encoder.body, size, dtype, self._passes)
        size = self._trunk.out_size
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
            levels = self._pyramid(x)
            rows = [
                head(levels[level]) for head, level in zip(self._heads, self._levels, strict=True)
            ]
            offsets = torch.bmm(torch.stack(rows), self._linear) + self._linear_bias[:, None]
            offsets[1:] += offsets[0]
            codes = offsets.transpose(0, 1) + self._average
        return codes if torch.is_inference_mode_enabled() else codes.clone()

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """Maps of 1, 2 and 4 times the last unit's size."""
        ends = [sum(self.config.units[: i + 1]) for i in range(1, 4)]
        fine, middle, coarse = self._trunk(x, ends)
        middle = self._passes.stretched_sum(coarse, self._lateral[0](middle))
        return [coarse, middle, self._passes.stretched_sum(middle, self._lateral[1](fine))]
