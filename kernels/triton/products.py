"""Tiles of products, of which the kernels are made.

Sums are float32. What products read (``OPERAND``) is float32, bfloat16 or float16. Only builtins of
triton.language are used, here and in the kernels, none of its own compiled helpers: they must run
interpreted even where triton was imported before TRITON_INTERPRET was set.
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
