"""Residual face network with squeeze-and-excitation: recognizers, and the trunk of e4e.

Layout and names of TreB1eN's IR-SE50 (``input_layer``, ``body``, ``output_layer``), the network
that e4e and most StyleGAN work use for identity; depth and widths are configurable so that the
demo bundle's small networks are of the same class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.models.residual import (
    ResidualConfig,
    check_pictures,
    input_layer,
    output_layer,
    residual_body,
)


@dataclass(frozen=True)
class BackboneConfig(ResidualConfig):
    """As :class:`ResidualConfig`; ``normalize``: is the result scaled to unit length?

    An identity embedding is, an attribute classifier's logits are not.
    """

    normalize: bool = True


class FaceBackbone(nn.Module):
    """``(N, 3, S, S)`` RGB in [-1, 1] -> ``(N, outputs)``, float32."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.input_layer = input_layer(config.stem)
        # The order of creation is that of the random numbers, the order of registration that of
        # the public files.
        body = residual_body(config.stem, config.widths, config.units)
        self.output_layer = output_layer(config, affine=True)
        self.body = body

    def features(self, x: Tensor) -> list[Tensor]:
        """Feature maps after each of the four groups, finest first (perceptual losses)."""
        check_pictures(x, self.config.input_size, "face network")
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
        """The result before normalization."""
        return self.head(self.features(x)[-1])

    def forward(self, x: Tensor) -> Tensor:
        y = self.raw(x)
        return F.normalize(y, dim=1) if self.config.normalize else y
