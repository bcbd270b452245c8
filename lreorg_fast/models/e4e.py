"""Encoder for editing: a face picture to a W+ latent (Tov et al. 2021, "Designing an Encoder").

An IR-SE trunk, a feature pyramid, and one small network per latent row; row i is row 0 plus an
offset, so that the result stays near W. Names are those of the public checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.layers import EqualLinear
from lreorg_fast.models.residual import (
    check_groups,
    check_pictures,
    input_layer,
    residual_body,
)

_COARSE_ROWS, _MIDDLE_ROWS = 3, 7  # rows 0-2 read the coarsest map, 3-6 the middle one


@dataclass(frozen=True)
class E4EConfig:
    """Shape of an encoder. ``input_size`` is a power of two, at least 32 pixels."""

    input_size: int = 256
    num_ws: int = 18
    style_dim: int = 512
    style_channels: int = 512
    stem: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)
    units: tuple[int, ...] = (3, 4, 14, 3)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "units", tuple(self.units))
        if self.input_size < 32 or self.input_size & (self.input_size - 1):
            raise ConfigError(
                f"input_size is {self.input_size}, but must be a power of two from 32"
            )
        sizes = (self.num_ws, self.style_dim, self.style_channels, self.stem)
        check_groups(self.widths, self.units, sizes)

    def check(self, x: Tensor) -> None:
        """ConfigError unless ``x`` is ``(N, 3, input_size, input_size)``."""
        check_pictures(x, self.input_size, "encoder")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _GradualStyleBlock(nn.Module):
    """Halve a feature map down to one pixel, then a linear layer: one latent row."""

    def __init__(self, in_channels: int, channels: int, style_dim: int, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(spatial))):
            layers += [nn.Conv2d(in_channels, channels, 3, 2, 1), nn.LeakyReLU(0.01)]
            in_channels = channels
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(channels, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        row: Tensor = self.linear(self.convs(x).flatten(1).float())
        return row


def _upsample_add(coarse: Tensor, fine: Tensor) -> Tensor:
    return F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True) + fine


class E4EEncoder(nn.Module):
    """``(N, 3, S, S)`` RGB in [-1, 1] -> ``(N, num_ws, style_dim)``.

    ``latent_avg`` ``(num_ws, style_dim)`` is added to the result; it is zero until a checkpoint
    sets it and is kept beside the state dict, as in the public files.
    """

    latent_avg: Tensor

    def __init__(self, config: E4EConfig) -> None:
        super().__init__()
        self.config = config
        self.input_layer = input_layer(config.stem)
        self.body = residual_body(config.stem, config.widths, config.units)
        spatial = config.input_size // 16
        self.styles = nn.ModuleList()
        for row in range(config.num_ws):
            self.styles.append(
                _GradualStyleBlock(
                    config.widths[-1],
                    config.style_channels,
                    config.style_dim,
                    spatial << self.level(row),
                )
            )
        self.latlayer1 = nn.Conv2d(config.widths[2], config.widths[3], 1)
        self.latlayer2 = nn.Conv2d(config.widths[1], config.widths[3], 1)
        average = torch.zeros(config.num_ws, config.style_dim)
        self.register_buffer("latent_avg", average, persistent=False)

    @staticmethod
    def level(row: int) -> int:
        """Which map of the pyramid a row reads: 0 the coarsest, 1 of twice, 2 of four times it."""
        return 0 if row < _COARSE_ROWS else 1 if row < _MIDDLE_ROWS else 2

    def _pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.config.check(x)
        x = self.input_layer(x.contiguous(memory_format=torch.channels_last))
        ends = [sum(self.config.units[: i + 1]) for i in range(4)]
        fine = self.body[: ends[1]](x)
        middle = self.body[ends[1] : ends[2]](fine)
        coarse = self.body[ends[2] :](middle)
        middle = _upsample_add(coarse, self.latlayer1(middle))
        return coarse, middle, _upsample_add(middle, self.latlayer2(fine))

    def forward(self, x: Tensor, stage: int | None = None) -> Tensor:
        """``stage`` limits how many rows have an offset of their own (progressive training)."""
        levels = self._pyramid(x)
        base = self.styles[0](levels[0])
        rows = [base]
        last = self.config.num_ws if stage is None else min(stage + 1, self.config.num_ws)
        for row in range(1, self.config.num_ws):
            if row >= last:
                rows.append(base)
                continue
            rows.append(base + self.styles[row](levels[self.level(row)]))
        return torch.stack(rows, dim=1) + self.latent_avg
