"""The hidden layers of dense subnets and their gradients: a chain of four, in registers."""

from __future__ import annotations

import triton
import triton.language as tl

from lreorg_fast.kernels.triton.products import load_left, load_right


@triton.jit
def four_products(
    left,
    right,
    right_stride,
    depth_stride,
    rows,
    row_mask,
    growth,
    depth,
    GROWTH: tl.constexpr,
    EVEN: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """left[rows] @ right[i growth + (0 .. growth)]^T for the four hidden layers i."""
    units = tl.arange(0, GROWTH)
    unit_mask = units < growth
    z0 = tl.full((BLOCK_M, GROWTH), 0.0, tl.float32)
    z1 = tl.full((BLOCK_M, GROWTH), 0.0, tl.float32)
    z2 = tl.full((BLOCK_M, GROWTH), 0.0, tl.float32)
    z3 = tl.full((BLOCK_M, GROWTH), 0.0, tl.float32)
    inner = tl.arange(0, BLOCK_K)
    columns = units.to(tl.int64)
    for start in range(0, depth, BLOCK_K):
        x = load_left(left, depth, rows, row_mask, inner, start, depth, EVEN).to(OPERAND)
        w0 = load_right(
            right, right_stride, depth_stride, columns, unit_mask, inner, start, depth, EVEN
        )
        w1 = load_right(
            right,
            right_stride,
            depth_stride,
            columns + growth,
            unit_mask,
            inner,
            start,
            depth,
            EVEN,
        )
        w2 = load_right(
            right,
            right_stride,
            depth_stride,
            columns + 2 * growth,
            unit_mask,
            inner,
            start,
            depth,
            EVEN,
        )
        w3 = load_right(
            right,
            right_stride,
            depth_stride,
            columns + 3 * growth,
            unit_mask,
            inner,
            start,
            depth,
            EVEN,
        )
        z0 = tl.dot(x, w0.to(OPERAND), z0, input_precision=PRECISION)
        z1 = tl.dot(x, w1.to(OPERAND), z1, input_precision=PRECISION)
        z2 = tl.dot(x, w2.to(OPERAND), z2, input_precision=PRECISION)
        z3 = tl.dot(x, w3.to(OPERAND), z3, input_precision=PRECISION)
    return z0, z1, z2, z3


@triton.jit
def chain_product(
    total,
    values,
    chain,
    growth,
    OF: tl.constexpr,
    FROM: tl.constexpr,
    GROWTH: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """total + values @ L^T, or values @ L if TRANSPOSED, with L the part of layer OF that reads
    layer FROM: chain (4 growth, 4 growth)."""
    units = tl.arange(0, GROWTH)
    unit_mask = units < growth
    width = 4 * growth
    if TRANSPOSED:
        at = (OF * growth + units)[:, None] * width + (FROM * growth + units)[None, :]
    else:
        at = (OF * growth + units)[None, :] * width + (FROM * growth + units)[:, None]
    mask = unit_mask[:, None] & unit_mask[None, :]
    part = tl.load(chain + at, mask=mask, other=0.0)
    return tl.dot(values.to(OPERAND), part.to(OPERAND), total, input_precision=PRECISION)


@triton.jit
def leaky(z, bias, layer, growth, units, unit_mask, SLOPE: tl.constexpr, STORED: tl.constexpr):
    """The layer's activation, rounded as it is stored, so that all who read it see the same."""
    z += tl.load(bias + layer * growth + units, mask=unit_mask, other=0.0)[None, :]
    return tl.where(z > 0, z, z * SLOPE).to(STORED)


@triton.jit
def hidden_kernel(
    hidden,
    source,
    weights,
    bias,
    chain,
    rows_total,
    dim,
    growth,
    SLOPE: tl.constexpr,
    GROWTH: tl.constexpr,
    EVEN: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The four hidden layers of the dense subnets, each reading the source and those before it.

    hidden (subnets, rows, 4 growth) out; source (rows, dim); weights (subnets, 4 growth, dim);
    bias (subnets, 4 growth); chain (subnets, 4 growth, 4 growth), blocks below the diagonal.
    GROWTH is growth rounded up to a power of two. Grid: tiles of rows, subnets.
    """
    subnet = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_mask = rows < rows_total
    width = 4 * growth
    weights += subnet * width * dim
    bias += subnet * width
    chain += subnet * width * width
    hidden += subnet * rows_total * width
    units = tl.arange(0, GROWTH)
    unit_mask = units < growth
    STORED: tl.constexpr = hidden.dtype.element_ty
    z0, z1, z2, z3 = four_products(
        source,
        weights,
        dim,
        1,
        rows,
        row_mask,
        growth,
        dim,
        GROWTH,
        EVEN,
        OPERAND,
        PRECISION,
        BLOCK_M,
        BLOCK_K,
    )
    h0 = leaky(z0, bias, 0, growth, units, unit_mask, SLOPE, STORED)
    z1 = chain_product(z1, h0, chain, growth, 1, 0, GROWTH, False, OPERAND, PRECISION)
    h1 = leaky(z1, bias, 1, growth, units, unit_mask, SLOPE, STORED)
    z2 = chain_product(z2, h0, chain, growth, 2, 0, GROWTH, False, OPERAND, PRECISION)
    z2 = chain_product(z2, h1, chain, growth, 2, 1, GROWTH, False, OPERAND, PRECISION)
    h2 = leaky(z2, bias, 2, growth, units, unit_mask, SLOPE, STORED)
    z3 = chain_product(z3, h0, chain, growth, 3, 0, GROWTH, False, OPERAND, PRECISION)
    z3 = chain_product(z3, h1, chain, growth, 3, 1, GROWTH, False, OPERAND, PRECISION)
    z3 = chain_product(z3, h2, chain, growth, 3, 2, GROWTH, False, OPERAND, PRECISION)
    h3 = leaky(z3, bias, 3, growth, units, unit_mask, SLOPE, STORED)
    mask = row_mask[:, None] & unit_mask[None, :]
    at = rows[:, None] * width + units[None, :]
    tl.store(hidden + at, h0, mask=mask)
    tl.store(hidden + at + growth, h1, mask=mask)
    tl.store(hidden + at + 2 * growth, h2, mask=mask)
    tl.store(hidden + at + 3 * growth, h3, mask=mask)


@triton.jit
def leaky_gradient(gradient, at, hidden, mask, SLOPE: tl.constexpr, STORED: tl.constexpr):
    """Through the activation, whose sign is that of its argument."""
    value = tl.load(hidden + at, mask=mask, other=0.0).to(tl.float32)
    return tl.where(value > 0, gradient, gradient * SLOPE).to(STORED)


@triton.jit
def hidden_gradient_kernel(
    gradient,
    output_gradient,
    output,
    hidden,
    chain,
    rows_total,
    dim,
    growth,
    SLOPE: tl.constexpr,
    GROWTH: tl.constexpr,
    EVEN: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Gradients of the hidden layers before their activations, the last layer first.

    gradient (subnets, rows, 4 growth) out; output_gradient (subnets, rows, dim); output (subnets,
    dim, 4 growth); hidden and chain as for :func:`hidden_kernel`. Grid: tiles of rows, subnets.
    """
    subnet = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_mask = rows < rows_total
    width = 4 * growth
    output_gradient += subnet * rows_total * dim
    output += subnet * dim * width
    chain += subnet * width * width
    hidden += subnet * rows_total * width
    gradient += subnet * rows_total * width
    units = tl.arange(0, GROWTH)
    unit_mask = units < growth
    STORED: tl.constexpr = gradient.dtype.element_ty
    g0, g1, g2, g3 = four_products(
        output_gradient,
        output,
        1,
        width,
        rows,
        row_mask,
        growth,
        dim,
        GROWTH,
        EVEN,
        OPERAND,
        PRECISION,
        BLOCK_M,
        BLOCK_K,
    )
    mask = row_mask[:, None] & unit_mask[None, :]
    at = rows[:, None] * width + units[None, :]
    d3 = leaky_gradient(g3, at + 3 * growth, hidden, mask, SLOPE, STORED)
    g2 = chain_product(g2, d3, chain, growth, 3, 2, GROWTH, True, OPERAND, PRECISION)
    d2 = leaky_gradient(g2, at + 2 * growth, hidden, mask, SLOPE, STORED)
    g1 = chain_product(g1, d3, chain, growth, 3, 1, GROWTH, True, OPERAND, PRECISION)
    g1 = chain_product(g1, d2, chain, growth, 2, 1, GROWTH, True, OPERAND, PRECISION)
    d1 = leaky_gradient(g1, at + growth, hidden, mask, SLOPE, STORED)
    g0 = chain_product(g0, d3, chain, growth, 3, 0, GROWTH, True, OPERAND, PRECISION)
    g0 = chain_product(g0, d2, chain, growth, 2, 0, GROWTH, True, OPERAND, PRECISION)
    g0 = chain_product(g0, d1, chain, growth, 1, 0, GROWTH, True, OPERAND, PRECISION)
    d0 = leaky_gradient(g0, at, hidden, mask, SLOPE, STORED)
    tl.store(gradient + at, d0, mask=mask)
    tl.store(gradient + at + growth, d1, mask=mask)
    tl.store(gradient + at + 2 * growth, d2, mask=mask)
    tl.store(gradient + at + 3 * growth, d3, mask=mask)
