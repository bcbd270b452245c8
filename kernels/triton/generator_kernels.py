"""What the passes of ``generator.py`` run on the device; shapes are described there.

Of triton.language only builtins are used: its own compiled helpers (sum, zeros, cdiv) do not run
interpreted where triton was imported before ``TRITON_INTERPRET`` was set.
"""

from __future__ import annotations

import triton
import triton.language as tl

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
def _clamped(x, limit):
    """What is not a number stays so, because it fails both comparisons."""
    x = tl.where(x > limit, limit, x)
    return tl.where(x < -limit, -limit, x)


@triton.jit
def product_kernel(
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
    """One tile of one product of a group, for one row of ``x``; see ``GroupedProduct``.

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
def modulate_kernel(
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
def _paint(colour, value, bias, limit, skip, picture, p, inside, height, width, image):
    """Store one of the three planes of a picture."""
    value += tl.load(bias + colour)
    if limit is not None:
        value = _clamped(value, limit)
    plane = (image * 3 + colour) * height * width
    if skip is not None:
        y = p // width
        x = p % width
        value += _doubled(skip + plane // 4, y, x, height // 2, width // 2, inside)
    tl.store(picture + plane + p, value, mask=inside)


@triton.jit
def finish_kernel(
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
    limit,
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
        if limit is not None:
            value = _clamped(value, limit)
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
    _paint(0, red, colour_bias, limit, skip, picture, p, inside, height, width, n)
    _paint(1, green, colour_bias, limit, skip, picture, p, inside, height, width, n)
    _paint(2, blue, colour_bias, limit, skip, picture, p, inside, height, width, n)


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
def up_finish_kernel(
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
    limit,
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
            value = _leaky_relu(value)
            if limit is not None:
                value = _clamped(value, limit)
            value *= style
            mask = inside[:, None] & real[None, :]
            tl.store(target + at[:, None] * CHANNELS, value.to(out.dtype.element_ty), mask=mask)
        first = second
        second = third
        third = newest
