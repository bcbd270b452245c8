"""Layers that several face networks share, with the equalized learning rate of StyleGAN.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020); parameter
names and scalings as in the PyTorch layout that most public files use (rosinality).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQRT2 = math.sqrt(2.0)
_FIR = (1.0, 3.0, 3.0, 1.0)


def scaled_leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2 that keeps the variance: times sqrt(2)."""
    return F.leaky_relu(x, 0.2) * SQRT2


def fir_kernel(gain: float) -> Tensor:
    """The 4x4 low-pass filter of StyleGAN2, float32, summing to ``gain``."""
    line = torch.tensor(_FIR)
    kernel = line[:, None] * line[None, :]
    return kernel * (gain / kernel.sum())


class EqualLinear(nn.Module):
    """Linear layer whose stored weights are ``N(0, 1) / lr_multiplier``, scaled when used.

    ``(N, in_dim) -> (N, out_dim)``; with ``activate`` followed by :func:`scaled_leaky_relu`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        bias: float = 0.0,
        lr_multiplier: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_dim,), bias))
        self.scale = lr_multiplier / math.sqrt(in_dim)
        self.lr_multiplier = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)
        return scaled_leaky_relu(x) if self.activate else x


class PixelNorm(nn.Module):
    """Each row scaled to unit mean square: ``x * rsqrt(mean(x^2) + 1e-8)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)
