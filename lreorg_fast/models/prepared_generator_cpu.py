"""The steps of a prepared generator on a CPU: oneDNN, Winograd and native passes.

An up-convolution is four small convolutions, one per phase of its result (9 taps in total, no
zeros multiplied); the filter reads the phases where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.models.convolution import Window, convolution
from lreorg_fast.models.layers import SQRT2
from lreorg_fast.models.passes import Passes, default_passes
from lreorg_fast.models.prepared_generator import Affine, Colour, Convolve, Modulation


def _phases(weight: Tensor) -> list[tuple[Tensor, tuple[int, int]]]:
    """Kernels and paddings of a transposed 3x3 convolution of stride 2, by phase of its result.

    Even lines of the result see this line through tap 0 and the one before through tap 2, odd
    lines see this line through tap 1.
    """
    taps = ([2, 0], [1])
    return [
        (weight[:, :, rows][:, :, :, columns], (len(rows) - 1, len(columns) - 1))
        for rows in taps
        for columns in taps
    ]


class _Styles:
    """All affine maps as one product per latent row."""

    def __init__(self, affines: Sequence[Affine]) -> None:
        self._order: list[tuple[int, list[int], Tensor, Tensor]] = []
        self._count = len(affines)
        for row in sorted({affine.row for affine in affines}):
            members = [i for i, affine in enumerate(affines) if affine.row == row]
            weight = torch.cat([affines[i].weight for i in members])
            bias = torch.cat([affines[i].bias for i in members])
            self._order.append((row, members, weight, bias))
        self._widths = [len(affine.bias) for affine in affines]

    def __call__(self, rows: Tensor) -> list[Tensor]:
        """``(N, num_ws, style_dim)`` -> one ``(N, C)`` per affine map."""
        styles: list[Tensor] = [rows] * self._count
        for row, members, weight, bias in self._order:
            parts = F.linear(rows[:, row], weight, bias).split(
                [self._widths[i] for i in members], 1
            )
            for i, part in zip(members, parts, strict=True):
                styles[i] = part.contiguous()
        return styles


class CpuSteps:
    """:class:`~lreorg_fast.models.prepared_generator.Steps` on a CPU."""

    def __init__(self, passes: Passes | None = None) -> None:
        self._passes = passes or default_passes()

    def convolution(
        self, weight: Tensor, *, upsample: bool, size: int, dtype: torch.dtype
    ) -> Convolve:
        kernels = _phases(weight) if upsample else [(weight, (1, 1))]
        parts = [
            convolution(kernel, Window(padding=padding), dtype=dtype, size=(size, size))
            for kernel, padding in kernels
        ]
        return lambda x: [part(x) for part in parts]

    def modulation(self, affines: Sequence[Affine], norms: Sequence[Tensor]) -> Modulation:
        all_styles = _Styles(affines)

        def modulate(rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            styles = all_styles(rows)
            gains = [
                (style.square() @ norm + 1e-8).rsqrt_().mul_(SQRT2)
                for style, norm in zip(styles, norms, strict=False)
            ]
            return styles, gains

        return modulate

    def modulate(self, x: Tensor, style: Tensor, dtype: torch.dtype) -> Tensor:
        return (x * style[:, None, None]).to(dtype)

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
        x, picture = self._passes.finish(
            maps[0],
            gain=gain,
            bias=bias,
            noise=noise,
            next_style=next_style,
            colours=colour_style[:, None] * colour.weight,
            colour_bias=colour.bias,
            skip=skip,
            limit=limit,
        )
        assert picture is not None
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
        return self._passes.up_finish(
            maps, gain=gain, bias=bias, noise=noise, next_style=next_style, limit=limit
        )
