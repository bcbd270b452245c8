"""The weights of the CUDA kernel, read back element by element as kernels/cuda/layout.h says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lreorg_fast as lf
from lreorg_fast.cdfnet.cuda_packing import pack
from lreorg_fast.cdfnet.folding import FoldedBlock, FoldedCDFNet, fold
from lreorg_fast.errors import ConfigError

TILE = 16
PLANES = {"bfloat16": 1, "float16": 1, "float32": 3}
SHAPES = [(40, 5, 2), (33, 16, 1), (72, 20, 4), (150, 40, 2), (16, 3, 1)]


def network(dim: int, growth: int, blocks: int = 2) -> FoldedCDFNet:
    config = lf.CDFNetConfig(dim=dim, cond_dim=8, num_blocks=blocks, growth=growth)
    net = lf.CDFNet(config)
    generator = torch.Generator().manual_seed(dim)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return fold(net)


class Reader:
    """Takes tiles off a blob, one after the other."""

    def __init__(self, blob: np.ndarray, dtype: str) -> None:
        self.blob, self.dtype, self.at = blob, dtype, 0

    def value(self, bits: np.ndarray) -> np.ndarray:
        if self.dtype == "float16":
            return bits.view(np.float16).astype(np.float64)
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)

    def tile(self) -> np.ndarray:
        total = np.zeros((TILE, TILE))
        for _ in range(PLANES[self.dtype]):
            words = self.value(self.blob[self.at : self.at + 512].view(np.uint16))
            self.at += 512
            for lane in range(32):
                g, t = divmod(lane, 4)
                for pair, (row, column) in enumerate(
                    [(g, 2 * t), (g + 8, 2 * t), (g, 2 * t + 8), (g + 8, 2 * t + 8)]
                ):
                    total[row, column] += words[8 * lane + 2 * pair]
                    total[row, column + 1] += words[8 * lane + 2 * pair + 1]
        return total

    def rows(self, into: np.ndarray, row_tiles: list[int], depth: int) -> None:
        """A section: panels of four row tiles."""
        for first in range(0, len(row_tiles), 4):
            self.panel(into, row_tiles[first : first + 4], depth)

    def panel(self, into: np.ndarray, row_tiles: list[int], depth: int) -> None:
        for k in range(depth):
            for row in row_tiles:
                into[row * TILE : (row + 1) * TILE, k * TILE : (k + 1) * TILE] = self.tile()

    def floats(self, count: int) -> np.ndarray:
        values = self.blob[self.at : self.at + 4 * count].view(np.float32)
        self.at += 4 * count
        return values


def up(a: int, b: int) -> int:
    return -(-a // b)


def rounded(matrix: np.ndarray, dtype: str) -> np.ndarray:
    """Rounded once: float32 on the way must not round to a tie, so it rounds to odd."""
    if dtype == "float32":
        return matrix.astype(np.float32).astype(np.float64)
    narrow = matrix.astype(np.float32)
    narrow = np.where(np.abs(narrow) > np.abs(matrix), np.nextafter(narrow, np.float32(0)), narrow)
    odd = narrow.view(np.uint32) | (narrow != matrix).astype(np.uint32)
    return torch.from_numpy(odd.view(np.float32)).to(getattr(torch, dtype)).double().numpy()


def hidden_index(growth: int, layers: int) -> np.ndarray:
    """Where the units of hidden layers are, each layer padded to whole tiles."""
    width = up(growth, TILE) * TILE
    return np.concatenate([np.arange(growth) + layer * width for layer in range(layers)])


class Phase:
    """What a group's weights of one phase say, all ranks together."""

    def __init__(self, reader: Reader, dim: int, growth: int, group: int, phase: int) -> None:
        self.reader, self.dim, self.growth, self.phase = reader, dim, growth, phase
        self.subnets = 1 + phase % 2
        self.depth = up(dim, TILE)
        self.growth_tiles = up(growth, TILE)
        self.columns = up(self.depth, group)
        self.share = up(self.subnets * 4 * self.growth_tiles, group)
        height = group * self.columns * self.subnets * TILE
        self.direct = np.full((height, self.depth * TILE), np.nan)
        self.output = np.full((height, 4 * self.growth_tiles * TILE), np.nan)
        self.hidden = np.full((group * self.share * TILE, self.depth * TILE), np.nan)
        self.chains: list[list[np.ndarray]] = []

    def read(self, rank: int) -> None:
        if self.phase >= 2:
            own = list(range(rank * self.share, (rank + 1) * self.share))
            self.reader.rows(self.hidden, own, self.depth)
        first = rank * self.columns * self.subnets
        own = list(range(first, first + self.columns * self.subnets))
        for start in range(0, len(own), 4):
            self.reader.panel(self.direct, own[start : start + 4], self.depth)
            if self.phase < 2:
                continue
            if start == 0:
                self.chains.append(self.read_chain())
            self.reader.panel(self.output, own[start : start + 4], 4 * self.growth_tiles)

    def read_chain(self) -> list[np.ndarray]:
        result = []
        for layer in range(1, 4):
            for _ in range(self.subnets):
                matrix = np.zeros((self.growth_tiles * TILE, layer * self.growth_tiles * TILE))
                for row in range(self.growth_tiles):
                    self.reader.panel(matrix, [row], layer * self.growth_tiles)
                result.append(matrix)
        return result

    def subnet(self, matrix: np.ndarray, s: int) -> np.ndarray:
        """Rows of one subnet, whose row tiles alternate with the other's."""
        tiles = matrix.reshape(-1, self.subnets, TILE, matrix.shape[1])
        return tiles[:, s].reshape(-1, matrix.shape[1])

    def check(self, block: FoldedBlock, dtype: str) -> None:
        matrices = (block.condition_add, block.condition_scale_shift)
        dense = (block.dense_add, block.dense_scale_shift)[self.phase % 2]
        for s in range(self.subnets):
            direct = self.subnet(self.direct, s)
            if self.phase < 2:
                expected = np.split(matrices[self.phase], self.subnets)[s]
                check_padded(direct, expected, dtype)
                continue
            wide = np.split(dense.wide, self.subnets)[s]
            check_padded(direct, wide[4 * self.growth :], dtype)
            units = hidden_index(self.growth, 4)
            width = 4 * self.growth_tiles * TILE
            spread = np.zeros((width, self.dim))
            spread[units] = wide[: 4 * self.growth]
            np.testing.assert_array_equal(
                self.hidden[s * width : (s + 1) * width, : self.dim], rounded(spread, dtype)
            )
            spread = np.zeros((self.dim, width))
            spread[:, units] = dense.outputs[s]
            check_padded(self.subnet(self.output, s), spread, dtype)
            for chain in self.chains:
                for layer, matrix in enumerate(dense.chains[s]):
                    spread = np.zeros((self.growth, chain[layer * self.subnets].shape[1]))
                    spread[:, hidden_index(self.growth, layer + 1)] = matrix
                    check_padded(chain[layer * self.subnets + s], spread, dtype)


