"""Couplings: tiles of products with the update of a stream fused behind them.

A coupling is ``y_s = x @ direct_s^T + table_s (+ hidden_s @ output_s^T)`` for one subnet (add) or
two (scale, shift), and then one update of the other stream. A tile of y needs nothing of other
tiles and the update touches nothing that the product reads, so the streams change in place and a
launch fills the device with tiles of rows x columns.

Streams are float32; a stream's rounded copy is written by the launch that changes the stream.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lreorg_fast.kernels.triton.products import add_product, load_left, load_right


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
