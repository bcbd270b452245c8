"""The native passes between convolutions against the same formulas in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.layers import fir_kernel
from lreorg_fast.models.passes import Passes, available
from tolerances import tolerance

KERNELS = available()
DTYPES = [torch.float32, torch.bfloat16]
each_variant = pytest.mark.parametrize("kernels", KERNELS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
# Channels around every vector width, and past the block that the filter works on.
channels = st.sampled_from([1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 130])
sides = st.integers(1, 6)
few = settings(max_examples=12, deadline=None)


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def planes(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` in float64, for the formulas."""
    return x.double().permute(0, 3, 1, 2)


def per_channel(x: Tensor) -> Tensor:
    return x.double()[:, :, None, None]


def assert_close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    """``found`` is a map, ``wanted`` planes."""
    limit = tolerance("network pass", str(dtype).removeprefix("torch."))
    assert found.dtype == dtype
    difference = (planes(found) - wanted).abs().max()
    assert difference <= limit * max(1.0, float(wanted.abs().max()))


def activated(x: Tensor, gain: Tensor, bias: Tensor, noise: Tensor | None) -> Tensor:
    x = x * per_channel(gain) + bias.double()[None, :, None, None]
    return F.leaky_relu(x if noise is None else x + noise.double()[:, None], 0.2)


limits = st.sampled_from([None, 0.7])


def clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


def modulation(count: int, width: int) -> dict[str, Any]:
    return {"gain": normal(count, width), "bias": normal(width)}


@each_variant
@each_dtype
@few
@given(n=st.integers(1, 3), h=sides, w=sides, c=channels, shared=st.booleans(), limit=limits)
def test_activation_and_colours(kernels, dtype, n, h, w, c, shared, limit) -> None:
    x, style, colours = normal(n, 2 * h, 2 * w, c, dtype=dtype), normal(n, c), normal(n, 3, c)
    noise, colour_bias, skip = (
        normal(1 if shared else n, 2 * h, 2 * w),
        normal(3),
        normal(n, 3, h, w),
    )
    arguments = modulation(n, c)
    a = clamped(activated(planes(x), noise=noise, **arguments), limit)
    up = fir_kernel(4.0).double().expand(3, 1, 4, 4)
    wanted = torch.einsum("nchw,nkc->nkhw", a, colours.double()) + colour_bias[None, :, None, None]
    wanted = clamped(wanted, limit) + F.conv_transpose2d(
        skip.double(), up, stride=2, padding=1, groups=3
    )
    out, picture = Passes(kernels).finish(
        x,
        noise=noise,
        next_style=style,
        colours=colours,
        colour_bias=colour_bias,
        skip=skip,
        limit=limit,
        **arguments,
    )
    assert out is not None
    assert picture is not None
    assert_close(out, a * per_channel(style), dtype)
    least = tolerance("network pass", "float32") * max(1.0, float(wanted.abs().max()))
    assert (picture - wanted).abs().max() < 4 * least  # sums over all channels


@each_variant
@each_dtype
def test_activation_alone_and_colours_alone(kernels, dtype) -> None:
    x, style, colours = normal(2, 3, 5, 20, dtype=dtype), normal(2, 20), normal(2, 3, 20)
    arguments, passes = modulation(2, 20), Passes(kernels)
    a = activated(planes(x), noise=None, **arguments)
    nothing, picture = passes.finish(
        x,
        noise=None,
        next_style=None,
        colours=colours,
        colour_bias=torch.zeros(3),
        **arguments,
    )
    assert nothing is None
    assert picture is not None
    wanted = torch.einsum("nchw,nkc->nkhw", a, colours.double())
    assert torch.allclose(picture.double(), wanted, atol=1e-4)
    out, no_picture = passes.finish(x, noise=None, next_style=style, **arguments)
    assert no_picture is None
    assert out is not None
    assert_close(out, a * per_channel(style), dtype)


@each_variant
@each_dtype
@few
@given(n=st.integers(1, 3), h=sides, w=sides, c=channels, noisy=st.booleans(), limit=limits)
def test_filter_over_phases(kernels, dtype, n, h, w, c, noisy, limit) -> None:
    whole = normal(n, 2 * h + 1, 2 * w + 1, c, dtype=dtype)
    phases = [whole[:, i::2, j::2].contiguous() for i in (0, 1) for j in (0, 1)]
    noise, style = normal(n, 2 * h, 2 * w) if noisy else None, normal(n, c)
    arguments = modulation(n, c)
    blur = fir_kernel(4.0).double().expand(c, 1, 4, 4)
    x = F.conv2d(planes(whole), blur, padding=1, groups=c)
    wanted = clamped(activated(x, noise=noise, **arguments), limit) * per_channel(style)
    found = Passes(kernels).up_finish(
        phases, noise=noise, next_style=style, limit=limit, **arguments
    )
    assert_close(found, wanted, dtype)


