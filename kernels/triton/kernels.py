"""The Triton kernels: tiles of products with the coupling that follows fused behind them.

A coupling is ``y_s = x @ direct_s^T + table_s (+ hidden_s @ output_s^T)`` for one subnet (add) or
two (scale, shift), and then one update of the other stream. A tile of y needs nothing of other
tiles and the update touches nothing that the product reads, so the streams change in place and a
launch fills the device with tiles of rows x columns.

Streams and sums are float32. What products read (``OPERAND``) is float32, bfloat16 or float16; a
stream's rounded copy is written by the launch that changes the stream. Only builtins of
triton.language are used, none of its own compiled helpers: kernels must run interpreted even
where triton was imported before TRITON_INTERPRET was set.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_left(left, stride, rows, row_mask, inner, start, depth, EVEN: tl.constexpr):
    """Tile (rows, inner) of a row-major matrix, zero outside of it."""
    at = left + rows[:, None] * stride + (start + inner)[None, :]
    mask = row_mask[:, None]
    if not EVEN:
        mask = mask & (start + inner < depth)[None, :]
    return tl.load(at, mask=mask, other=0.0)


@triton.jit
def load_right(
    right, stride, depth_stride, columns, column_mask, inner, start, depth, EVEN: tl.constexpr
):
    """Tile (inner, columns) of a transposed matrix with rows ``columns``, zero outside of it."""
    at = right + columns[None, :] * stride + (start + inner).to(tl.int64)[:, None] * depth_stride
    mask = column_mask[None, :]
    if not EVEN:
        mask = mask & (start + inner < depth)[:, None]
    return tl.load(at, mask=mask, other=0.0)


@triton.jit
def add_product(
    total,
    left,
    left_stride,
    right,
    right_stride,
    depth_stride,
    rows,
    row_mask,
    columns,
    column_mask,
    depth,
    BLOCK_K: tl.constexpr,
    EVEN: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """total + left[rows] @ right[columns]^T."""
    inner = tl.arange(0, BLOCK_K)
    for start in range(0, depth, BLOCK_K):
        a = load_left(left, left_stride, rows, row_mask, inner, start, depth, EVEN)
        b = load_right(
            right, right_stride, depth_stride, columns, column_mask, inner, start, depth, EVEN
        )
        total = tl.dot(a.to(OPERAND), b.to(OPERAND), total, input_precision=PRECISION)
    return total


@triton.jit
def table_row(
    table,
    table_stride,
    index,
    rows,
    row_mask,
    columns,
    column_mask,
    INDEXED: tl.constexpr,
):
    """What is added to a product: one row for all tokens, or a row of the table for each."""
    if INDEXED:
        which = tl.load(index + rows, mask=row_mask, other=0).to(tl.int64)
        mask = row_mask[:, None] & column_mask[None, :]
        at = table + which[:, None] * table_stride + columns[None, :]
    else:
        mask = column_mask[None, :]
        at = table + columns[None, :]
    return tl.load(at, mask=mask, other=0.0)


@triton.jit
def add_kernel(
    target,
    copy,
    source,
    direct,
    direct_stride,
    direct_depth_stride,
    table,
    table_stride,
    index,
    hidden,
    output,
    output_stride,
    output_depth_stride,
    rows_total,
    width,
    depth,
    hidden_depth,
    SIGN: tl.constexpr,
    TABLE: tl.constexpr,
    INDEXED: tl.constexpr,
    HIDDEN: tl.constexpr,
    COPY: tl.constexpr,
    EVEN: tl.constexpr,
    HIDDEN_EVEN: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """target += SIGN (source @ direct^T + table + hidden @ output^T), in place.

    target (rows, width) float32; source (rows, depth); hidden (rows, hidden_depth). Grid: tiles of
    rows, tiles of columns.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < rows_total
    column_mask = columns < width
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    total = add_product(
        total,
        source,
        depth,
        direct,
        direct_stride,
        direct_depth_stride,
        rows,
        row_mask,
        columns,
        column_mask,
        depth,
        BLOCK_K,
        EVEN,
        OPERAND,
        PRECISION,
    )
    if HIDDEN:
        total = add_product(
            total,
            hidden,
            hidden_depth,
            output,
            output_stride,
            output_depth_stride,
            rows,
            row_mask,
            columns,
            column_mask,
            hidden_depth,
            BLOCK_K,
            HIDDEN_EVEN,
            OPERAND,
            PRECISION,
        )
    if TABLE:
        total += table_row(
            table, table_stride, index, rows, row_mask, columns, column_mask, INDEXED
        )
    mask = row_mask[:, None] & column_mask[None, :]
    at = rows[:, None] * width + columns[None, :]
    value = tl.load(target + at, mask=mask, other=0.0) + SIGN * total
    tl.store(target + at, value, mask=mask)
    if COPY:
        tl.store(copy + at, value.to(copy.dtype.element_ty), mask=mask)


