"""AdaFace recognizers: features whose length before normalization measures picture quality.

Source: Kim et al., "AdaFace: Quality Adaptive Margin for Face Recognition" (2022), repository
mk-minchul/AdaFace; names of its state dicts. The published weights were trained on BGR pictures:
this class takes RGB as everything here does, and swaps the channels itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.models.residual import (
    ResidualConfig,
    SqueezeExcite,
    check_pictures,
    conv3x3,
    input_layer,
    output_layer,
    residual_body,
)


@dataclass(frozen=True)
class AdaFaceConfig(ResidualConfig):
    """As :class:`ResidualConfig`; ``squeeze_excite`` is the difference of IR-SE to IR."""

    squeeze_excite: bool = False


def normed_branch(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """AdaFace's IR unit: BatchNorm after both convolutions."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        conv3x3(in_channels, channels),
        nn.BatchNorm2d(channels),
        nn.PReLU(channels),
        conv3x3(channels, channels, stride),
        nn.BatchNorm2d(channels),
    )


def normed_excited_branch(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """AdaFace's IR-SE unit."""
    branch = normed_branch(in_channels, channels, stride)
    branch.add_module("se_block", SqueezeExcite(channels))
    return branch


class AdaFaceNet(nn.Module):
    """``(N, 3, S, S)`` **RGB** in [-1, 1] -> ``(N, outputs)``, float32, unit length."""

    def __init__(self, config: AdaFaceConfig) -> None:
        super().__init__()
        self.config = config
        branch = normed_excited_branch if config.squeeze_excite else normed_branch
        self.input_layer = input_layer(config.stem)
        self.output_layer = output_layer(config, affine=False)
        self.body = residual_body(config.stem, config.widths, config.units, branch)

    def raw(self, x: Tensor) -> Tensor:
        """The result before normalization, ``(N, outputs)``."""
        check_pictures(x, self.config.input_size, "AdaFace network")
        x = x.flip(1).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.output_layer(self.body(self.input_layer(x)))
        return y.float()

    def norm(self, x: Tensor) -> Tensor:
        """Length of :meth:`raw`, ``(N, 1)``: larger for pictures that are easier to recognize."""
        length: Tensor = self.raw(x).norm(dim=1, keepdim=True)
        return length

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.raw(x), dim=1)
