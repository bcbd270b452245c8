"""Folded weights in the order in which the CUDA latency kernel reads them.

The format is described in kernels/cuda/layout.h and depends on how many thread blocks share a tile
of tokens (the *group*): each has its outputs' weights as one contiguous stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.cdfnet.folding import Array, FoldedBlock, FoldedCDFNet, FoldedDense

Bits = NDArray[np.uint16]

TILE = 16
PANEL_TILES = 4
HIDDEN_LAYERS = 4

_BFLOAT16_BITS = 8
_BFLOAT16_LEAST_EXPONENT = -125  # of frexp, of the smallest normal number


def pack(folded: FoldedCDFNet, dtype: str, group: int) -> NDArray[np.uint8]:
    """Round and order the weights.

    Args:
        folded: the folded network.
        dtype: "bfloat16", "float16" or "float32" (three bfloat16 whose sum it is).
        group: thread blocks that share a tile of tokens; what ``lreorg_cuda_group`` says.

    Returns:
        The blob, (bytes,), little-endian: weights, then biases in float32.

    Raises:
        ConfigError: the dtype is unknown, or cannot hold a weight.
    """
    if dtype not in _PLANES:
        raise ConfigError(f"dtype is {dtype!r}; the CUDA kernel has {', '.join(_PLANES)}.")
    planes = _PLANES[dtype]
    growth = folded.config.growth
    streams: list[list[Bits]] = [[] for _ in range(group)]
    biases = []
    for block in folded.blocks:
        for phase in _phases(block, growth, planes, group):
            for rank, stream in enumerate(streams):
                stream += phase(rank)
        biases.append(_biases(block, growth, group))
    weights = np.concatenate([part.reshape(-1) for stream in streams for part in stream])
    tail = np.concatenate(biases).astype("<f4")
    return np.concatenate([weights.astype("<u2").view(np.uint8), tail.view(np.uint8)])


_Phase = Callable[[int], list[Bits]]


def _phases(
    block: FoldedBlock,
    growth: int,
    planes: Callable[[Array], list[Bits]],
    group: int,
) -> Iterator[_Phase]:
    """Per phase a function from a rank to its sections' tiles."""

    def tiles(matrix: Array) -> Bits:
        return _tiles(matrix, planes)

    def condition(matrices: Sequence[Array]) -> _Phase:
        direct = _interleaved([tiles(matrix) for matrix in matrices], group)
        return lambda rank: _panels(direct[rank])

    def dense(subnets: FoldedDense) -> _Phase:
        hidden, direct, chain, output = _dense_parts(subnets, growth)
        of_rank = _shared_out(tiles(np.concatenate(hidden)), group)
        directs = _interleaved([tiles(matrix) for matrix in direct], group)
        outputs = _interleaved([tiles(matrix) for matrix in output], group)
        chain_tiles = [tiles(matrix).reshape(-1) for matrix in chain]

        def sections(rank: int) -> list[Bits]:
            parts = _panels(of_rank[rank])
            panels = zip(_panels(directs[rank]), _panels(outputs[rank]), strict=True)
            for i, (of_inputs, of_hidden) in enumerate(panels):
                parts += [of_inputs, *(chain_tiles if i == 0 else ()), of_hidden]
            return parts

        return sections

    yield condition([block.condition_add])
    yield condition(np.split(block.condition_scale_shift, 2))
    yield dense(block.dense_add)
    yield dense(block.dense_scale_shift)


def _dense_parts(
    dense: FoldedDense, growth: int
) -> tuple[list[Array], list[Array], list[Array], list[Array]]:
    """(hidden, direct, chain, output) matrices, hidden layers padded to whole tiles one by one."""
    hidden, direct = [], []
    for part in np.split(dense.wide, len(dense.outputs)):
        hidden.append(_padded_layers(part[: HIDDEN_LAYERS * growth], growth, axis=0))
        direct.append(part[HIDDEN_LAYERS * growth :])
    chain = []
    for layer in range(HIDDEN_LAYERS - 1):
        chain += [_padded_layers(chains[layer], growth, axis=1) for chains in dense.chains]
    output = [_padded_layers(matrix, growth, axis=1) for matrix in dense.outputs]
    return hidden, direct, chain, output