def check_padded(found: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    rows, columns = expected.shape
    np.testing.assert_array_equal(found[:rows, :columns], rounded(expected, dtype))
    assert not found[rows:].any()
    assert not found[:, columns:].any()


@pytest.mark.parametrize("dtype", PLANES)
@pytest.mark.parametrize(("dim", "growth", "group"), SHAPES)
def test_every_weight_is_where_the_kernel_reads_it(
    dim: int, growth: int, group: int, dtype: str
) -> None:
    folded = network(dim, growth)
    reader = Reader(pack(folded, dtype, group), dtype)
    phases = [
        [Phase(reader, dim, growth, group, phase) for phase in range(4)] for _ in folded.blocks
    ]
    for rank in range(group):
        for of_block in phases:
            for phase in of_block:
                phase.read(rank)
    for block, of_block in zip(folded.blocks, phases, strict=True):
        for phase in of_block:
            phase.check(block, dtype)
        check_biases(reader, block, of_block, dim, growth, group)
    assert reader.at == len(reader.blob)


def check_biases(
    reader: Reader, block: FoldedBlock, phases: list[Phase], dim: int, growth: int, group: int
) -> None:
    denses = (block.dense_add, block.dense_scale_shift)
    width = 4 * up(growth, TILE) * TILE
    for phase, dense in zip(phases[2:], denses, strict=True):
        found = reader.floats(group * phase.share * TILE)
        expected = np.zeros(len(found))
        for s, part in enumerate(np.split(dense.bias, phase.subnets)):
            expected[hidden_index(growth, 4) + s * width] = part[: 4 * growth]
        np.testing.assert_array_equal(found, expected.astype(np.float32))
    for phase, dense in zip(phases[2:], denses, strict=True):
        for part in np.split(dense.bias, phase.subnets):
            found = reader.floats(group * phase.columns * TILE)
            np.testing.assert_array_equal(found[:dim], part[4 * growth :].astype(np.float32))
            assert not found[dim:].any()


def test_a_weight_beyond_the_dtype_is_refused() -> None:
    folded = network(16, 3, blocks=1)
    folded.blocks[0].condition_add[0, 0] = 1e6
    pack(folded, "bfloat16", 1)
    with pytest.raises(ConfigError, match="too large for float16"):
        pack(folded, "float16", 1)
    with pytest.raises(ConfigError, match="int8"):
        pack(folded, "int8", 1)