@triton.jit
def scale_shift_kernel(
    target,
    copy,
    source,
    direct,
    table,
    table_stride,
    index,
    hidden,
    output,
    gradient,
    output_gradient,
    rows_total,
    width,
    hidden_depth,
    clamp,
    INVERSE: tl.constexpr,
    GRADIENT: tl.constexpr,
    INDEXED: tl.constexpr,
    HIDDEN: tl.constexpr,
    COPY: tl.constexpr,
    EVEN: tl.constexpr,
    HIDDEN_EVEN: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """target = target e(a) + b, or (target - b) e(-a), where (a, b) are two subnets of source.

    target, source (rows, width); direct (2, width, width), output (2, width, hidden_depth),
    table (keywords, 2, width) with ``table_stride`` between keywords, hidden (2, rows,
    hidden_depth). With GRADIENT the update undoes a coupling: ``gradient``, with respect to what
    target was, becomes that of what target becomes, and output_gradient (2, rows, width) receives
    the gradients of a and b. Grid: tiles of rows, tiles of columns.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < rows_total
    column_mask = columns < width
    a = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    b = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    one = tl.full((), 1, tl.int64)  # sizes are 32-bit or, where 1, constants; offsets are 64-bit
    shift_direct = direct + one * width * width
    inner = tl.arange(0, BLOCK_K)
    # One loop for both: a tile of the source is read once.
    for start in range(0, width, BLOCK_K):
        x = load_left(source, width, rows, row_mask, inner, start, width, EVEN).to(OPERAND)
        scale_weights = load_right(
            direct, width, 1, columns, column_mask, inner, start, width, EVEN
        )
        shift_weights = load_right(
            shift_direct, width, 1, columns, column_mask, inner, start, width, EVEN
        )
        a = tl.dot(x, scale_weights.to(OPERAND), a, input_precision=PRECISION)
        b = tl.dot(x, shift_weights.to(OPERAND), b, input_precision=PRECISION)
    if HIDDEN:
        a = add_product(
            a,
            hidden,
            hidden_depth,
            output,
            hidden_depth,
            1,
            rows,
            row_mask,
            columns,
            column_mask,
            hidden_depth,
            BLOCK_K,
            HIDDEN_EVEN,
            OPERAND,
            PRECISION,
        )
        b = add_product(
            b,
            hidden + one * rows_total * hidden_depth,
            hidden_depth,
            output + one * width * hidden_depth,
            hidden_depth,
            1,
            rows,
            row_mask,
            columns,
            column_mask,
            hidden_depth,
            BLOCK_K,
            HIDDEN_EVEN,
            OPERAND,
            PRECISION,
        )
    a += table_row(table, table_stride, index, rows, row_mask, columns, column_mask, INDEXED)
    b += table_row(
        table + width, table_stride, index, rows, row_mask, columns, column_mask, INDEXED
    )
    # 2 sigmoid(a) - 1, exact at both ends: exp(-a) is 0 or infinite there.
    bounded = 2.0 / (1.0 + tl.exp(-a)) - 1.0
    log_scale = clamp * bounded
    mask = row_mask[:, None] & column_mask[None, :]
    at = rows[:, None] * width + columns[None, :]
    before = tl.load(target + at, mask=mask, other=0.0)
    after = (before - b) * tl.exp(-log_scale) if INVERSE else before * tl.exp(log_scale) + b
    tl.store(target + at, after, mask=mask)
    if COPY:
        tl.store(copy + at, after.to(copy.dtype.element_ty), mask=mask)
    if GRADIENT:
        slope = 0.5 * clamp * (1.0 - bounded * bounded)
        upper = tl.load(gradient + at, mask=mask, other=0.0)
        if INVERSE:
            of_shift = upper
            of_scale = upper * (before - b) * slope
            lower = upper * tl.exp(log_scale)
        else:
            lower = upper * tl.exp(-log_scale)
            of_shift = -lower
            of_scale = -upper * before * slope
        tl.store(gradient + at, lower, mask=mask)
        kind = output_gradient.dtype.element_ty
        tl.store(output_gradient + at, of_scale.to(kind), mask=mask)
        shift_at = at + one * rows_total * width
        tl.store(output_gradient + shift_at, of_shift.to(kind), mask=mask)


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
