"""StyleGAN2's residual discriminator, for training generators only (never part of a bundle)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.models.layers import SQRT2, EqualLinear


class _EqualConv(nn.Module):
    """Equalized convolution; the activation's sqrt(2) and ``gain`` ride on the weights."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activate: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activate else None
        self.gain = gain * (SQRT2 if activate else 1.0)
        self.scale = self.gain / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else (self.bias * self.gain).to(x.dtype)
        x = F.conv2d(x, (self.weight * self.scale).to(x.dtype), bias, padding=self.padding)
        return F.leaky_relu_(x, 0.2) if self.activate else x


class _Block(nn.Module):
    """Halves the picture. Pooling first lets the second convolution run at half the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _EqualConv(in_channels, in_channels, 3)
        self.conv2 = _EqualConv(in_channels, out_channels, 3, gain=1 / SQRT2)
        self.skip = _EqualConv(in_channels, out_channels, 1, activate=False, gain=1 / SQRT2)

    def forward(self, x: Tensor) -> Tensor:
        deep: Tensor = self.conv2(F.avg_pool2d(self.conv1(x), 2))
        shallow: Tensor = self.skip(F.avg_pool2d(x, 2))
        return deep + shallow


def _minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """One more channel: how much the pictures of a group differ (against mode collapse)."""
    count = len(x)
    size = group if count % group == 0 else count
    grouped = x.view(size, count // size, *x.shape[1:])
    spread = (grouped - grouped.mean(0)).square().mean(0).add(1e-8).sqrt().mean((1, 2, 3))
    channel = spread.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], dim=1)


class StyleGAN2Discriminator(nn.Module):
    """``(N, 3, R, R)`` or, while growing, ``(N, 3, R/2, R/2)`` -> logits ``(N, 1)``."""

    def __init__(self, resolution: int, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.resolution = resolution
        sizes = [r for r in sorted(channels, reverse=True) if r <= resolution]
        self.from_rgb = nn.ModuleDict(
            {str(r): _EqualConv(3, channels[r], 1) for r in (resolution, resolution // 2)}
        )
        self.blocks = nn.ModuleList(_Block(channels[r], channels[r // 2]) for r in sizes if r > 4)
        self.last = _EqualConv(channels[4] + 1, channels[4], 3)
        self.hidden = EqualLinear(channels[4] * 16, channels[4], activate=True)
        self.out = EqualLinear(channels[4], 1)

    def forward(self, picture: Tensor, *, dtype: torch.dtype, fade: float = 1.0) -> Tensor:
        picture = picture.to(dtype).contiguous(memory_format=torch.channels_last)
        x: Tensor = self.from_rgb[str(picture.shape[-1])](picture)
        blocks = list(self.blocks)
        if picture.shape[-1] != self.resolution:
            blocks = blocks[1:]
        elif fade < 1.0:
            small = self.from_rgb[str(self.resolution // 2)](F.avg_pool2d(picture, 2))
            x = blocks[0](x) * fade + small * (1.0 - fade)
            blocks = blocks[1:]
        for block in blocks:
            x = block(x)
        x = self.last(_minibatch_deviation(x.float()))
        logits: Tensor = self.out(self.hidden(x.flatten(1)))
        return logits
