"""StyleGAN2 generator (Karras et al. 2020) in the parameter layout of the public PyTorch files.

One class for every size: 512 channels and 8 mapping layers as published, fewer for the demo
bundle. Modulated convolution is computed as scale-input, convolve, scale-output, which equals
the per-sample kernels of the paper up to rounding and lets the batch share one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.layers import EqualLinear, PixelNorm, fir_kernel, scaled_leaky_relu

NoiseMode = Literal["constant", "random", "none"]


def published_channels(resolution: int, multiplier: int = 2) -> dict[int, int]:
    """Channels per resolution of the published networks: 512 up to 32 px, then halving."""
    channels = {4: 512, 8: 512, 16: 512, 32: 512}
    channels.update({64 * 2**i: (256 >> i) * multiplier for i in range(5)})
    return {r: c for r, c in channels.items() if r <= resolution}


@dataclass(frozen=True)
class StyleGAN2Config:
    """Shape of a generator.

    ``resolution`` is a power of two, 8 to 1024; ``channels`` maps every resolution from 4 to
    ``resolution`` to a channel count. ``style_dim`` is the width of w, ``z_dim`` that of z, the
    same where it is 0. ``conv_clamp`` limits what every layer gives to [-conv_clamp, conv_clamp]:
    after activation and gain, and colours before the picture so far is added (NVlabs' option).
    """

    resolution: int = 256
    style_dim: int = 512
    mapping_layers: int = 8
    channels: Mapping[int, int] = field(default_factory=lambda: published_channels(256))
    z_dim: int = 0
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        steps = math.log2(self.resolution) if self.resolution > 0 else 0.0
        if not 3 <= steps <= 10 or steps != int(steps):
            raise ConfigError(
                f"resolution is {self.resolution}, but must be a power of two from 8 to 1024"
            )
        object.__setattr__(self, "channels", {int(r): int(c) for r, c in self.channels.items()})
        wanted = [2**i for i in range(2, int(steps) + 1)]
        if sorted(self.channels) != wanted or min(self.channels.values()) < 1:
            raise ConfigError(f"channels must give a positive count for each of {wanted}")
        if self.style_dim < 1 or not 1 <= self.mapping_layers <= 16:
            raise ConfigError("style_dim must be at least 1 and mapping_layers from 1 to 16")
        if self.z_dim < 0:
            raise ConfigError(f"z_dim is {self.z_dim}, but must be positive, or 0 for style_dim")
        object.__setattr__(self, "z_dim", self.z_dim or self.style_dim)
        if self.conv_clamp is not None and not 0 < self.conv_clamp < math.inf:
            raise ConfigError(
                f"conv_clamp is {self.conv_clamp}, but must be positive and finite, or None"
            )

    @property
    def num_ws(self) -> int:
        """Rows of a W+ latent: two per resolution."""
        return 2 * int(math.log2(self.resolution)) - 2

    def rows(self, w: Tensor) -> Tensor:
        """Latents ``(N, w_dim)`` or ``(N, num_ws, w_dim)`` as the latter; else ConfigError."""
        rows = w[:, None].expand(-1, self.num_ws, -1) if w.dim() == 2 else w
        if rows.dim() != 3 or rows.shape[1:] != (self.num_ws, self.style_dim):
            raise ConfigError(
                f"latents have shape {tuple(w.shape)}, but this generator takes "
                f"(N, {self.style_dim}) or (N, {self.num_ws}, {self.style_dim})"
            )
        return rows

    def truncate(
        self, w: Tensor, average: Tensor, truncation: float, cutoff: int | None = None
    ) -> Tensor:
        """Latents pulled toward ``average (w_dim,)``; see :meth:`StyleGAN2Generator.truncate`."""
        if cutoff is None:
            return w if truncation == 1.0 else average + truncation * (w - average)
        if not 0 <= cutoff <= self.num_ws:
            raise ConfigError(f"cutoff is {cutoff}, but must be from 0 to {self.num_ws} rows")
        rows = self.rows(w)
        return torch.cat(
            [self.truncate(rows[:, :cutoff], average, truncation), rows[:, cutoff:]], 1
        )

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["channels"] = {str(r): c for r, c in self.channels.items()}
        return data


class _Filter(nn.Module):
    """The 4x4 FIR filter, for every channel alike; zero insertion costs a gain of 4."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(4.0))

    def weights(self, x: Tensor) -> Tensor:
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class _Blur(_Filter):
    """The filter after an up-convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weights(x), padding=1, groups=x.shape[1])


class _Upsample(_Filter):
    """RGB skip: zero insertion and the filter, as one transposed convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weights(x), stride=2, padding=1, groups=x.shape[1])


class _ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style; demodulated unless for RGB."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_dim: int,
        *,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(1, out_channels, in_channels, kernel_size, kernel_size)
        )
        if upsample:
            self.blur = _Blur()
        self.modulation = EqualLinear(style_dim, in_channels, bias=1.0)
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2
        self.demodulate = demodulate
        self.upsample = upsample

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.modulation(w)
        weight = self.weight[0] * self.scale
        kernel = weight.to(x.dtype)
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.upsample:
            x = self.blur(F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, kernel, padding=self.padding)
        if self.demodulate:
            norm = style.square() @ weight.square().sum(dim=(2, 3)).t() + 1e-8
            x = x * norm.rsqrt().to(x.dtype)[:, :, None, None]
        return x


class _NoiseStrength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class _ActivationBias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


def _clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


