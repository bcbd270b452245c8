"""What residual face networks share: the shape of their four groups, their units, their head.

The unit with its stride in the *second* convolution comes from Deng et al., "ArcFace" (2019).
Author repositories place BatchNorm and squeeze-and-excitation differently; each has its own branch
here, with its own names: TreB1eN (InsightFace_Pytorch, also the trunk of e4e) and AdaFace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError

_GROUPS = 4

Branch = Callable[[int, int, int], nn.Sequential]


def check_groups(widths: Sequence[int], units: Sequence[int], sizes: Sequence[int]) -> None:
    """ConfigError unless there are four groups, and every size is at least 1."""
    if len(widths) != _GROUPS or len(units) != _GROUPS:
        raise ConfigError("widths and units must have four entries each")
    if min(*widths, *units, *sizes) < 1:
        raise ConfigError("every size of a face network must be at least 1")


def check_pictures(x: Tensor, size: int, network: str) -> None:
    """ConfigError unless ``x`` is ``(N, 3, size, size)``."""
    if x.dim() != 4 or x.shape[1:] != (3, size, size):
        raise ConfigError(
            f"the {network} takes pictures of shape (N, 3, {size}, {size}), not {tuple(x.shape)}"
        )


@dataclass(frozen=True)
class ResidualConfig:
    """Shape of a face network: four groups of residual units, each halving the picture first.

    ``input_size`` in pixels, a multiple of 16; ``outputs`` is the length of the result.
    """

    input_size: int = 112
    stem: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)
    units: tuple[int, ...] = (3, 4, 14, 3)
    outputs: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "units", tuple(self.units))
        if self.input_size < 16 or self.input_size % 16:
            raise ConfigError(f"input_size is {self.input_size}, but must be a multiple of 16")
        check_groups(self.widths, self.units, (self.stem, self.outputs))

    @property
    def flat(self) -> int:
        """Values of the last feature map: what the linear layer of the head reads."""
        return int(self.widths[-1] * (self.input_size // 16) ** 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class SqueezeExcite(nn.Module):
    """Channel weights from the global mean, reduced 16 times in between (at least to one)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(pooled))))


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)


def projection(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """The shortcut that changes the number of channels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )


def excited_branch(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """TreB1eN's IR-SE unit: no BatchNorm between the convolutions."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        conv3x3(in_channels, channels),
        nn.PReLU(channels),
        conv3x3(channels, channels, stride),
        nn.BatchNorm2d(channels),
        SqueezeExcite(channels),
    )


class ResidualUnit(nn.Module):
    """``res_layer(x) + shortcut_layer(x)``; equal widths subsample in the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, branch: Branch) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = projection(in_channels, channels, stride)
        self.res_layer = branch(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


def input_layer(stem: int) -> nn.Sequential:
    """The first layer of every network of this family."""
    return nn.Sequential(conv3x3(3, stem), nn.BatchNorm2d(stem), nn.PReLU(stem))


def residual_body(
    stem: int, widths: Sequence[int], units: Sequence[int], branch: Branch = excited_branch
) -> nn.Sequential:
    """All residual units in one sequence; the first unit of each group has stride 2."""
    layers: list[nn.Module] = []
    channels = stem
    for width, count in zip(widths, units, strict=True):
        for index in range(count):
            layers.append(ResidualUnit(channels, width, 2 if index == 0 else 1, branch))
            channels = width
    return nn.Sequential(*layers)


def output_layer(config: ResidualConfig, affine: bool) -> nn.Sequential:
    """From the last feature map to the result; ``affine`` is that of the last BatchNorm."""
    return nn.Sequential(
        nn.BatchNorm2d(config.widths[-1]),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(config.flat, config.outputs),
        nn.BatchNorm1d(config.outputs, affine=affine),
    )
