"""StyleGAN2 synthesis for a CPU: constant weights laid out once, one pass between convolutions.

Equal to :class:`~lreorg_fast.models.stylegan2.StyleGAN2Generator` up to rounding. An up-convolution
is four small convolutions, one per phase of its result (9 taps in total, no zeros multiplied); the
filter reads the phases where they lie.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.convolution import Window, convolution
from lreorg_fast.models.layers import SQRT2
from lreorg_fast.models.passes import Passes, default_passes
from lreorg_fast.models.stylegan2 import NoiseMode, StyleGAN2Config, StyleGAN2Generator, truncate


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


@dataclass
class _Affine:
    """The linear map from a latent row to one convolution's style; scales are multiplied in."""

    row: int
    weight: Tensor  # (C, style_dim)
    bias: Tensor  # (C,)

    @classmethod
    def of(cls, modulation: Any, row: int) -> _Affine:
        weight = modulation.weight.detach().double() * modulation.scale
        return cls(row, weight.float(), modulation.bias.detach().float() * modulation.lr_multiplier)


class _StyledLayer:
    """One modulated 3x3 convolution with what follows it."""

    def __init__(self, layer: Any, noise: Tensor, row: int, dtype: torch.dtype) -> None:
        weight: Tensor = layer.conv.weight[0].detach().double() * layer.conv.scale
        self.affine = _Affine.of(layer.conv.modulation, row)
        # ||kernel||^2 per (input, output); sqrt(2) of the activation goes into all that it scales.
        self._norms: Tensor = weight.square().sum(dim=(2, 3)).t().contiguous().float()
        self.bias = (layer.activate.bias.detach() * SQRT2).float()
        self._strength = float(layer.noise.weight) * SQRT2
        self._map: Tensor = (noise.detach()[0].float() * self._strength).contiguous()
        self.upsample = bool(layer.conv.upsample)
        self.size = int(noise.shape[-1])
        size = (self.size // 2,) * 2 if self.upsample else (self.size,) * 2
        kernels = _phases(weight) if self.upsample else [(weight, (1, 1))]
        self.convolutions = [
            convolution(kernel, Window(padding=padding), dtype=dtype, size=size)
            for kernel, padding in kernels
        ]

    def gain(self, style: Tensor) -> Tensor:
        return (style.square() @ self._norms + 1e-8).rsqrt_().mul_(SQRT2)

    def noise(self, mode: NoiseMode, count: int) -> Tensor | None:
        if mode == "none":
            return None
        if mode == "constant":
            return self._map
        return torch.randn(count, self.size, self.size) * self._strength


class _ColourLayer:
    """ToRGB: its 1x1 convolution is part of the pass after the 3x3 one before it."""

    def __init__(self, layer: Any, row: int) -> None:
        self.affine = _Affine.of(layer.conv.modulation, row)
        self._weight: Tensor = (
            layer.conv.weight[0, :, :, 0, 0].detach() * layer.conv.scale
        ).float()
        self.bias = layer.bias.detach().reshape(3).to(torch.float32, copy=True)

    def weights(self, style: Tensor) -> Tensor:
        return style[:, None] * self._weight


class _Styles:
    """All affine maps as one product per latent row."""

    def __init__(self, affines: list[_Affine]) -> None:
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


class PreparedGenerator:
    """Made by :func:`~lreorg_fast.models.inference.prepare_generator`; any thread may call it."""

    def __init__(
        self, generator: StyleGAN2Generator, dtype: torch.dtype, passes: Passes | None = None
    ) -> None:
        self.config: StyleGAN2Config = generator.config
        self.dtype = dtype
        self._mapping = copy.deepcopy(generator.style)
        self._average = generator.latent_avg.detach().clone()
        self._passes = passes or default_passes()
        noises = [
            cast(Tensor, getattr(generator.noises, f"noise_{i}"))
            for i in range(len(generator.convs) + 1)
        ]
        self._layers = [_StyledLayer(generator.conv1, noises[0], 0, dtype)]
        for i, layer in enumerate(generator.convs):
            self._layers.append(_StyledLayer(layer, noises[i + 1], i + 1, dtype))
        self._colours = [_ColourLayer(generator.to_rgb1, 1)]
        for j, colour in enumerate(generator.to_rgbs):
            self._colours.append(_ColourLayer(colour, 2 * j + 3))
        affines = [layer.affine for layer in self._layers]
        self._styles = _Styles(affines + [colour.affine for colour in self._colours])
        # (4, 4, C)
        self._constant = generator.input.input.detach()[0].float().permute(1, 2, 0).contiguous()

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def mapping(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """As :meth:`StyleGAN2Generator.mapping`."""
        return truncate(self._mapping(z), self._average, truncation)

    def synthesis(self, w: Tensor, *, noise: NoiseMode = "constant") -> Tensor:
        """As :meth:`StyleGAN2Generator.synthesis`, at full resolution and without a gradient."""
        rows = self.config.rows(w)
        if torch.is_grad_enabled() and w.requires_grad:
            raise ConfigError(
                "a prepared generator gives no gradient, but its latents require one; use the "
                "generator that it was made from"
            )
        if not len(rows):
            return rows.new_empty(0, 3, self.resolution, self.resolution)
        with torch.inference_mode():
            picture = self._synthesize(rows.float(), noise)
        picture = picture.to(w.dtype)
        return picture if torch.is_inference_mode_enabled() else picture.clone()

    def __call__(self, w: Tensor) -> Tensor:
        return self.synthesis(w)

    def _synthesize(self, rows: Tensor, mode: NoiseMode) -> Tensor:
        styles = self._styles(rows)
        styled = styles[: len(self._layers)]
        coloured = styles[len(self._layers) :]
        x: Tensor | None = (self._constant * styled[0][:, None, None]).to(self.dtype)
        picture: Tensor | None = None
        for i, layer in enumerate(self._layers):
            assert x is not None
            following = styled[i + 1] if i + 1 < len(styled) else None
            shared = {
                "gain": layer.gain(styled[i]),
                "bias": layer.bias,
                "noise": layer.noise(mode, len(rows)),
            }
            maps = [convolve(x) for convolve in layer.convolutions]
            if layer.upsample:
                assert following is not None
                x = self._passes.up_finish(maps, next_style=following, **shared)
                continue
            colour = self._colours[i // 2]
            x, picture = self._passes.finish(
                maps[0],
                next_style=following,
                colours=colour.weights(coloured[i // 2]),
                colour_bias=colour.bias,
                skip=picture,
                **shared,
            )
        assert picture is not None
        return picture
