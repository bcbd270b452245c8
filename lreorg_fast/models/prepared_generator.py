"""StyleGAN2 synthesis for inference: constant weights laid out once, one pass between convolutions.

Equal to :class:`~lreorg_fast.models.stylegan2.StyleGAN2Generator` up to rounding. What is done
differently on a CPU and on a GPU is a :class:`Steps`; maps between them are ``(N, H, W, C)``
contiguous, all else is float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.layers import SQRT2
from lreorg_fast.models.stylegan2 import NoiseMode, StyleGAN2Config, StyleGAN2Generator

# Gives the maps that the pass after it takes.
Convolve = Callable[[Tensor], Sequence[Tensor]]
# Latents (N, num_ws, style_dim) -> styles (N, C) and demodulation coefficients times sqrt(2).
Modulation = Callable[[Tensor], tuple[Sequence[Tensor], Sequence[Tensor]]]


@dataclass(frozen=True)
class Affine:
    """The linear map from a latent row to one convolution's style; scales are multiplied in."""

    row: int
    weight: Tensor  # (C, style_dim)
    bias: Tensor  # (C,)

    @classmethod
    def of(cls, modulation: Any, row: int) -> Affine:
        weight = modulation.weight.detach().double() * modulation.scale
        return cls(row, weight.float(), modulation.bias.detach().float() * modulation.lr_multiplier)


@dataclass(frozen=True)
class Colour:
    """ToRGB: its 1x1 convolution is part of the pass after the 3x3 one before it."""

    affine: Affine
    weight: Tensor  # (3, C)
    bias: Tensor  # (3,)

    @classmethod
    def of(cls, layer: Any, row: int) -> Colour:
        weight = layer.conv.weight[0, :, :, 0, 0].detach() * layer.conv.scale
        bias = layer.bias.detach().reshape(3).to(torch.float32, copy=True)
        return cls(Affine.of(layer.conv.modulation, row), weight.float().contiguous(), bias)


class Steps(Protocol):
    """The parts of a synthesis, on one kind of processor."""

    def convolution(
        self, weight: Tensor, *, upsample: bool, size: int, dtype: torch.dtype
    ) -> Convolve:
        """3x3, of weights ``(C_out, C_in, 3, 3)`` in float64, for maps of side ``size``.

        With ``upsample`` transposed, of stride 2, as :meth:`up_finish` takes it.
        """
        ...

    def modulation(self, affines: Sequence[Affine], norms: Sequence[Tensor]) -> Modulation:
        """Of all layers; ``norms`` ``(C_in, C_out)``, of the squared kernels, are of the first."""
        ...

    def modulate(self, x: Tensor, style: Tensor, dtype: torch.dtype) -> Tensor:
        """``x (1, H, W, C)`` times ``style (N, C)``."""
        ...

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
        """``a = leaky_relu(x * gain + noise + bias, 0.2)`` -> (``a * next_style``, picture).

        ``noise`` is ``(N or 1, H, W)``; ``skip`` is the picture so far, of half the size. Without
        ``next_style`` there is no map; ``maps`` may be overwritten. ``limit`` clamps ``a`` to
        ``[-limit, limit]``, and the colours before ``skip`` is added.
        """
        ...

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
        """The 4x4 filter after a transposed convolution, then as :meth:`finish`."""
        ...


