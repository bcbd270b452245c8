"""The generator's Triton kernels, interpreted where there is no GPU, and compiled for three."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from triton_imports import imported_anew

from lreorg_fast.models import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.models.layers import SQRT2, fir_kernel, scaled_leaky_relu
from lreorg_fast.models.prepared_generator import Convolve, PreparedGenerator
from lreorg_fast.models.prepared_generator_gpu import GpuSteps
from tolerances import tolerance

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BFLOAT16 = torch.bfloat16
CONFIGS = {
    "odd": StyleGAN2Config(16, 24, 2, {4: 24, 8: 7, 16: 9}),
    "even": StyleGAN2Config(16, 32, 2, {4: 64, 8: 32, 16: 32}),
}


@pytest.fixture(scope="module", autouse=True)
def kernels() -> Iterator[Any]:
    with imported_anew(interpret=DEVICE == "cpu"):
        yield importlib.import_module("lreorg_fast.kernels.triton.generator")


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Relative to the largest value."""
    limit = 3 * tolerance("network pass", "float32")
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < limit * float(wanted.abs().max())


def chans(x: Tensor) -> Tensor:
    """``(N, H, W, C) -> (N, C, H, W)``."""
    return x.permute(0, 3, 1, 2)


def side_by_side(count: int, channels: int) -> tuple[Tensor, Tensor]:
    """Two vectors per image, as views of one tensor: rows lie apart."""
    both = normal(count, 2 * channels)
    return both[:, :channels], both[:, channels:]


def noise_of(kind: str, count: int, height: int, width: int) -> Tensor | None:
    counts = {"none": None, "shared": 1, "fresh": count}
    images = counts[kind]
    return None if images is None else normal(images, height, width)


def clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


def ended(sums: Tensor, gain: Tensor, bias: Tensor, noise: Tensor | None) -> Tensor:
    """The plain modules' demodulation, noise, bias and activation, of ``(N, C, H, W)``."""
    sums = sums * (gain / SQRT2)[:, :, None, None] + bias[:, None, None] / SQRT2
    return scaled_leaky_relu(sums if noise is None else sums + noise[:, None] / SQRT2)


@pytest.mark.parametrize("channels", [7, 600])
def test_modulate_scales_channels(kernels, channels: int) -> None:
    x, style = normal(1, 4, 4, channels), normal(3, channels)
    assert_close(kernels.modulate(x, style, torch.float32), x * style[:, None, None])


def test_a_group_of_products_equals_each_alone(kernels) -> None:
    x = normal(2, 100)
    terms = [kernels.Term(0, normal(70, 33)), kernels.Term(30, normal(70, 5))]
    offsets = normal(38)
    product = kernels.GroupedProduct(terms, offsets)
    wanted = torch.cat([x[:, :70] @ terms[0].matrix, x[:, 30:] @ terms[1].matrix], 1) + offsets
    assert product.widths == [33, 5]
    assert_close(product(x), wanted)


def test_demodulation_is_the_inverse_root_of_the_sum_of_squares(kernels) -> None:
    style, weight = normal(2, 70), normal(40, 70, 3, 3)
    norms = weight.square().sum(dim=(2, 3)).t()
    found = kernels.GroupedProduct([kernels.Term(0, norms)], None)(style)
    kernel = weight[None] * style[:, None, :, None, None]
    assert_close(found, SQRT2 * (kernel.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt())


@pytest.mark.parametrize("noise", ["none", "shared", "fresh"])
@pytest.mark.parametrize("channels", [7, 32])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("first", "limit"), [(False, None), (True, None), (False, 0.7)])
def test_finish(
    kernels, monkeypatch, channels: int, noise: str, last: bool, first: bool, limit: float | None
) -> None:
    monkeypatch.setattr(kernels, "_WIDEST", 16)  # 32 channels are two parts of the sum
    x, gain, bias = normal(2, 10, 14, channels), normal(2, channels), normal(channels)
    next_style, colour_style = side_by_side(2, channels)
    weight, colour_bias = normal(3, channels), normal(3)
    skip = None if first else normal(2, 3, 5, 7)
    grain = noise_of(noise, 2, 10, 14)
    a = clamped(ended(chans(x), gain, bias, grain), limit)
    wanted = F.conv2d(a * colour_style[:, :, None, None], weight[:, :, None, None], colour_bias)
    wanted = clamped(wanted, limit)
    if skip is not None:
        fir = fir_kernel(4.0).to(DEVICE).expand(3, 1, 4, 4)
        wanted = wanted + F.conv_transpose2d(skip, fir, stride=2, padding=1, groups=3)
    found, picture = kernels.finish(
        x.clone(),
        gain=gain,
        bias=bias,
        noise=grain,
        next_style=None if last else next_style,
        colour_style=colour_style,
        colour_weight=weight,
        colour_bias=colour_bias,
        skip=skip,
        limit=limit,
    )
    assert_close(picture, wanted)
    assert (found is None) == last
    if found is not None:
        assert_close(chans(found), a * next_style[:, :, None, None])