@each_variant
def test_what_is_not_a_number_is_not_clamped_away(kernels) -> None:
    """A clamp that hides it would let a broken face pass as a picture."""
    x, colours = normal(1, 2, 2, 20), normal(1, 3, 20)
    x[0, 0, 0, 3] = torch.nan
    out, picture = Passes(kernels).finish(
        x,
        noise=None,
        next_style=normal(1, 20),
        colours=colours,
        colour_bias=torch.zeros(3),
        limit=1.0,
        **modulation(1, 20),
    )
    assert out is not None
    assert picture is not None
    assert out.isnan().sum() == 1
    assert picture[0, :, 0, 0].isnan().all()


@each_variant
@each_dtype
@few
@given(n=st.integers(1, 3), h=st.integers(2, 6), w=st.integers(2, 6), c=channels)
def test_prelu_with_a_bias_that_differs_at_the_borders(kernels, dtype, n, h, w, c) -> None:
    x, bias, slope = normal(n, h, w, c, dtype=dtype), normal(9, c), normal(c)
    rows = [0] + [1] * (h - 2) + [2]
    columns = [0] + [1] * (w - 2) + [2]
    here = bias.double().reshape(3, 3, c)[rows][:, columns].permute(2, 0, 1)
    wanted = F.prelu(planes(x) + here, slope.double())
    assert_close(Passes(kernels).prelu(x, bias, slope), wanted, dtype)


@each_variant
@each_dtype
@few
@given(n=st.integers(1, 3), h=sides, w=sides, c=channels, stride=st.integers(1, 2))
def test_means_and_gated_sums(kernels, dtype, n, h, w, c, stride) -> None:
    x, gate, offset = normal(n, h, w, c, dtype=dtype), normal(n, c), normal(n, c) / 3
    shortcut = normal(n, h * stride, w * stride, c, dtype=dtype)
    passes = Passes(kernels)
    assert torch.allclose(passes.mean(x).double(), planes(x).mean(dim=(2, 3)), atol=1e-6)
    wanted = planes(x) * per_channel(gate) + per_channel(offset)
    wanted = wanted + planes(shortcut)[:, :, ::stride, ::stride]
    assert_close(passes.gated_sum(x, gate, offset, shortcut, stride), wanted, dtype)


@each_variant
@each_dtype
@few
@given(n=st.integers(1, 3), h=sides, w=sides, big=st.tuples(sides, sides), c=channels)
def test_stretched_sum(kernels, dtype, n, h, w, big, c) -> None:
    coarse, fine = normal(n, h, w, c, dtype=dtype), normal(n, *big, c, dtype=dtype)
    stretched = F.interpolate(planes(coarse), size=big, mode="bilinear", align_corners=True)
    wanted = stretched + planes(fine)
    assert_close(Passes(kernels).stretched_sum(coarse, fine), wanted, dtype)


@each_variant
@each_dtype
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so(kernels, dtype, value) -> None:
    x = torch.full((1, 2, 2, 19), value, dtype=dtype)
    out = Passes(kernels).gated_sum(x, torch.ones(1, 19), torch.zeros(1, 19), x.clone(), 1)
    assert not out.isfinite().any()


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    before = torch.get_num_threads()
    x, bias, slope = normal(3, 7, 5, 40), normal(9, 40), normal(40)
    once = Passes().prelu(x.clone(), bias, slope)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(Passes().prelu(x.clone(), bias, slope), once)
    finally:
        torch.set_num_threads(before)


def test_wrong_shapes_layouts_and_names_are_refused() -> None:
    passes, x = Passes(), normal(1, 4, 4, 8)
    with pytest.raises(ValueError, match="slope"):
        passes.prelu(x, normal(9, 8), normal(7))
    with pytest.raises(ValueError, match="shortcut"):
        passes.gated_sum(x, normal(1, 8), normal(1, 8), normal(1, 4, 4, 8), 2)
    with pytest.raises(ConfigError, match="contiguous"):
        passes.mean(x.permute(0, 3, 1, 2))
    with pytest.raises(ConfigError, match="float64"):
        passes.mean(x.double())
    with pytest.raises(ConfigError, match="kernels"):
        Passes("mmx")
