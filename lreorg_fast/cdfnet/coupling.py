"""The coupling blocks: their weights, the order of their updates, and what carries these out.

Shapes, for rows tokens of width D, n blocks, growth g, K keywords, roles (add, scale, shift):

- h1, h2 (rows, D): the streams, float32, or float64 on the CPU; so are all weights.
- constants (K, n, 3, D): c(k) of the condition subnets; index (rows,) int32: each token's keyword.
- condition (n, 3, D, D): the condition subnets' matrices M.
- hidden (n, 3, 4g, D), hidden_bias (n, 3, 4g): the hidden layers' parts that read the stream.
- chain (n, 3, 4g, 4g): their parts that read earlier hidden layers, blocks below the diagonal.
- direct (n, 3, D, D), output (n, 3, D, 4g), output_bias (n, 3, D): the last layer's parts.
- products: what products read is rounded to; float32, bfloat16 or float16, or float64 with such
  streams. Streams and sums are never rounded; gradients of weights are, on a GPU with 16-bit
  products, once after their sum over tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lreorg_fast.cdfnet.config import DENSE_LAYERS
from lreorg_fast.cdfnet.folding import CONDITION_ROLES, FoldedCDFNet

HIDDEN_LAYERS = DENSE_LAYERS - 1


@dataclasses.dataclass
class Stream:
    """A stream's values (rows, D), and the copy that products read: the same tensor, or rounded."""

    values: Tensor
    copy: Tensor


@dataclasses.dataclass(frozen=True)
class Hidden:
    """The hidden layers of S dense subnets; shapes as in the module's text without (n, 3)."""

    weights: Tensor
    bias: Tensor
    chain: Tensor
    output: Tensor


@dataclasses.dataclass(frozen=True)
class Coupling:
    """One update of one stream by subnets of the other.

    Attributes:
        target: 0 or 1, the stream that changes; the other one is read.
        roles: which of (add, scale, shift) it is made of: the first, or the other two.
        direct: (S, D, D), the subnets' matrices of the stream that is read.
        table: (S, D), or (K, S, D) where each token has its own row.
        hidden: the dense subnets' hidden layers; None for condition subnets.
    """

    target: int
    roles: slice
    direct: Tensor
    table: Tensor
    hidden: Hidden | None

    @property
    def scales(self) -> bool:
        return len(self.direct) == 2


ADD, SCALE_SHIFT = slice(0, 1), slice(1, 3)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The folded weights of all blocks; shapes as in the module's text."""

    constants: Tensor
    condition: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    chain: Tensor
    direct: Tensor
    output: Tensor
    output_bias: Tensor

    # What products read is rounded; what is added to them is not.
    MATRICES = ("condition", "hidden", "chain", "direct", "output")

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the ops' arguments."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def rounded(self, dtype: torch.dtype) -> Weights:
        """These weights with their matrices in another dtype."""
        matrices = {name: getattr(self, name).to(dtype) for name in self.MATRICES}
        return dataclasses.replace(self, **matrices)

    def contiguous(self) -> Weights:
        return Weights(*(x.contiguous() for x in self.tensors()))

    def couplings(self, block: int) -> list[Coupling]:
        """The four updates of a block, in the order of disentangling."""
        made = []
        for target, roles in ((0, ADD), (1, SCALE_SHIFT)):
            constants = self.constants[:, block, roles]
            made.append(Coupling(target, roles, self.condition[block, roles], constants, None))
        for target, roles in ((0, ADD), (1, SCALE_SHIFT)):
            at = block, roles
            hidden = Hidden(self.hidden[at], self.hidden_bias[at], self.chain[at], self.output[at])
            made.append(Coupling(target, roles, self.direct[at], self.output_bias[at], hidden))
        return made


def stacked(folded: FoldedCDFNet, constants: Tensor) -> Weights:
    """The folded arrays as float32 stacks over blocks and roles, where the constants are."""
    arrays, device = folded.tensors(), constants.device
    blocks, roles = range(folded.config.num_blocks), CONDITION_ROLES

    def stack(name: str) -> Tensor:
        rows = [[arrays[f"blocks.{j}.{name.format(role)}"] for role in roles] for j in blocks]
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).to(device)

    hidden = stack("dense.{}.hidden")
    growth, width = folded.config.growth, hidden.shape[2]
    chain = hidden.new_zeros(*hidden.shape[:2], width, width)
    for i in range(1, width // growth):
        chain[:, :, i * growth : (i + 1) * growth, : i * growth] = stack(f"dense.{{}}.chain.{i}")
    return Weights(
        constants=constants,
        condition=stack("condition.{}"),
        hidden=hidden,
        hidden_bias=stack("dense.{}.hidden_bias"),
        chain=chain,
        direct=stack("dense.{}.direct"),
        output=stack("dense.{}.output"),
        output_bias=stack("dense.{}.output_bias"),
    )


class Steps(Protocol):
    """What carries out couplings; updates are in place."""

    def stream(self, values: Tensor) -> Stream:
        """A stream of its own that starts with these values."""

    def couple(
        self, coupling: Coupling, target: Stream, source: Stream, index: Tensor, inverse: bool
    ) -> None:
        """Do or undo a coupling."""

    def undo(
        self,
        coupling: Coupling,
        target: Stream,
        source: Stream,
        index: Tensor,
        inverse: bool,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """``couple(inverse)``, which undoes what was done, and its gradients.

        gradient, with respect to what target was, becomes that of what target becomes. Returns the
        gradient of the subnets' results (S, rows, D), as products read it, and the hidden layers
        (S, rows, 4g).
        """

    def source_gradient(
        self, coupling: Coupling, hidden: Tensor | None, of_result: Tensor, gradient: Tensor
    ) -> Tensor | None:
        """Add the subnets' gradient to the source's; returns that of the hidden layers before
        their activations (S, rows, 4g)."""


def run(
    steps: Steps, h1: Tensor, h2: Tensor, index: Tensor, weights: Weights, inverse: bool
) -> tuple[Tensor, Tensor]:
    """All blocks on streams h1, h2 (rows, D); new tensors."""
    streams = (steps.stream(h1), steps.stream(h2))
    for _, coupling in ordered(weights, inverse):
        target, source = streams[coupling.target], streams[1 - coupling.target]
        steps.couple(coupling, target, source, index, inverse)
    return streams[0].values, streams[1].values


def ordered(weights: Weights, inverse: bool) -> Iterator[tuple[int, Coupling]]:
    """(block, coupling) of all blocks in the order of disentangling, or in reverse."""
    blocks = range(len(weights.condition))
    for block in reversed(blocks) if inverse else blocks:
        couplings = weights.couplings(block)
        for coupling in reversed(couplings) if inverse else couplings:
            yield block, coupling