def _biases(block: FoldedBlock, growth: int, group: int) -> Array:
    """The biases of one network block: hidden layers of both dense phases, then outputs."""
    hidden, output = [], []
    for dense in (block.dense_add, block.dense_scale_shift):
        layers = []
        for part in np.split(dense.bias, len(dense.outputs)):
            layers.append(_padded_layers(part[: HIDDEN_LAYERS * growth], growth, axis=0))
            output.append(_padded(part[HIDDEN_LAYERS * growth :], TILE * group, axis=0))
        hidden.append(_padded(np.concatenate(layers), TILE * group, axis=0))
    return np.concatenate(hidden + output)


def _padded(array: Array, multiple: int, axis: int) -> Array:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, -array.shape[axis] % multiple)
    return np.pad(array, widths)


def _padded_layers(array: Array, growth: int, axis: int) -> Array:
    layers = np.split(array, array.shape[axis] // growth, axis=axis)
    return np.concatenate([_padded(layer, TILE, axis) for layer in layers], axis=axis)


def _tiles(matrix: Array, planes: Callable[[Array], list[Bits]]) -> Bits:
    """(outputs, inputs) -> (row tiles, input tiles, planes, 256), a tile in the lanes' order."""
    padded = _padded(_padded(matrix, TILE, axis=0), TILE, axis=1)
    bits = np.stack(planes(padded))
    # Row = 8 a + g, input = 8 b + 2 t + e.
    split = bits.reshape(len(bits), padded.shape[0] // TILE, 2, 8, padded.shape[1] // TILE, 2, 4, 2)
    _, rows, _, _, inputs, *_ = split.shape
    ordered = split.transpose(1, 4, 0, 3, 6, 5, 2, 7)  # row, input, plane, g, t, b, a, e
    return np.ascontiguousarray(ordered).reshape(rows, inputs, len(bits), TILE * TILE)


def _shared_out(tiles: Bits, group: int) -> list[Bits]:
    """Row tiles by rank, as many for each; those beyond the matrix are zeros."""
    missing = -len(tiles) % group
    padded = np.concatenate([tiles, np.zeros((missing, *tiles.shape[1:]), tiles.dtype)])
    return np.split(padded, group)


def _interleaved(matrices: Sequence[Bits], group: int) -> list[Bits]:
    """By rank: the row tiles of one or two matrices by turns."""
    by_rank = zip(*(_shared_out(tiles, group) for tiles in matrices), strict=True)
    return [np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]) for parts in by_rank]


def _panels(tiles: Bits) -> list[Bits]:
    """Panels of row tiles, each [input tile][row tile]."""
    starts = range(0, len(tiles), PANEL_TILES)
    return [tiles[start : start + PANEL_TILES].swapaxes(0, 1).reshape(-1) for start in starts]


def _to_bfloat16(values: Array) -> Array:
    """Nearest numbers of bfloat16, half to even, in float64."""
    _, exponents = np.frexp(values)
    steps = np.ldexp(1.0, np.maximum(exponents, _BFLOAT16_LEAST_EXPONENT) - _BFLOAT16_BITS)
    rounded: Array = np.rint(values / steps) * steps
    return rounded


def _finite(values: NDArray[np.generic], dtype: str) -> None:
    if not np.isfinite(values).all():
        raise ConfigError(f"a weight is too large for {dtype}; take another dtype.")


def _bfloat16_bits(values: Array) -> Bits:
    with np.errstate(over="ignore"):
        narrow = _to_bfloat16(values).astype(np.float32)
    _finite(narrow, "bfloat16")
    bits: Bits = (narrow.view(np.uint32) >> 16).astype(np.uint16)
    return bits


def _bfloat16(values: Array) -> list[Bits]:
    return [_bfloat16_bits(values)]


def _float16(values: Array) -> list[Bits]:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    _finite(narrow, "float16")
    return [narrow.view(np.uint16)]


def _float32(values: Array) -> list[Bits]:
    with np.errstate(over="ignore"):
        rest = values.astype(np.float32).astype(np.float64)
    _finite(rest, "float32")
    result = []
    for _ in range(3):
        plane = _to_bfloat16(rest)
        result.append(_bfloat16_bits(plane))
        rest = rest - plane
    return result


_PLANES: dict[str, Callable[[Array], list[Bits]]] = {
    "bfloat16": _bfloat16,
    "float16": _float16,
    "float32": _float32,
}
