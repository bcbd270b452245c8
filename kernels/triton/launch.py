"""Launches of the kernels on torch tensors: which tile, which variant, on the current stream.

All tensors are on one device and contiguous, unless a stride is read below. Updates are in place.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lreorg_fast.kernels.triton.coupling_kernels import add_kernel, scale_shift_kernel
from lreorg_fast.kernels.triton.hidden_kernels import hidden_gradient_kernel, hidden_kernel

# What triton.jit decided when the kernels were imported.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"

HIDDEN_LAYERS = 4
# A hidden layer of more units does not fit the registers of the fused chain: see _wide_layers.
MOST_FUSED_GROWTH = 64
SMALLEST_TILE = 16

OPERANDS = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}


class Tile(NamedTuple):
    """One program's part of a product, and how it is compiled.

    Attributes:
        rows, columns: of the result; two results of this size for scale and shift.
        depth: in elements of 16 bits; half as many of float32.
        warps, stages: of the program, and of its ring of loaded tiles.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


# Largest first; the first that gives every multiprocessor a tile is taken, else the last. Shared
# memory: at most 96 KB, which sm_86, sm_89 and sm_120 have too.
ADD_TILES = (Tile(128, 128, 64, 8, 3), Tile(64, 64, 64, 4, 3), Tile(32, 32, 64, 4, 3))
SCALE_SHIFT_TILES = (Tile(128, 64, 64, 8, 3), Tile(64, 32, 64, 4, 3), Tile(32, 32, 64, 4, 3))
HIDDEN_TILES = (Tile(64, 0, 64, 4, 3), Tile(32, 0, 64, 4, 3))


def add(
    target: Tensor,
    copy: Tensor | None,
    source: Tensor,
    direct: Tensor,
    table: Tensor | None = None,
    index: Tensor | None = None,
    hidden: Tensor | None = None,
    output: Tensor | None = None,
    sign: float = 1.0,
) -> None:
    """target += sign (source @ direct^T + table[index] + hidden @ output^T).

    Args:
        target: (rows, width) float32, changed.
        copy: receives target rounded to its dtype, or None.
        source: (rows, depth), float32, bfloat16 or float16: what the product reads.
        direct: (width, depth), any strides.
        table: (width,), or (keywords, width) with index; rows of any stride; float32; or None.
        index: (rows,) int32, the row of table that each token takes.
        hidden: (rows, hidden depth), like source; with output (width, hidden depth), any strides.
    """
    rows, width = target.shape
    tile = _tile(ADD_TILES, rows, width, 1, source)
    second, second_weights = (source, direct) if hidden is None else (hidden, output)
    assert second_weights is not None
    _launch(
        add_kernel,
        (_tiles(rows, tile.rows), _tiles(width, tile.columns)),
        tile,
        source,
        {
            "target": target,
            "copy": target if copy is None else copy,
            "source": source,
            "direct": direct,
            "direct_stride": direct.stride(0),
            "direct_depth_stride": direct.stride(1),
            "table": target if table is None else table,
            "table_stride": 0 if table is None else table.stride(0),
            "index": target if index is None else index,
            "hidden": second,
            "output": second_weights,
            "output_stride": second_weights.stride(0),
            "output_depth_stride": second_weights.stride(1),
            "rows_total": rows,
            "width": width,
            "depth": source.shape[1],
            "hidden_depth": second.shape[1],
            "SIGN": sign,
            "TABLE": table is not None,
            "INDEXED": index is not None,
            "HIDDEN": hidden is not None,
            "COPY": copy is not None,
            "EVEN": _even(source.shape[1], source, tile),
            "HIDDEN_EVEN": _even(second.shape[1], source, tile),
            "BLOCK_M": tile.rows,
            "BLOCK_N": tile.columns,
        },
    )


