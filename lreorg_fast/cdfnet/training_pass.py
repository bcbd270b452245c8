"""CDFNet's passes for training: its own parameters, gradients in constant memory.

The parameters are folded as ``folding.py`` does, but in differentiable torch, so that gradients
reach them under their names; the blocks then run as one op (``coupling_ops.py``) that keeps only
its results and recomputes every block's input from its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from lreorg_fast.cdfnet.coupling import HIDDEN_LAYERS, Weights
from lreorg_fast.cdfnet.coupling_ops import coupling_forward, coupling_inverse
from lreorg_fast.cdfnet.reference import Block, CDFNet, DenseSubnet
from lreorg_fast.errors import ConfigError

PRODUCTS = (torch.float32, torch.bfloat16, torch.float16)


class TrainingPass:
    """``disentangle`` and ``fuse`` of a network as it is now, to be called in its place.

    Made once per training step: folding is shared by the passes of the step, and a new one must
    be made after the optimizer has changed the parameters. Gradients are those of the network's
    own methods, up to rounding: streams are recomputed, which costs one more pass and about
    1e-6 of precision in float32. There are no second derivatives.

    Args:
        net: the network, float32, or float64 on the CPU.
        products: what products read is rounded to: torch.float32 (float64 for such a network),
            torch.bfloat16, or torch.float16, which needs gradients to be scaled. Streams, sums
            and the parameters' gradients have the network's dtype; on a GPU gradients of weights
            were rounded to ``products`` once before that.

    Raises:
        ConfigError: products is none of these.
    """

    def __init__(self, net: CDFNet, products: torch.dtype = torch.float32) -> None:
        if products not in PRODUCTS:
            raise ConfigError(
                f"products is {products}; allowed are {', '.join(map(str, PRODUCTS))}."
            )
        self._net = net
        parameter = next(net.parameters())
        exact = products == torch.float32
        self._products = parameter.dtype if exact else products
        # Folding is a sum of products of weights: it stays exact under autocast.
        with torch.autocast(parameter.device.type, enabled=False):
            self._condition = _condition(net)
            self._dense = _dense(net)

    def disentangle(self, s: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`CDFNet.disentangle`, with gradients for s, k and the parameters."""
        self._net._check(k, s=s)
        shape = torch.broadcast_shapes(s.shape[:-1], k.shape[:-1])
        h2 = s.expand(*shape, s.shape[-1])
        return self._run(coupling_forward, torch.zeros_like(h2), h2, k)

    def fuse(self, f: Tensor, r: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`CDFNet.fuse`, with gradients for f, r, k and the parameters."""
        self._net._check(k, f=f, r=r)
        shape = torch.broadcast_shapes(f.shape[:-1], r.shape[:-1], k.shape[:-1])
        width = f.shape[-1]
        return self._run(coupling_inverse, f.expand(*shape, width), r.expand(*shape, width), k)

    def weights(self, k: Tensor) -> Weights:
        """The folded weights, with the constants of keyword features k (keywords, cond_dim)."""
        with torch.autocast(k.device.type, enabled=False):
            constants = self._condition.constants(k)
        return Weights(constants, self._condition.matrix, *self._dense)

    def _run(
        self, op: Callable[..., tuple[Tensor, Tensor]], h1: Tensor, h2: Tensor, k: Tensor
    ) -> tuple[Tensor, Tensor]:
        shape = h2.shape
        rows = math.prod(shape[:-1])
        features = k.reshape(-1, k.shape[-1])
        index = torch.arange(len(features), device=k.device, dtype=torch.int32)
        index = index.reshape(k.shape[:-1]).expand(shape[:-1]).reshape(rows)
        first, second = op(
            h1.reshape(rows, shape[-1]),
            h2.reshape(rows, shape[-1]),
            index,
            *self.weights(features).tensors(),
            self._net.config.clamp,
            self._products,
        )
        return first.reshape(shape), second.reshape(shape)


class _Condition:
    """Condition subnets, folded: M, and what makes c(k)."""

    def __init__(
        self,
        matrix: Tensor,
        of_keyword: Tensor,
        keyword: Tensor,
        keyword_bias: Tensor,
        bias: Tensor,
    ) -> None:
        self.matrix = matrix
        self._of_keyword = of_keyword
        self._keyword = keyword
        self._keyword_bias = keyword_bias
        self._bias = bias

    def constants(self, k: Tensor) -> Tensor:
        """c(k) (keywords, n, 3, D) for k (keywords, cond_dim)."""
        inner = k @ self._keyword.mT + self._keyword_bias[:, :, None]
        made = inner @ self._of_keyword.mT + self._bias[:, :, None]
        return made.movedim(2, 0)


def _condition(net: CDFNet) -> _Condition:
    subnets = [[block.cond.add, block.cond.scale, block.cond.shift] for block in _blocks(net)]

    def stacked(layer: str, name: str) -> Tensor:
        rows = [
            torch.stack([getattr(getattr(subnet, layer), name) for subnet in row])
            for row in subnets
        ]
        return torch.stack(rows)

    dim = net.config.dim
    out = stacked("out", "weight")
    of_latent, of_keyword = out[..., :dim], out[..., dim:]
    moved = (of_latent @ stacked("latent", "bias")[..., None])[..., 0]
    return _Condition(
        matrix=of_latent @ stacked("latent", "weight"),
        of_keyword=of_keyword,
        keyword=stacked("keyword", "weight"),
        keyword_bias=stacked("keyword", "bias"),
        bias=moved + stacked("out", "bias"),
    )


def _dense(net: CDFNet) -> tuple[Tensor, ...]:
    """hidden, hidden_bias, chain, direct, output, output_bias: each dense layer by source."""
    subnets = [[block.dense.add, block.dense.scale, block.dense.shift] for block in _blocks(net)]
    dim, width = net.config.dim, HIDDEN_LAYERS * net.config.growth

    def layer(subnet: DenseSubnet, i: int) -> nn.Linear:
        return cast(nn.Linear, subnet.layers[i])

    def stacked(make: list[list[Tensor]]) -> Tensor:
        return torch.stack([torch.stack(row) for row in make])

    def hidden(subnet: DenseSubnet) -> Tensor:
        return torch.cat([layer(subnet, i).weight[:, :dim] for i in range(HIDDEN_LAYERS)])

    def hidden_bias(subnet: DenseSubnet) -> Tensor:
        return torch.cat([layer(subnet, i).bias for i in range(HIDDEN_LAYERS)])

    def chain(subnet: DenseSubnet) -> Tensor:
        parts = [layer(subnet, i).weight[:, dim:] for i in range(HIDDEN_LAYERS)]
        return torch.cat([nn.functional.pad(x, (0, width - x.shape[1])) for x in parts])

    last = HIDDEN_LAYERS
    return (
        stacked([[hidden(x) for x in row] for row in subnets]),
        stacked([[hidden_bias(x) for x in row] for row in subnets]),
        stacked([[chain(x) for x in row] for row in subnets]),
        stacked([[layer(x, last).weight[:, :dim] for x in row] for row in subnets]),
        stacked([[layer(x, last).weight[:, dim:] for x in row] for row in subnets]),
        stacked([[layer(x, last).bias for x in row] for row in subnets]),
    )


def _blocks(net: CDFNet) -> list[Block]:
    return [cast(Block, block) for block in net.blocks]