class _StyledConv(nn.Module):
    """Modulated convolution, one noise map for all channels, bias, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_dim: int,
        *,
        clamp: float | None,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.conv = _ModulatedConv(in_channels, out_channels, 3, style_dim, upsample=upsample)
        self.noise = _NoiseStrength()
        self.activate = _ActivationBias(out_channels)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        x = self.conv(x, w)
        offset = self.activate.bias[None, :, None, None].to(x.dtype)
        if noise is not None:
            offset = offset + (self.noise.weight * noise).to(x.dtype)
        return _clamped(scaled_leaky_relu(x + offset), self.clamp)


class _ToRGB(nn.Module):
    """1x1 modulated convolution to colour, added to the up-sampled picture so far."""

    def __init__(
        self, in_channels: int, style_dim: int, *, clamp: float | None, upsample: bool
    ) -> None:
        super().__init__()
        self.clamp = clamp
        if upsample:
            self.upsample = _Upsample()
        self.conv = _ModulatedConv(in_channels, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        picture = _clamped(self.conv(x, w).to(w.dtype) + self.bias, self.clamp)
        if skip is not None:
            picture = picture + self.upsample(skip)
        return picture


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StyleGAN2Generator(nn.Module):
    """``mapping``: z -> w; ``synthesis``: w or w+ -> picture in about [-1, 1].

    State-dict names are those of rosinality's ``Generator``; the average latent is the extra
    buffer ``latent_avg`` ``(style_dim,)``, not persistent because public files keep it beside
    the state dict.
    """

    latent_avg: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        channels, dim, clamp = config.channels, config.style_dim, config.conv_clamp
        mapping = [
            EqualLinear(dim if i else config.z_dim, dim, lr_multiplier=0.01, activate=True)
            for i in range(config.mapping_layers)
        ]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = _Constant(channels[4])
        self.conv1 = _StyledConv(channels[4], channels[4], dim, clamp=clamp)
        self.to_rgb1 = _ToRGB(channels[4], dim, clamp=clamp, upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise_0", torch.randn(1, 1, 4, 4))
        for resolution in list(channels)[1:]:
            before, here = channels[resolution // 2], channels[resolution]
            self.convs.append(_StyledConv(before, here, dim, clamp=clamp, upsample=True))
            self.convs.append(_StyledConv(here, here, dim, clamp=clamp))
            self.to_rgbs.append(_ToRGB(here, dim, clamp=clamp, upsample=True))
            for index in (len(self.convs) - 1, len(self.convs)):
                buffer = torch.randn(1, 1, resolution, resolution)
                self.noises.register_buffer(f"noise_{index}", buffer)
        self.register_buffer("latent_avg", torch.zeros(dim), persistent=False)

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def mapping(self, z: Tensor, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """``(N, z_dim) -> (N, w_dim)``, or ``(N, num_ws, w_dim)`` with a ``cutoff``.

        ``truncation`` and ``cutoff`` as of :meth:`truncate`.
        """
        return self.truncate(self.style(z), truncation, cutoff)

    def truncate(self, w: Tensor, truncation: float, cutoff: int | None = None) -> Tensor:
        """W or W+ pulled toward ``latent_avg``: ``avg + truncation * (w - avg)``; 1 leaves them.

        With a ``cutoff``, 0 to ``num_ws``, only that many leading rows, and the result is
        ``(N, num_ws, w_dim)``.

        Raises:
            ConfigError: another cutoff, or latents of another shape with one.
        """
        return self.config.truncate(w, self.latent_avg, truncation, cutoff)

    def synthesis(
        self,
        w: Tensor,
        *,
        noise: NoiseMode = "constant",
        dtype: torch.dtype | None = None,
        resolution: int | None = None,
        fade: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``(N, w_dim)`` or ``(N, num_ws, w_dim)`` -> ``(N, 3, H, W)``.

        ``noise``: the stored maps, fresh ones per picture (``random``: standard normal, drawn from
        ``generator``, on the maps' device, or torch's own), or none. ``dtype``: type of the
        feature maps (the picture is summed in w's type). ``resolution`` and ``fade`` stop early
        and weight the last RGB layer; both serve growing during training only.
        """
        rows = self.config.rows(w)
        x = self.input.input.to(dtype or rows.dtype).expand(len(rows), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.conv1(x, rows[:, 0], self._noise(0, x, noise, generator))
        picture: Tensor = self.to_rgb1(x, rows[:, 1], None)
        blocks = int(math.log2(resolution or self.resolution)) - 2
        for j in range(blocks):
            # The layer sees twice the size of what comes in, so its noise map is asked by index.
            for i in (2 * j, 2 * j + 1):
                maps = self._noise(i + 1, x, noise, generator)
                x = self.convs[i](x, rows[:, i + 1], maps)
            before = picture
            picture = self.to_rgbs[j](x, rows[:, 2 * j + 3], before)
            if fade < 1.0 and j == blocks - 1:
                faint = cast(_ToRGB, self.to_rgbs[j]).upsample(before)
                picture = picture.lerp(faint, 1.0 - fade)
        return picture

    def forward(self, w: Tensor) -> Tensor:
        return self.synthesis(w)

    def _noise(
        self, index: int, x: Tensor, mode: NoiseMode, generator: torch.Generator | None
    ) -> Tensor | None:
        if mode == "none":
            return None
        stored: Tensor = getattr(self.noises, f"noise_{index}")
        if mode == "constant":
            return stored
        size = (len(x), *stored.shape[1:])
        return torch.randn(size, generator=generator, dtype=x.dtype, device=x.device)