@pytest.mark.parametrize("noise", ["none", "shared", "fresh"])
@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 7), (10, 22, 70)])
@pytest.mark.parametrize("limit", [None, 0.7])
def test_up_finish(
    kernels, height: int, width: int, channels: int, noise: str, limit: float | None
) -> None:
    x = normal(2, height + 1, width + 1, channels)
    bias, (gain, style) = normal(channels), side_by_side(2, channels)
    grain = noise_of(noise, 2, height, width)
    fir = fir_kernel(4.0).to(DEVICE).expand(channels, 1, 4, 4)
    filtered = F.conv2d(chans(x), fir, padding=1, groups=channels)
    found = kernels.up_finish(x, gain=gain, bias=bias, noise=grain, next_style=style, limit=limit)
    a = clamped(ended(filtered, gain, bias, grain), limit)
    assert_close(chans(found), a * style[:, :, None, None])


def test_bfloat16_maps_are_rounded_once(kernels) -> None:
    """By cutting bits off in the interpreter, to nearest on a GPU: under one unit either way."""
    x = normal(1, 9, 9, 8).to(BFLOAT16)
    gain, style, bias = normal(1, 8), normal(1, 8), normal(8)
    shared = {"gain": gain, "bias": bias, "noise": None, "next_style": style}
    found = kernels.up_finish(x, **shared)
    wanted = kernels.up_finish(x.float(), **shared)
    assert found.dtype == BFLOAT16
    assert bool(((found.float() - wanted).abs() <= 2**-7 * wanted.abs() + 1e-6).all())


@pytest.mark.parametrize(
    "spoil", [lambda x: x[:, :, ::2], lambda x: x.double(), lambda x: x[0], lambda x: x.int()]
)
def test_maps_of_other_layouts_and_types_are_refused(kernels, spoil) -> None:
    with pytest.raises(ValueError, match="map"):
        kernels.modulate(spoil(normal(1, 4, 4, 8)), normal(1, 8), BFLOAT16)


def test_vectors_that_are_not_dense_are_refused(kernels) -> None:
    with pytest.raises(ValueError, match="dense"):
        kernels.modulate(normal(1, 4, 4, 8), normal(8, 2).t(), BFLOAT16)


@pytest.fixture(scope="module", params=CONFIGS)
def generator(request) -> StyleGAN2Generator:
    torch.manual_seed(0)
    made = StyleGAN2Generator(CONFIGS[request.param]).requires_grad_(False).eval()
    for name, parameter in made.named_parameters():
        if name.endswith(("noise.weight", "activate.bias", "rgb1.bias")):
            nn.init.normal_(parameter, std=0.3)
    return made.to(DEVICE)


def latents(generator: StyleGAN2Generator, count: int) -> Tensor:
    return normal(count, generator.num_ws, generator.config.style_dim)


@pytest.mark.parametrize("noise", ["constant", "none"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_prepared_generator_equals_the_plain_one(generator, count, noise) -> None:
    w = latents(generator, count)
    found = PreparedGenerator(generator, torch.float32, GpuSteps()).synthesis(w, noise=noise)
    wanted = generator.synthesis(w, noise=noise)
    limit = tolerance("prepared network", "float32") * float(wanted.abs().max())
    assert float((found - wanted).abs().max()) < limit


def test_latents_of_one_row_serve_all_layers(generator) -> None:
    w = latents(generator, 2)[:, 0]
    found = PreparedGenerator(generator, torch.float32, GpuSteps()).synthesis(w)
    wanted = generator.synthesis(w)
    limit = tolerance("prepared network", "float32") * float(wanted.abs().max())
    assert float((found - wanted).abs().max()) < limit


class RoundedByTorch(GpuSteps):
    """bfloat16 maps whose rounding is torch's: the interpreter cuts bits off instead."""

    def convolution(
        self, weight: Tensor, *, upsample: bool, size: int, dtype: torch.dtype
    ) -> Convolve:
        low = super().convolution(weight, upsample=upsample, size=size, dtype=BFLOAT16)
        return lambda x: [y.float() for y in low(x.to(BFLOAT16))]


def test_bfloat16_is_no_worse_than_plain_bfloat16(generator) -> None:
    w = latents(generator, 4)
    wanted = generator.synthesis(w)

    def error(found: Tensor) -> float:
        return float((found - wanted).square().mean().sqrt())

    found = PreparedGenerator(generator, torch.float32, RoundedByTorch()).synthesis(w)
    limit = tolerance("prepared network ratio to plain bfloat16 PyTorch", "bfloat16")
    assert 0 < error(found) < limit * error(generator.synthesis(w, dtype=BFLOAT16))


@pytest.mark.parametrize("architecture", [80, 90, 120])
def test_every_kernel_compiles(architecture: int, tmp_path: Path) -> None:
    script = Path(__file__).with_name("triton_compile_generator.py")
    settings = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(script), str(architecture)],
        env={**settings, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"sm_{architecture}") == 9
