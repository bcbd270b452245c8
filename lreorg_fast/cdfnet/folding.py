"""CDFNet folded to fewer, wider products: exact algebra in float64, rounded once by who packs it.

1. A condition subnet has no activation, so phi(a, k) = M a + c(k), M = W_out[:, :D] W_latent,
   c(k) = W_out[:, :D] b_latent + W_out[:, D:] (W_keyword k + b_keyword) + b_out:
   one matrix instead of three maps, and a table of 3 x num_blocks x D constants per keyword.
2. Scale and shift read the same stream: their matrices are stacked.
3. A dense layer is split by source: the parts that read the stream x are stacked into one *wide*
   product; what remains is a short chain between the hidden layers and one product from the hidden
   layers to the output.

The folded network also runs (slowly, in float64): that is the twin with which native schedules and
layouts are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.cdfnet.config import DENSE_LAYERS, LEAKY_SLOPE, CDFNetConfig
from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.cdfnet.reference import CDFNet

Array = NDArray[np.float64]

CONDITION_ROLES = ("add", "scale", "shift")


@dataclasses.dataclass(frozen=True)
class FoldedDense:
    """S dense subnets that read the same stream: S = 1 (add) or 2 (scale, shift).

    Attributes:
        wide: (S (4g + D), D); per subnet four hidden layers' parts, then the output's part.
        bias: (S (4g + D),), in the same order.
        chains: per subnet the hidden layers' matrices of earlier hidden layers, (g, i g), i = 1..3.
        outputs: per subnet the output's matrix of the hidden layers, (D, 4g).
    """

    wide: Array
    bias: Array
    chains: tuple[tuple[Array, ...], ...]
    outputs: tuple[Array, ...]

    def __call__(self, x: Array) -> Array:
        """x (rows, D) -> (S, rows, D)."""
        pre = x @ self.wide.T + self.bias
        results = []
        parts = np.split(pre, len(self.outputs), axis=1)
        for part, chain, output in zip(parts, self.chains, self.outputs, strict=True):
            growth = chain[0].shape[0]
            hidden = _leaky(part[:, :growth])
            for i, matrix in enumerate(chain, start=1):
                layer = part[:, i * growth : (i + 1) * growth] + hidden @ matrix.T
                hidden = np.concatenate([hidden, _leaky(layer)], axis=1)
            results.append(part[:, hidden.shape[1] :] + hidden @ output.T)
        return np.stack(results)

    def tensors(self, prefix: str, roles: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """The arrays, split by subnet, under the names that the packed format gives them."""
        wides = np.split(self.wide, len(roles))
        biases = np.split(self.bias, len(roles))
        for s, role in enumerate(roles):
            hidden = self.outputs[s].shape[1]
            yield f"{prefix}.{role}.hidden", wides[s][:hidden]
            yield f"{prefix}.{role}.hidden_bias", biases[s][:hidden]
            yield f"{prefix}.{role}.direct", wides[s][hidden:]
            yield f"{prefix}.{role}.output_bias", biases[s][hidden:]
            for i, matrix in enumerate(self.chains[s], start=1):
                yield f"{prefix}.{role}.chain.{i}", matrix
            yield f"{prefix}.{role}.output", self.outputs[s]


@dataclasses.dataclass(frozen=True)
class FoldedBlock:
    """One block: condition matrices add (D, D) and scale + shift (2D, D), and the dense subnets."""

    condition_add: Array
    condition_scale_shift: Array
    dense_add: FoldedDense
    dense_scale_shift: FoldedDense

    def tensors(self, prefix: str) -> Iterator[tuple[str, Array]]:
        """The arrays under the names that the packed format gives them."""
        scale, shift = np.split(self.condition_scale_shift, 2)
        for role, matrix in zip(CONDITION_ROLES, (self.condition_add, scale, shift), strict=True):
            yield f"{prefix}.condition.{role}", matrix
        yield from self.dense_add.tensors(f"{prefix}.dense", CONDITION_ROLES[:1])
        yield from self.dense_scale_shift.tensors(f"{prefix}.dense", CONDITION_ROLES[1:])


@dataclasses.dataclass(frozen=True)
class KeywordFold:
    """Makes the constants c(k) of every condition subnet from a keyword feature.

    Attributes:
        matrix: (num_blocks, 3, D, cond_dim), the roles in the order of CONDITION_ROLES.
        bias: (num_blocks, 3, D).
    """

    matrix: Array
    bias: Array

    def table(self, k: Array) -> Array:
        """c(k) for k (cond_dim,): (num_blocks, 3, D)."""
        return self.matrix @ k + self.bias


@dataclasses.dataclass(frozen=True)
class FoldedCDFNet:
    """A CDFNet after folding, float64 throughout. See :func:`fold`."""

    config: CDFNetConfig
    blocks: tuple[FoldedBlock, ...]
    keywords: KeywordFold

    def tensors(self) -> dict[str, Array]:
        """All arrays but the keywords', under the names that the packed format gives them."""
        named: dict[str, Array] = {}
        for j, block in enumerate(self.blocks):
            named.update(block.tensors(f"blocks.{j}"))
        return named

    def disentangle(self, h1: Array, h2: Array, tables: Array) -> tuple[Array, Array]:
        """Eq. 1, 2 on rows: h1, h2 (rows, D); tables (rows, num_blocks, 3, D)."""
        for j, block in enumerate(self.blocks):
            add, scale, shift = np.moveaxis(tables[:, j], 1, 0)
            h1 = h1 + (h2 @ block.condition_add.T + add)
            h2 = self._scaled(h2, *self._condition(block, h1, scale, shift))
            h1 = h1 + block.dense_add(h2)[0]
            h2 = self._scaled(h2, *block.dense_scale_shift(h1))
        return h1, h2

    def fuse(self, g1: Array, g2: Array, tables: Array) -> tuple[Array, Array]:
        """Eq. 3, 4 on rows, the exact inverse of :meth:`disentangle`."""
        for j, block in reversed(list(enumerate(self.blocks))):
            add, scale, shift = np.moveaxis(tables[:, j], 1, 0)
            g2 = self._unscaled(g2, *block.dense_scale_shift(g1))
            g1 = g1 - block.dense_add(g2)[0]
            g2 = self._unscaled(g2, *self._condition(block, g1, scale, shift))
            g1 = g1 - (g2 @ block.condition_add.T + add)
        return g1, g2

    def _condition(
        self, block: FoldedBlock, x: Array, scale: Array, shift: Array
    ) -> tuple[Array, Array]:
        product = x @ block.condition_scale_shift.T
        dim = self.config.dim
        return product[:, :dim] + scale, product[:, dim:] + shift

    def _scaled(self, h: Array, scale: Array, shift: Array) -> Array:
        return h * np.exp(self._log_scale(scale)) + shift

    def _unscaled(self, g: Array, scale: Array, shift: Array) -> Array:
        return (g - shift) * np.exp(-self._log_scale(scale))

    def _log_scale(self, x: Array) -> Array:
        # 2 sigmoid(x) - 1 = tanh(x / 2), which does not overflow.
        log_scale: Array = self.config.clamp * np.tanh(x / 2)
        return log_scale


