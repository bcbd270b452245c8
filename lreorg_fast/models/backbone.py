"""Residual face network with squeeze-and-excitation: recognizers, and the trunk of e4e.

Layout and names of TreB1eN's IR-SE50 (``input_layer``, ``body``, ``output_layer``), the network
that e4e and most StyleGAN work use for identity; depth and widths are configurable so that the
demo bundle's small networks are of the same class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError

_GROUPS = 4


@dataclass(frozen=True)
class BackboneConfig:
    """Shape of a face network: four groups of residual units, each halving the picture first.

    ``input_size`` in pixels, a multiple of 16; ``outputs`` is the length of the result, and
    ``normalize`` says whether it is scaled to unit length (an identity embedding is).
    """

    input_size: int = 112
    stem: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)
    units: tuple[int, ...] = (3, 4, 14, 3)
    outputs: int = 512
    normalize: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "units", tuple(self.units))
        if self.input_size < 16 or self.input_size % 16:
            raise ConfigError(f"input_size is {self.input_size}, but must be a multiple of 16")
        if len(self.widths) != _GROUPS or len(self.units) != _GROUPS:
            raise ConfigError("widths and units must have four entries each")
        if min(*self.widths, *self.units, self.stem, self.outputs) < 1:
            raise ConfigError("stem, widths, units and outputs must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _SqueezeExcite(nn.Module):
    """Channel weights from the global mean, reduced 16 times in between (at least to one)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(pooled))))


class _Unit(nn.Module):
    """Residual unit; the stride is in the second convolution, as published."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            _SqueezeExcite(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


def input_layer(stem: int) -> nn.Sequential:
    """The first layer of every network of this family."""
    return nn.Sequential(
        nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
    )


def residual_body(stem: int, widths: Sequence[int], units: Sequence[int]) -> nn.Sequential:
    """All residual units in one sequence; the first unit of each group has stride 2."""
    layers: list[nn.Module] = []
    channels = stem
    for width, count in zip(widths, units, strict=True):
        for index in range(count):
            layers.append(_Unit(channels, width, 2 if index == 0 else 1))
            channels = width
    return nn.Sequential(*layers)


class FaceBackbone(nn.Module):
    """``(N, 3, S, S)`` RGB in [-1, 1] -> ``(N, outputs)``, float32."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.input_layer = input_layer(config.stem)
        self.body = residual_body(config.stem, config.widths, config.units)
        spatial = config.input_size // 16
        flat = config.widths[-1] * spatial**2
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(config.widths[-1]),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(flat, config.outputs),
            nn.BatchNorm1d(config.outputs),
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Feature maps after each of the four groups, finest first (perceptual losses)."""
        x = self.input_layer(x.contiguous(memory_format=torch.channels_last))
        maps: list[Tensor] = []
        position = 0
        for count in self.config.units:
            x = self.body[position : position + count](x)
            position += count
            maps.append(x)
        return maps

    def head(self, last_map: Tensor) -> Tensor:
        """The result before normalization, from the last of :meth:`features`."""
        y: Tensor = self.output_layer(last_map).float()
        return y

    def raw(self, x: Tensor) -> Tensor:
        """The result before normalization; its length measures picture quality (AdaFace)."""
        return self.head(self.features(x)[-1])

    def forward(self, x: Tensor) -> Tensor:
        y = self.raw(x)
        return F.normalize(y, dim=1) if self.config.normalize else y
