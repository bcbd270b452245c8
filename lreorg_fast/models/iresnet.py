"""insightface's iresnet recognizers (arcface_torch): ArcFace, CosFace and Partial FC files.

Source: Deng et al., "ArcFace" (2019), repository deepinsight/insightface; names of its state
dicts. Unlike the other families every group begins with a projection, also where the width stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.models.residual import ResidualConfig, check_pictures, conv3x3, projection


@dataclass(frozen=True)
class IResNetConfig(ResidualConfig):
    """As :class:`ResidualConfig`; the default is iresnet50."""


class IResNetBlock(nn.Module):
    """BatchNorm before, between and after the convolutions; the stride is in the second."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = projection(in_channels, channels, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        return y + (x if self.downsample is None else self.downsample(x))


def _group(in_channels: int, channels: int, count: int) -> nn.Sequential:
    first = IResNetBlock(in_channels, channels, 2)
    return nn.Sequential(first, *(IResNetBlock(channels, channels, 1) for _ in range(count - 1)))


class IResNet(nn.Module):
    """``(N, 3, S, S)`` RGB in [-1, 1] -> ``(N, outputs)``, float32, unit length.

    The published code returns :meth:`raw` and leaves normalization to its callers.
    """

    def __init__(self, config: IResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = conv3x3(3, config.stem)
        self.bn1 = nn.BatchNorm2d(config.stem)
        self.prelu = nn.PReLU(config.stem)
        ins = (config.stem, *config.widths)
        groups = [_group(*sizes) for sizes in zip(ins[:-1], ins[1:], config.units, strict=True)]
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.bn2 = nn.BatchNorm2d(config.widths[-1])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(config.flat, config.outputs)
        self.features = nn.BatchNorm1d(config.outputs)

    def raw(self, x: Tensor) -> Tensor:
        """The result before normalization, ``(N, outputs)``: what the published code returns."""
        check_pictures(x, self.config.input_size, "iresnet")
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        y: Tensor = self.features(self.fc(self.dropout(self.bn2(x)).flatten(1)))
        return y.float()

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.raw(x), dim=1)