def fold(net: CDFNet) -> FoldedCDFNet:
    """Fold a reference network; its parameters may be of any float dtype and on any device.

    Raises:
        ConfigError: a parameter is not finite.
    """
    parameters: dict[str, Array] = {}
    for name, parameter in net.state_dict().items():
        array = np.asarray(parameter.detach().cpu().double().numpy(), dtype=np.float64)
        if not np.isfinite(array).all():
            raise ConfigError(f"parameter {name} is not finite; load or train the network again.")
        parameters[name] = array
    dim = net.config.dim
    blocks = []
    matrices, biases = [], []
    for j in range(net.config.num_blocks):
        at = parameters.__getitem__
        folded = [_fold_condition(at, f"blocks.{j}.cond.{role}", dim) for role in CONDITION_ROLES]
        matrices.append([matrix for _, matrix, _ in folded])
        biases.append([bias for _, _, bias in folded])
        add, scale, shift = (latent for latent, _, _ in folded)
        blocks.append(
            FoldedBlock(
                condition_add=add,
                condition_scale_shift=np.concatenate([scale, shift]),
                dense_add=_fold_dense(at, f"blocks.{j}.dense", ("add",), dim),
                dense_scale_shift=_fold_dense(at, f"blocks.{j}.dense", ("scale", "shift"), dim),
            )
        )
    keywords = KeywordFold(matrix=np.asarray(matrices), bias=np.asarray(biases))
    return FoldedCDFNet(config=net.config, blocks=tuple(blocks), keywords=keywords)


def _fold_condition(
    at: Callable[[str], Array], prefix: str, dim: int
) -> tuple[Array, Array, Array]:
    """(latent matrix M, keyword matrix, constant part of c) of one condition subnet."""
    out = at(f"{prefix}.out.weight")
    of_latent, of_keyword = out[:, :dim], out[:, dim:]
    bias = of_latent @ at(f"{prefix}.latent.bias") + of_keyword @ at(f"{prefix}.keyword.bias")
    return (
        of_latent @ at(f"{prefix}.latent.weight"),
        of_keyword @ at(f"{prefix}.keyword.weight"),
        bias + at(f"{prefix}.out.bias"),
    )


def _fold_dense(
    at: Callable[[str], Array], prefix: str, roles: tuple[str, ...], dim: int
) -> FoldedDense:
    wide, bias, chains, outputs = [], [], [], []
    for role in roles:
        layers = [f"{prefix}.{role}.layers.{i}" for i in range(DENSE_LAYERS)]
        weights = [at(f"{layer}.weight") for layer in layers]
        wide += [weight[:, :dim] for weight in weights]
        bias += [at(f"{layer}.bias") for layer in layers]
        chains.append(tuple(weight[:, dim:] for weight in weights[1:-1]))
        outputs.append(weights[-1][:, dim:])
    return FoldedDense(np.concatenate(wide), np.concatenate(bias), tuple(chains), tuple(outputs))


def _leaky(x: Array) -> Array:
    return np.where(x > 0, x, LEAKY_SLOPE * x)
