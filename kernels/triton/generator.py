"""What StyleGAN2 does between its convolutions on a GPU, one Triton kernel per pass.

Maps are ``(N, H, W, C)`` contiguous, float32, bfloat16 or float16: the memory of a channels-last
``(N, C, H, W)``, which cuDNN prefers. All other tensors are float32, sums too. Every tensor of a
call is on one CUDA device, or on the CPU where ``TRITON_INTERPRET=1`` was set before the import.
Nothing waits for the device, so a call can be captured in a CUDA graph once it has run before.

A leaky ReLU scales with what goes in: its gain of sqrt(2) is expected in ``gain``, ``bias`` and
``noise``. The filter is that of Karras et al. (2020), [1, 3, 3, 1] along each side, with the gain
of 4 that zero insertion costs: lines of 1/4, 3/4, 3/4, 1/4.

Of triton.language only builtins are used: its own compiled helpers (sum, zeros, cdiv) do not run
interpreted where triton was imported before ``TRITON_INTERPRET`` was set.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_MAPS = (torch.float32, torch.bfloat16, torch.float16)
# Values per program: 16 (8) for each of 128 threads, two (one) 16-byte accesses in 16 bits.
_TILE = 2048
_UP_TILE = 1024
_WIDEST = 512
_UP_WIDEST = 64
# Rows per program of the up-sampling pass: each filtered row serves four results.
_UP_ROWS = 4
# A tile of a grouped product: terms summed at a time, results.
_TERMS, _RESULTS = 64, 32

_SLOPE = tl.constexpr(0.2)
_NEAR = tl.constexpr(0.75)
_FAR = tl.constexpr(0.25)
_EPSILON = tl.constexpr(1e-8)
# Of tl.sum; the interpreter knows this one and does not call it for every element.
_add = tl.standard._sum_combine


@triton.jit
def _leaky_relu(x):
    return tl.where(x > 0, x, x * _SLOPE)


@triton.jit
def _product_kernel(
    x,
    matrices,
    offsets,
    out,
    table,
    x_stride,
    out_stride,
    TERMS: tl.constexpr,
    RESULTS: tl.constexpr,
):
    """One tile of one product of a group, for one row of ``x``; see :class:`GroupedProduct`.

    With ``offsets`` an affine map; without, demodulation: ``sqrt(2 / (x^2 M + epsilon))``.
    """
    entry = table + tl.program_id(0) * 6
    x_first = tl.load(entry)
    depth = tl.load(entry + 1)
    matrix_first = tl.load(entry + 2)
    width = tl.load(entry + 3)
    column = tl.load(entry + 4)
    out_first = tl.load(entry + 5)
    n = tl.program_id(1).to(tl.int64)
    o = column + tl.arange(0, RESULTS)
    real = o < width
    sums = tl.full([TERMS, RESULTS], 0.0, tl.float32)
    for first in range(0, depth, TERMS):
        k = first + tl.arange(0, TERMS)
        value = tl.load(x + n * x_stride + x_first + k, mask=k < depth, other=0.0)
        if offsets is None:
            value = value * value
        mask = (k < depth)[:, None] & real[None, :]
        at = matrix_first + k[:, None] * width + o[None, :]
        sums += value[:, None] * tl.load(matrices + at, mask=mask, other=0.0)
    result = tl.reduce(sums, 0, _add)
    if offsets is None:
        result = tl.rsqrt((result + _EPSILON) * 0.5)
    else:
        result += tl.load(offsets + out_first + o, mask=real, other=0.0)
    tl.store(out + n * out_stride + out_first + o, result, mask=real)


@triton.jit
def _modulate_kernel(
    x,
    style,
    out,
    pixels,
    x_stride,
    style_stride,
    CHANNELS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n = tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    real = c < CHANNELS
    mask = (p < pixels)[:, None] & real[None, :]
    at = p[:, None] * CHANNELS + c[None, :]
    value = tl.load(x + n * x_stride + at, mask=mask, other=0.0).to(tl.float32)
    value *= tl.load(style + n * style_stride + c, mask=real, other=0.0)[None, :]
    tl.store(out + n * pixels * CHANNELS + at, value.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _doubled(plane, y, x, height, width, inside):
    """Pixels of a plane of ``height x width`` after zero insertion and the filter."""
    near_y = y // 2
    near_x = x // 2
    far_y = near_y - 1 + 2 * (y % 2)
    far_x = near_x - 1 + 2 * (x % 2)
    row = inside & (far_y >= 0) & (far_y < height)
    column = (far_x >= 0) & (far_x < width)
    near = tl.load(plane + near_y * width + near_x, mask=inside, other=0.0) * _NEAR
    near += tl.load(plane + near_y * width + far_x, mask=inside & column, other=0.0) * _FAR
    far = tl.load(plane + far_y * width + near_x, mask=row, other=0.0) * _NEAR
    far += tl.load(plane + far_y * width + far_x, mask=row & column, other=0.0) * _FAR
    return near * _NEAR + far * _FAR


@triton.jit
def _paint(colour, value, bias, skip, picture, p, inside, height, width, image):
    """Store one of the three planes of a picture."""
    value += tl.load(bias + colour)
    plane = (image * 3 + colour) * height * width
    if skip is not None:
        y = p // width
        x = p % width
        value += _doubled(skip + plane // 4, y, x, height // 2, width // 2, inside)
    tl.store(picture + plane + p, value, mask=inside)


@triton.jit
def _finish_kernel(
    x,
    out,
    gain,
    bias,
    noise,
    next_style,
    colour_style,
    colour_weight,
    colour_bias,
    skip,
    picture,
    height,
    width,
    style_stride,
    gain_stride,
    noise_stride,
    CHANNELS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = p < height * width
    first_value = n * height * width * CHANNELS
    red = tl.full([BLOCK_P], 0.0, tl.float32)
    green = tl.full([BLOCK_P], 0.0, tl.float32)
    blue = tl.full([BLOCK_P], 0.0, tl.float32)
    for first in range(0, CHANNELS, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        real = c < CHANNELS
        mask = inside[:, None] & real[None, :]
        at = first_value + p[:, None] * CHANNELS + c[None, :]
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        value *= tl.load(gain + n * gain_stride + c, mask=real, other=0.0)[None, :]
        value += tl.load(bias + c, mask=real, other=0.0)[None, :]
        if noise is not None:
            value += tl.load(noise + n * noise_stride + p, mask=inside, other=0.0)[:, None]
        value = _leaky_relu(value)
        if next_style is not None:
            style = tl.load(next_style + n * style_stride + c, mask=real, other=0.0)
            tl.store(out + at, (value * style[None, :]).to(out.dtype.element_ty), mask=mask)
        tint = tl.load(colour_style + n * style_stride + c, mask=real, other=0.0)
        weight = colour_weight + c
        red_weight = tint * tl.load(weight, mask=real, other=0.0)
        green_weight = tint * tl.load(weight + CHANNELS, mask=real, other=0.0)
        blue_weight = tint * tl.load(weight + 2 * CHANNELS, mask=real, other=0.0)
        red += tl.reduce(value * red_weight[None, :], 1, _add)
        green += tl.reduce(value * green_weight[None, :], 1, _add)
        blue += tl.reduce(value * blue_weight[None, :], 1, _add)
    _paint(0, red, colour_bias, skip, picture, p, inside, height, width, n)
    _paint(1, green, colour_bias, skip, picture, p, inside, height, width, n)
    _paint(2, blue, colour_bias, skip, picture, p, inside, height, width, n)


@triton.jit
def _pixels(source, y, x, height, width, real, CHANNELS: tl.constexpr):
    """Of row ``y`` of a ``(height + 1, width + 1)`` map; zero outside."""
    # Rows are checked by the pixel's index: Triton's interpreter spoils masks made of scalars.
    at = y * (width + 1) + x
    inside = (x >= 0) & (x <= width) & (at >= 0) & (at < (height + 1) * (width + 1))
    mask = inside[:, None] & real[None, :]
    return tl.load(source + at[:, None] * CHANNELS, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _filtered_row(source, y, x, height, width, real, CHANNELS: tl.constexpr):
    """Row ``y``, filtered along it."""
    near = _pixels(source, y, x, height, width, real, CHANNELS)
    near += _pixels(source, y, x + 1, height, width, real, CHANNELS)
    far = _pixels(source, y, x - 1, height, width, real, CHANNELS)
    far += _pixels(source, y, x + 2, height, width, real, CHANNELS)
    return near * _NEAR + far * _FAR


@triton.jit
def _up_finish_kernel(
    x,
    out,
    gain,
    bias,
    noise,
    next_style,
    height,
    width,
    style_stride,
    gain_stride,
    noise_stride,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    blocks = (CHANNELS + BLOCK_C - 1) // BLOCK_C
    c = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    column = (tl.program_id(0) // blocks) * BLOCK_X + tl.arange(0, BLOCK_X)
    top = tl.program_id(1) * ROWS
    n = tl.program_id(2).to(tl.int64)
    real = c < CHANNELS
    scale = tl.load(gain + n * gain_stride + c, mask=real, other=0.0)[None, :]
    offset = tl.load(bias + c, mask=real, other=0.0)[None, :]
    style = tl.load(next_style + n * style_stride + c, mask=real, other=0.0)[None, :]
    source = x + n * (height + 1) * (width + 1) * CHANNELS + c[None, :]
    target = out + n * height * width * CHANNELS + c[None, :]
    # The last three filtered rows stay in registers: a row is read once, not once per tap.
    first = tl.full([BLOCK_X, BLOCK_C], 0.0, tl.float32)
    second = tl.full([BLOCK_X, BLOCK_C], 0.0, tl.float32)
    third = tl.full([BLOCK_X, BLOCK_C], 0.0, tl.float32)
    for step in tl.static_range(ROWS + 3):
        newest = _filtered_row(source, top + step - 1, column, height, width, real, CHANNELS)
        if step >= 3:
            at = (top + step - 3) * width + column
            inside = (column < width) & (at < height * width)
            value = ((second + third) * _NEAR + (first + newest) * _FAR) * scale + offset
            if noise is not None:
                value += tl.load(noise + n * noise_stride + at, mask=inside, other=0.0)[:, None]
            value = _leaky_relu(value) * style
            mask = inside[:, None] & real[None, :]
            tl.store(target + at[:, None] * CHANNELS, value.to(out.dtype.element_ty), mask=mask)
        first = second
        second = third
        third = newest


@dataclass(frozen=True)
class Term:
    """One product of a group: ``x[:, first : first + K] @ matrix`` with ``matrix`` ``(K, O)``."""

    first: int
    matrix: Tensor


class GroupedProduct:
    """Products of different sizes in one launch, their results side by side.

    ``x (N, ...) -> (N, sum of O)``, float32. With ``offsets`` ``(sum of O,)`` they are added: the
    affine maps from latent rows to styles. Without, the results are the demodulation coefficients
    times sqrt(2), ``sqrt(2 / (x^2 @ matrix + 1e-8))``, for matrices of squared norms of kernels.

    Args:
        terms: at least one, float32 and all on one device.
    """

    def __init__(self, terms: Sequence[Term], offsets: Tensor | None) -> None:
        self._matrices = torch.cat([term.matrix.flatten() for term in terms])
        self._offsets = offsets
        self.widths = [term.matrix.shape[1] for term in terms]
        tiles: list[tuple[int, ...]] = []
        matrix_first = out_first = 0
        for term in terms:
            depth, width = term.matrix.shape
            tiles += [
                (term.first, depth, matrix_first, width, column, out_first)
                for column in range(0, width, _RESULTS)
            ]
            matrix_first += depth * width
            out_first += width
        self._table = torch.tensor(tiles, dtype=torch.int32, device=self._matrices.device)

    def __call__(self, x: Tensor) -> Tensor:
        x = _vectors(x)
        out = x.new_empty(len(x), sum(self.widths))
        with _device(x):
            _product_kernel[(len(self._table), len(x))](
                x,
                self._matrices,
                self._offsets,
                out,
                self._table,
                x.stride(0),
                out.stride(0),
                TERMS=_TERMS,
                RESULTS=_RESULTS,
            )
        return out


def modulate(x: Tensor, style: Tensor, dtype: torch.dtype) -> Tensor:
    """``x (N or 1, H, W, C)`` times ``style (N, C)``, as a map of ``dtype``."""
    _check_map(x)
    style = _vectors(style)
    _, height, width, channels = x.shape
    out = x.new_empty(len(style), height, width, channels, dtype=dtype)
    block_c = min(triton.next_power_of_2(channels), _WIDEST)
    block_p = _TILE // block_c
    grid = (triton.cdiv(height * width, block_p), triton.cdiv(channels, block_c), len(style))
    with _device(x):
        _modulate_kernel[grid](
            x,
            style,
            out,
            height * width,
            _shared_stride(x),
            style.stride(0),
            CHANNELS=channels,
            BLOCK_P=block_p,
            BLOCK_C=block_c,
        )
    return out


def finish(
    x: Tensor,
    *,
    gain: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    next_style: Tensor | None,
    colour_style: Tensor,
    colour_weight: Tensor,
    colour_bias: Tensor,
    skip: Tensor | None,
) -> tuple[Tensor | None, Tensor]:
    """``a = leaky_relu(x * gain + noise + bias, 0.2)`` -> (``a * next_style``, picture).

    The picture ``(N, 3, H, W)``, float32, is ``a * colour_style`` times ``colour_weight`` plus
    ``colour_bias`` plus ``skip``, the picture so far, doubled.

    Args:
        x: overwritten by the first result.
        gain, next_style, colour_style: ``(N, C)``, the styles with equal strides between rows;
            ``next_style`` None saves writing the map.
        bias: ``(C,)``.
        noise: ``(N or 1, H, W)``.
        colour_weight, colour_bias: ``(3, C)`` and ``(3,)``.
        skip: ``(N, 3, H/2, W/2)``.
    """
    _check_map(x)
    count, height, width, channels = x.shape
    picture = x.new_empty(count, 3, height, width, dtype=torch.float32)
    block_c = min(triton.next_power_of_2(channels), _WIDEST)
    block_p = _TILE // block_c
    with _device(x):
        _finish_kernel[(triton.cdiv(height * width, block_p), count)](
            x,
            x,
            _vectors(gain),
            bias,
            noise,
            next_style,
            _vectors(colour_style),
            colour_weight,
            colour_bias,
            skip,
            picture,
            height,
            width,
            _style_stride(next_style, colour_style),
            gain.stride(0),
            _shared_stride(noise),
            CHANNELS=channels,
            BLOCK_P=block_p,
            BLOCK_C=block_c,
        )
    return (None if next_style is None else x), picture


def up_finish(
    x: Tensor,
    *,
    gain: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    next_style: Tensor,
) -> Tensor:
    """``leaky_relu(filter(x) * gain + noise + bias, 0.2) * next_style``.

    Args:
        x: ``(N, H + 1, W + 1, C)``, what a transposed 3x3 convolution of stride 2 gives.
        gain, bias, noise, next_style: as of :func:`finish`.

    Returns:
        ``(N, H, W, C)``.
    """
    _check_map(x)
    count, height, width, channels = x.shape[0], x.shape[1] - 1, x.shape[2] - 1, x.shape[3]
    out = x.new_empty(count, height, width, channels)
    block_c = min(triton.next_power_of_2(channels), _UP_WIDEST)
    block_x = min(triton.next_power_of_2(width), _UP_TILE // block_c)
    tiles = triton.cdiv(width, block_x) * triton.cdiv(channels, block_c)
    with _device(x):
        _up_finish_kernel[(tiles, triton.cdiv(height, _UP_ROWS), count)](
            x,
            out,
            _vectors(gain),
            bias,
            noise,
            _vectors(next_style),
            height,
            width,
            next_style.stride(0),
            gain.stride(0),
            _shared_stride(noise),
            CHANNELS=channels,
            ROWS=_UP_ROWS,
            BLOCK_X=block_x,
            BLOCK_C=block_c,
        )
    return out


def _device(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, wherever its arguments are."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _check_map(x: Tensor) -> None:
    if x.dim() != 4 or x.dtype not in _MAPS or not x.is_contiguous():
        raise ValueError(
            f"a map is {x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}, but must be "
            "(N, H, W, C), contiguous, in float32, bfloat16 or float16"
        )


def _vectors(x: Tensor) -> Tensor:
    """``x`` if it is ``(N, C)``, float32 and dense along C; rows may lie apart."""
    if x.dim() != 2 or x.dtype != torch.float32 or x.stride(1) != 1:
        raise ValueError(
            f"vectors are {x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}, but must "
            "be (N, C), float32 and dense along C"
        )
    return x


def _style_stride(next_style: Tensor | None, colour_style: Tensor) -> int:
    stride: int = colour_style.stride(0)
    if next_style is not None and _vectors(next_style).stride(0) != stride:
        raise ValueError("next_style and colour_style must have equal strides between rows")
    return stride


def _shared_stride(x: Tensor | None) -> int:
    """Between images; 0 where one serves all, or where there is none."""
    return 0 if x is None or len(x) == 1 else x.stride(0)
