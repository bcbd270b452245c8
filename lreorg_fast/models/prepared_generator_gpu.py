"""The steps of a prepared generator on a CUDA device: cuDNN's convolutions, Triton's passes.

Convolutions have constant weights and channels-last maps; styles scale what goes in and, as
demodulation coefficients, what comes out, in the passes between (``kernels/triton/generator.py``).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.models.prepared_generator import Affine, Colour, Convolve, Modulation


class GpuSteps:
    """:class:`~lreorg_fast.models.prepared_generator.Steps` in Triton.

    On CPU tensors only in Triton's interpreter (``TRITON_INTERPRET=1``), for tests.
    """

    def __init__(self) -> None:
        self._kernels = importlib.import_module("lreorg_fast.kernels.triton.generator")

    def convolution(
        self, weight: Tensor, *, upsample: bool, size: int, dtype: torch.dtype
    ) -> Convolve:
        # A transposed convolution's weights are (C_in, C_out, 3, 3).
        kernel = (weight.transpose(0, 1) if upsample else weight).to(dtype)
        kernel = kernel.contiguous(memory_format=torch.channels_last)

        def convolve(x: Tensor) -> list[Tensor]:
            x = x.permute(0, 3, 1, 2)
            if upsample:
                y = F.conv_transpose2d(x, kernel, stride=2)
            else:
                y = F.conv2d(x, kernel, padding=1)
            # Copies only where torch chose another layout.
            return [y.permute(0, 2, 3, 1).contiguous()]

        return convolve

    def modulation(self, affines: Sequence[Affine], norms: Sequence[Tensor]) -> Modulation:
        term, product = self._kernels.Term, self._kernels.GroupedProduct
        widths = [len(affine.bias) for affine in affines]
        dim = affines[0].weight.shape[1]
        to_styles = product(
            [term(affine.row * dim, affine.weight.t()) for affine in affines],
            torch.cat([affine.bias for affine in affines]),
        )
        # Styles lie side by side in the order of the layers.
        first = [sum(widths[:i]) for i in range(len(norms))]
        to_gains = product([term(*pair) for pair in zip(first, norms, strict=True)], None)

        def modulate(rows: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
            styles = to_styles(rows.reshape(len(rows), -1).contiguous())
            gains = to_gains(styles)
            return styles.split(widths, 1), gains.split(to_gains.widths, 1)

        return modulate

    def modulate(self, x: Tensor, style: Tensor, dtype: torch.dtype) -> Tensor:
        made: Tensor = self._kernels.modulate(x, style, dtype)
        return made

    def finish(
        self,
        maps: Sequence[Tensor],
        *,
        gain: Tensor,
        bias: Tensor,
        noise: Tensor | None,
        next_style: Tensor | None,
        colour: Colour,
        colour_style: Tensor,
        skip: Tensor | None,
        limit: float | None,
    ) -> tuple[Tensor | None, Tensor]:
        x, picture = self._kernels.finish(
            maps[0],
            gain=gain,
            bias=bias,
            noise=noise,
            next_style=next_style,
            colour_style=colour_style,
            colour_weight=colour.weight,
            colour_bias=colour.bias,
            skip=skip,
            limit=limit,
        )
        return x, picture

    def up_finish(
        self,
        maps: Sequence[Tensor],
        *,
        gain: Tensor,
        bias: Tensor,
        noise: Tensor | None,
        next_style: Tensor,
        limit: float | None,
    ) -> Tensor:
        made: Tensor = self._kernels.up_finish(
            maps[0], gain=gain, bias=bias, noise=noise, next_style=next_style, limit=limit
        )
        return made