def scale_shift(
    target: Tensor,
    copy: Tensor | None,
    source: Tensor,
    direct: Tensor,
    table: Tensor,
    index: Tensor | None,
    hidden: Tensor | None,
    output: Tensor | None,
    clamp: float,
    inverse: bool,
    gradient: Tensor | None = None,
    output_gradient: Tensor | None = None,
) -> None:
    """target = target e(a) + b, or its inverse; (a, b)_s = source @ direct_s^T + ...

    Args:
        target, copy: as for :func:`add`.
        source: (rows, width).
        direct: (2, width, width), contiguous.
        table: (2, width), or (keywords, 2, width) with index; (2, width) contiguous.
        hidden: (2, rows, hidden depth); with output (2, width, hidden depth), contiguous.
        inverse: target = (target - b) e(-a).
        gradient: given, the update undoes a coupling: (rows, width) float32, the gradient with
            respect to what target was, becomes that with respect to what target becomes.
        output_gradient: (2, rows, width) receives the gradients of a and b.
    """
    rows, width = target.shape
    tile = _tile(SCALE_SHIFT_TILES, rows, width, 1, source)
    _launch(
        scale_shift_kernel,
        (_tiles(rows, tile.rows), _tiles(width, tile.columns)),
        tile,
        source,
        {
            "target": target,
            "copy": target if copy is None else copy,
            "source": source,
            "direct": direct,
            "table": table,
            "table_stride": table.stride(0),
            "index": target if index is None else index,
            "hidden": source if hidden is None else hidden,
            "output": direct if output is None else output,
            "gradient": target if gradient is None else gradient,
            "output_gradient": target if output_gradient is None else output_gradient,
            "rows_total": rows,
            "width": width,
            "hidden_depth": width if hidden is None else hidden.shape[2],
            "clamp": clamp,
            "INVERSE": inverse,
            "GRADIENT": gradient is not None,
            "INDEXED": index is not None,
            "HIDDEN": hidden is not None,
            "COPY": copy is not None,
            "EVEN": _even(width, source, tile),
            "HIDDEN_EVEN": hidden is not None and _even(hidden.shape[2], source, tile),
            "BLOCK_M": tile.rows,
            "BLOCK_N": tile.columns,
        },
    )


def hidden_layers(
    source: Tensor, weights: Tensor, bias: Tensor, chain: Tensor, slope: float
) -> Tensor:
    """The hidden layers (subnets, rows, 4 growth) of dense subnets, in source's dtype.

    Args:
        source: (rows, dim).
        weights: (subnets, 4 growth, dim), bias (subnets, 4 growth) float32.
        chain: (subnets, 4 growth, 4 growth), of which the blocks below the diagonal are read.
        slope: of the activation below zero.
    """
    subnets, width, dim = weights.shape
    growth = width // HIDDEN_LAYERS
    hidden = source.new_empty(subnets, len(source), width)
    if growth > MOST_FUSED_GROWTH:
        for out, *parts in zip(hidden, weights, bias, chain, strict=True):
            _wide_layers(out, source, *parts, slope=slope)
        return hidden
    _launch_chain(
        hidden_kernel,
        source,
        growth,
        subnets,
        slope,
        {
            "hidden": hidden,
            "source": source,
            "weights": weights,
            "bias": bias,
            "chain": chain,
            "dim": dim,
        },
    )
    return hidden


def hidden_gradient(
    output_gradient: Tensor, output: Tensor, hidden: Tensor, chain: Tensor, slope: float
) -> Tensor:
    """Gradients (subnets, rows, 4 growth) of the hidden layers before their activations.

    Args:
        output_gradient: (subnets, rows, dim), of the subnets' results.
        output: (subnets, dim, 4 growth).
        hidden: as :func:`hidden_layers` returned it, with its chain and slope.
    """
    subnets, _rows, width = hidden.shape
    growth = width // HIDDEN_LAYERS
    gradient = torch.empty_like(hidden)
    if growth > MOST_FUSED_GROWTH:
        for out, *parts in zip(gradient, output_gradient, output, hidden, chain, strict=True):
            _wide_gradients(out, *parts, slope=slope)
        return gradient
    _launch_chain(
        hidden_gradient_kernel,
        output_gradient[0],
        growth,
        subnets,
        slope,
        {
            "gradient": gradient,
            "output_gradient": output_gradient,
            "output": output,
            "hidden": hidden,
            "chain": chain,
            "dim": output.shape[1],
        },
    )
    return gradient


