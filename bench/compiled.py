"""torch.compile with freezing, for a network of many alike blocks.

A pass of 16 blocks as one graph takes Inductor minutes, because it compares all pairs of nodes for
fusion, and the recurrence as one graph or one graph per number of faces takes far longer. A few
blocks as one graph, compiled for any number of rows, run the same kernels: at the border of two
blocks all that could be fused is one addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch._dynamo.config
import torch._inductor.config
from torch import Tensor, nn

from bench import folded
from bench.folded import FoldedRecurrence
from lreorg_fast.cdfnet.reference import Block, CDFNet

_BLOCKS_PER_GRAPH = 4
# Every chain of blocks, direction and number of lanes is a graph of the same Python code.
_GRAPHS = 256

Streams = tuple[Tensor, Tensor]


class ReferenceChain(nn.Module):
    """Consecutive blocks of the reference network in the place of one."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.forward = _compiled(self._forward)
        self.inverse = _compiled(self._inverse)

    def _forward(self, h1: Tensor, h2: Tensor, k: Tensor) -> Streams:
        for block in self.blocks:
            h1, h2 = block(h1, h2, k)
        return h1, h2

    def _inverse(self, g1: Tensor, g2: Tensor, k: Tensor) -> Streams:
        for block in reversed(list(self.blocks)):
            g1, g2 = cast(Block, block).inverse(g1, g2, k)
        return g1, g2


class FoldedChain(nn.Module):
    """Consecutive folded blocks in the place of one; constants (blocks, 3, lanes, 1, dim)."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.disentangle = _compiled(self._disentangle)
        self.fuse = _compiled(self._fuse)

    def _disentangle(self, h1: Tensor, h2: Tensor, constants: Tensor) -> Streams:
        for j, block in enumerate(self.blocks):
            h1, h2 = cast(folded.Block, block).disentangle(h1, h2, constants[j])
        return h1, h2

    def _fuse(self, g1: Tensor, g2: Tensor, constants: Tensor) -> Streams:
        for j, block in reversed(list(enumerate(self.blocks))):
            g1, g2 = cast(folded.Block, block).fuse(g1, g2, constants[j])
        return g1, g2


def compile_blocks(network: CDFNet | FoldedRecurrence) -> None:
    """Replace the blocks of a network by compiled chains of blocks, in place."""
    torch._inductor.config.freezing = True
    torch._inductor.config.compile_threads = 1  # no pool of processes beside the one that is timed
    torch._dynamo.config.recompile_limit = _GRAPHS
    torch._dynamo.config.accumulated_recompile_limit = _GRAPHS
    blocks = list(network.blocks)
    size = math.gcd(len(blocks), _BLOCKS_PER_GRAPH)
    chains = [blocks[i : i + size] for i in range(0, len(blocks), size)]
    if isinstance(network, CDFNet):
        network.blocks = nn.ModuleList(map(ReferenceChain, chains))
        return
    network.blocks = nn.ModuleList(map(FoldedChain, chains))
    network.constants = nn.ParameterList(
        nn.Parameter(table.unflatten(0, (-1, size)), requires_grad=False)
        for table in network.constants
    )


def _compiled(method: Callable[..., Streams]) -> Any:
    return torch.compile(method, dynamic=True, fullgraph=True)