class _StyledLayer:
    """One modulated 3x3 convolution with what follows it."""

    def __init__(
        self, layer: Any, noise: Tensor, row: int, steps: Steps, dtype: torch.dtype
    ) -> None:
        weight: Tensor = layer.conv.weight[0].detach().double() * layer.conv.scale
        self.affine = Affine.of(layer.conv.modulation, row)
        # ||kernel||^2 per (input, output); sqrt(2) of the activation goes into all that it scales.
        self.norms: Tensor = weight.square().sum(dim=(2, 3)).t().contiguous().float()
        self.bias = (layer.activate.bias.detach() * SQRT2).float()
        self._strength = float(layer.noise.weight) * SQRT2
        self._map: Tensor = (noise.detach()[0].float() * self._strength).contiguous()
        self.upsample = bool(layer.conv.upsample)
        size = int(noise.shape[-1])
        self.convolve = steps.convolution(
            weight,
            upsample=self.upsample,
            size=size // 2 if self.upsample else size,
            dtype=dtype,
        )

    def noise(
        self, mode: NoiseMode, count: int, generator: torch.Generator | None
    ) -> Tensor | None:
        if mode == "none":
            return None
        if mode == "constant":
            return self._map
        size = (count, *self._map.shape[1:])
        fresh = torch.randn(size, generator=generator, device=self._map.device)
        return fresh * self._strength


class PreparedGenerator:
    """Made by :func:`~lreorg_fast.models.inference.prepare_generator`; any thread may call it."""

    def __init__(self, generator: StyleGAN2Generator, dtype: torch.dtype, steps: Steps) -> None:
        self.config: StyleGAN2Config = generator.config
        self.dtype = dtype
        self._steps = steps
        self._mapping = copy.deepcopy(generator.style)
        self._average = generator.latent_avg.detach().clone()
        noises = [
            cast(Tensor, getattr(generator.noises, f"noise_{i}"))
            for i in range(len(generator.convs) + 1)
        ]
        self._layers = [
            _StyledLayer(layer, noises[row], row, steps, dtype)
            for row, layer in enumerate((generator.conv1, *generator.convs))
        ]
        self._colours = [
            Colour.of(colour, 2 * j + 1)
            for j, colour in enumerate((generator.to_rgb1, *generator.to_rgbs))
        ]
        self._modulation = steps.modulation(
            [layer.affine for layer in self._layers] + [colour.affine for colour in self._colours],
            [layer.norms for layer in self._layers],
        )
        # (1, 4, 4, C)
        self._constant = generator.input.input.detach().float().permute(0, 2, 3, 1).contiguous()

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def mapping(self, z: Tensor, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """As :meth:`StyleGAN2Generator.mapping`."""
        return self.truncate(self._mapping(z), truncation, cutoff)

    def truncate(self, w: Tensor, truncation: float, cutoff: int | None = None) -> Tensor:
        """As :meth:`StyleGAN2Generator.truncate`."""
        return self.config.truncate(w, self._average, truncation, cutoff)

    def synthesis(
        self,
        w: Tensor,
        *,
        noise: NoiseMode = "constant",
        generator: torch.Generator | None = None,
    ) -> Tensor:
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
            picture = self._synthesize(rows.float(), noise, generator)
        picture = picture.to(w.dtype)
        return picture if torch.is_inference_mode_enabled() else picture.clone()

    def __call__(self, w: Tensor) -> Tensor:
        return self.synthesis(w)

    def _synthesize(
        self, rows: Tensor, mode: NoiseMode, generator: torch.Generator | None
    ) -> Tensor:
        styles, gains = self._modulation(rows)
        styled = styles[: len(self._layers)]
        coloured = styles[len(self._layers) :]
        x: Tensor | None = self._steps.modulate(self._constant, styled[0], self.dtype)
        picture: Tensor | None = None
        for i, layer in enumerate(self._layers):
            assert x is not None
            maps = layer.convolve(x)
            following = styled[i + 1] if i + 1 < len(styled) else None
            shared = {
                "gain": gains[i],
                "bias": layer.bias,
                "noise": layer.noise(mode, len(rows), generator),
                "limit": self.config.conv_clamp,
            }
            if layer.upsample:
                assert following is not None
                x = self._steps.up_finish(maps, next_style=following, **shared)
                continue
            x, picture = self._steps.finish(
                maps,
                next_style=following,
                colour=self._colours[i // 2],
                colour_style=coloured[i // 2],
                skip=picture,
                **shared,
            )
        assert picture is not None
        return picture