def _wide_layers(
    out: Tensor, source: Tensor, weights: Tensor, bias: Tensor, chain: Tensor, slope: float
) -> None:
    """One subnet's hidden layers, layer by layer."""
    growth = len(weights) // HIDDEN_LAYERS
    for i in range(HIDDEN_LAYERS):
        layer = slice(i * growth, (i + 1) * growth)
        z = bias[layer].expand(len(source), growth).contiguous()
        earlier = out[:, : layer.start].contiguous() if i else None
        add(z, None, source, weights[layer], None, None, earlier, chain[layer, : layer.start])
        out[:, layer] = torch.nn.functional.leaky_relu(z, slope)


def _wide_gradients(
    out: Tensor,
    output_gradient: Tensor,
    output: Tensor,
    hidden: Tensor,
    chain: Tensor,
    slope: float,
) -> None:
    """One subnet's gradients, the last layer first."""
    growth = hidden.shape[1] // HIDDEN_LAYERS
    for i in reversed(range(HIDDEN_LAYERS)):
        layer = slice(i * growth, (i + 1) * growth)
        g = output_gradient.new_zeros(len(hidden), growth, dtype=torch.float32)
        later = out[:, layer.stop :].contiguous() if i < HIDDEN_LAYERS - 1 else None
        chained = chain[layer.stop :, layer].T
        add(g, None, output_gradient, output[:, layer].T, None, None, later, chained)
        out[:, layer] = torch.where(hidden[:, layer] > 0, g, g * slope)


def _launch_chain(
    kernel: Any,
    source: Tensor,
    growth: int,
    subnets: int,
    slope: float,
    arguments: dict[str, Any],
) -> None:
    rows, dim = source.shape
    tile = _tile(HIDDEN_TILES, rows, 1, subnets, source)
    arguments |= {
        "rows_total": rows,
        "growth": growth,
        "SLOPE": slope,
        "GROWTH": padded_growth(growth),
        "EVEN": _even(dim, source, tile),
        "BLOCK_M": tile.rows,
    }
    _launch(kernel, (_tiles(rows, tile.rows), subnets), tile, source, arguments)


def _launch(
    kernel: Any, grid: tuple[int, int], tile: Tile, source: Tensor, arguments: dict[str, Any]
) -> None:
    if not grid[0]:
        return
    operand = OPERANDS[source.dtype]
    # The interpreter keeps bfloat16 as integers and would multiply those; the values are rounded.
    arguments |= {
        "OPERAND": tl.float32 if INTERPRETED else operand,
        "PRECISION": precision(source.dtype),
        "BLOCK_K": _depth(source, tile),
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
    with torch.cuda.device_of(source):
        kernel[grid](**arguments)


def padded_growth(growth: int) -> int:
    """What the fused chain rounds a hidden layer's units up to."""
    return max(SMALLEST_TILE, int(triton.next_power_of_2(growth)))


def precision(dtype: torch.dtype) -> str:
    """How tensor cores multiply: float32 as three products of its tf32 parts, almost exactly."""
    return "tf32x3" if dtype == torch.float32 else "ieee"


def _tile(tiles: tuple[Tile, ...], rows: int, width: int, layers: int, source: Tensor) -> Tile:
    wanted = _multiprocessors(source.device)
    for tile in tiles:
        columns = _tiles(width, tile.columns) if tile.columns else 1
        if _tiles(rows, tile.rows) * columns * layers >= wanted:
            return tile
    return tiles[-1]


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _tiles(size: int, tile: int) -> int:
    return -(-size // tile)


def _depth(source: Tensor, tile: Tile) -> int:
    return tile.depth * 2 // source.element_size()


def _even(depth: int, source: Tensor, tile: Tile) -> bool:
    return depth % _depth(source, tile) == 0
