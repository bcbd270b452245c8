"""The folded recurrence as a plain torch module: the engine's algebra without its kernels.

It takes the exact algebra of :mod:`lreorg_fast.cdfnet.folding` and the batched dependent steps of
:mod:`lreorg_fast.cdfnet.schedule` (10 for the default recurrence), and leaves every product to
torch or to whoever compiles or exports the module. What it gains over the reference network is the
algebra's part of the engine's speed; what the engine gains over it is the kernels'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lreorg_fast.cdfnet.config import LEAKY_SLOPE
from lreorg_fast.cdfnet.folding import Array, FoldedBlock, FoldedDense, fold
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Plan


class DenseSubnets(nn.Module):
    """S dense subnets that read one stream; see :class:`FoldedDense` for the shapes."""

    def __init__(self, folded: FoldedDense) -> None:
        super().__init__()
        self.wide, self.bias = _constant(folded.wide), _constant(folded.bias)
        self.outputs = nn.ParameterList(map(_constant, folded.outputs))
        self.links = len(folded.chains[0])
        self.chains = nn.ParameterList(_constant(link) for chain in folded.chains for link in chain)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (..., dim) -> one (..., dim) per subnet."""
        outputs, chains = list(self.outputs), list(self.chains)
        pre = F.linear(x, self.wide, self.bias)
        parts = pre.split(pre.shape[-1] // len(outputs), dim=-1)
        return [
            _dense_tail(part, chains[s * self.links : (s + 1) * self.links], output)
            for s, (part, output) in enumerate(zip(parts, outputs, strict=True))
        ]


def _dense_tail(pre: Tensor, chain: list[Tensor], output: Tensor) -> Tensor:
    """What is left of a dense subnet once the products with the stream are known."""
    dim, hidden_width = output.shape
    layers = len(chain) + 1
    *hidden_parts, direct = pre.split([hidden_width // layers] * layers + [dim], dim=-1)
    hidden = F.leaky_relu(hidden_parts[0], LEAKY_SLOPE)
    for part, matrix in zip(hidden_parts[1:], chain, strict=True):
        layer = F.leaky_relu(part + F.linear(hidden, matrix), LEAKY_SLOPE)
        hidden = torch.cat([hidden, layer], dim=-1)
    out: Tensor = direct + F.linear(hidden, output)
    return out


class Block(nn.Module):
    """One block (Eq. 1 to 4) on folded matrices, over streams (lanes, tokens, dim).

    ``constants`` are c(k) of the subnets add, scale and shift of this block for each lane's
    keyword, each (lanes, 1, dim).
    """

    def __init__(self, block: FoldedBlock, clamp: float) -> None:
        super().__init__()
        self.clamp = clamp
        self.condition_add = _constant(block.condition_add)
        self.condition_scale_shift = _constant(block.condition_scale_shift)
        self.dense_add = DenseSubnets(block.dense_add)
        self.dense_scale_shift = DenseSubnets(block.dense_scale_shift)

    def disentangle(self, h1: Tensor, h2: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        h1 = h1 + self._add(h2, constants)
        h2 = self._scaled(h2, *self._scale_shift(h1, constants))
        h1 = h1 + self.dense_add(h2)[0]
        h2 = self._scaled(h2, *self.dense_scale_shift(h1))
        return h1, h2

    def fuse(self, g1: Tensor, g2: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        g2 = self._unscaled(g2, *self.dense_scale_shift(g1))
        g1 = g1 - self.dense_add(g2)[0]
        g2 = self._unscaled(g2, *self._scale_shift(g1, constants))
        g1 = g1 - self._add(g2, constants)
        return g1, g2

    def _add(self, x: Tensor, constants: Tensor) -> Tensor:
        return F.linear(x, self.condition_add) + constants[0]

    def _scale_shift(self, x: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = F.linear(x, self.condition_scale_shift).split(x.shape[-1], dim=-1)
        return scale + constants[1], shift + constants[2]

    def _scaled(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return h * torch.exp(self._log_scale(scale)) + shift

    def _unscaled(self, g: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return (g - shift) * torch.exp(-self._log_scale(scale))

    def _log_scale(self, x: Tensor) -> Tensor:
        return self.clamp * torch.tanh(x / 2)  # = clamp (2 sigmoid(x) - 1)


class FoldedRecurrence(nn.Module):
    """A whole plan on a folded network, float64 until ``.to`` says otherwise.

    Args:
        net: the reference network.
        keywords: features by name, each (cond_dim,).
        plan: what to run.
    """

    def __init__(self, net: CDFNet, keywords: Mapping[str, Tensor], plan: Plan) -> None:
        super().__init__()
        folded = fold(net)
        tables = {
            name: _constant(folded.keywords.table(k.detach().cpu().double().numpy()))
            for name, k in keywords.items()
        }
        self.plan = plan
        self.blocks = nn.ModuleList(Block(block, net.config.clamp) for block in folded.blocks)
        # One (blocks, 3, lanes, 1, dim) per step: a lane's constants broadcast over its tokens.
        self.constants = nn.ParameterList(
            _frozen(torch.stack([tables[item.keyword] for item in step], dim=2)[:, :, :, None])
            for step in plan.steps
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """The plan's inputs in order, each (tokens, dim) -> its output, (tokens, dim)."""
        values = dict(zip(self.plan.inputs, inputs, strict=True))
        for step, constants in zip(self.plan.steps, self.constants, strict=True):
            second = torch.stack([values[item.reads[1]] for item in step])
            firsts = [values[item.reads[0]] for item in step if item.reads[0] is not None]
            first = torch.stack(firsts) if firsts else torch.zeros_like(second)
            run = self.disentangle if step[0].direction == "disentangle" else self.fuse
            for stream, lanes in enumerate(run(first, second, constants)):
                for item, lane in zip(step, lanes.unbind(), strict=True):
                    name = item.writes[stream]
                    if name is not None:
                        values[name] = lane
        return values[self.plan.outputs[0]]

    def disentangle(self, h1: Tensor, h2: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 1, 2 on streams (lanes, tokens, dim); constants (blocks, 3, lanes, 1, dim)."""
        for j, block in enumerate(self.blocks):
            h1, h2 = cast(Block, block).disentangle(h1, h2, constants[j])
        return h1, h2

    def fuse(self, g1: Tensor, g2: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 3, 4, the inverse of :meth:`disentangle`."""
        for j, block in reversed(list(enumerate(self.blocks))):
            g1, g2 = cast(Block, block).fuse(g1, g2, constants[j])
        return g1, g2


def weight_elements(recurrence: FoldedRecurrence) -> int:
    """How many matrix elements one dependent step reads: its bytes at one byte a weight."""
    parameters = recurrence.blocks.parameters()
    return sum(parameter.numel() for parameter in parameters if parameter.ndim == 2)


def _constant(array: Array) -> nn.Parameter:
    return _frozen(torch.from_numpy(array))


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.clone(), requires_grad=False)
