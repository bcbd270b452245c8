"""A recognizer or classifier of the IR-SE kind for a CPU, in float32: limits are about its numbers.

Equal to :class:`~lreorg_fast.models.backbone.FaceBackbone` up to rounding; see
:mod:`lreorg_fast.models.prepared_trunk`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.passes import Passes, default_passes
from lreorg_fast.models.prepared_trunk import PreparedTrunk, affine
from lreorg_fast.models.residual import check_pictures


class PreparedBackbone:
    """Made by :func:`~lreorg_fast.models.inference.inference_backbone`; any thread may call it."""

    def __init__(self, network: FaceBackbone, passes: Passes | None = None) -> None:
        self.config: BackboneConfig = network.config
        self._trunk = PreparedTrunk(
            network.input_layer,
            network.body,
            self.config.input_size,
            torch.float32,
            passes or default_passes(),
        )
        self._weight, self._bias = _head(network)
        self._last = sum(self.config.units)

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`FaceBackbone.forward`, without a gradient."""
        check_pictures(x, self.config.input_size, "face network")
        if not len(x):
            return x.new_empty(0, self.config.outputs)
        with torch.inference_mode():
            (last,) = self._trunk(x, {self._last})
            y = F.linear(last.flatten(1), self._weight, self._bias)
            y = F.normalize(y, dim=1) if self.config.normalize else y
        return y if torch.is_inference_mode_enabled() else y.clone()


def _head(network: FaceBackbone) -> tuple[Tensor, Tensor]:
    """BatchNorm, linear layer, BatchNorm in one: of maps ``(N, H, W, C)`` that are flattened."""
    parts: list[Any] = list(network.output_layer)
    norm, _, _, linear, last_norm = parts
    scale, shift = affine(norm)
    last_scale, last_shift = affine(last_norm)
    weight = linear.weight.detach().double().reshape(len(last_scale), len(scale), -1)
    bias = linear.bias.detach().double() + (weight * shift[:, None]).sum(dim=(1, 2))
    weight = (weight * scale[:, None] * last_scale[:, None, None]).transpose(1, 2)
    return weight.flatten(1).float(), (bias * last_scale + last_shift).float()
