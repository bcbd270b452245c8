"""A whole stack of coupling blocks as ``torch.library`` ops, in constant memory.

``lreorg::coupling_forward`` (disentangle) and ``lreorg::coupling_inverse`` (fuse) take two streams
and the folded weights of all blocks, and keep for their gradients only what they return: blocks
invert, so ``lreorg::coupling_backward`` recomputes every block's input from its output.

On CUDA tensors the Triton kernels run; on CPU tensors plain PyTorch does the same, or, with
``TRITON_INTERPRET=1``, the kernels in Triton's interpreter.

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
import functools
import importlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lreorg_fast.cdfnet.config import DENSE_LAYERS, LEAKY_SLOPE
from lreorg_fast.errors import BackendUnavailable, ConfigError

HIDDEN_LAYERS = DENSE_LAYERS - 1
INTERPRETER_VARIABLE = "TRITON_INTERPRET"


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


class PlainSteps:
    """Plain PyTorch, below autograd; what products read is rounded and multiplied in the streams'
    own dtype."""

    def __init__(self, clamp: float, products: torch.dtype) -> None:
        self._clamp = clamp
        self._products = products

    def stream(self, values: Tensor) -> Stream:
        own = values.clone()
        return Stream(own, self._round(own))

    def couple(
        self, coupling: Coupling, target: Stream, source: Stream, index: Tensor, inverse: bool
    ) -> None:
        results = self._results(coupling, self._hidden(coupling, source.copy), source.copy, index)
        if not coupling.scales:
            target.values.add_(results[0], alpha=-1 if inverse else 1)
        elif inverse:
            scale = torch.exp(-self._log_scale(results[0]))
            target.values.sub_(results[1]).mul_(scale)
        else:
            target.values.mul_(torch.exp(self._log_scale(results[0]))).add_(results[1])
        target.copy = self._round(target.values)

    def undo(
        self,
        coupling: Coupling,
        target: Stream,
        source: Stream,
        index: Tensor,
        inverse: bool,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        hidden = self._hidden(coupling, source.copy)
        results = self._results(coupling, hidden, source.copy, index)
        if not coupling.scales:
            target.values.add_(results[0], alpha=-1 if inverse else 1)
            of_result = (gradient if inverse else -gradient)[None]
        else:
            log_scale = self._log_scale(results[0])
            bounded = log_scale / self._clamp
            slope = 0.5 * self._clamp * (1 - bounded.square())
            if inverse:
                moved = target.values - results[1]
                of_result = torch.stack([gradient * moved * slope, gradient])
                target.values.copy_(moved * torch.exp(-log_scale))
                gradient.mul_(torch.exp(log_scale))
            else:
                of_scale = -gradient * target.values * slope
                target.values.mul_(torch.exp(log_scale)).add_(results[1])
                gradient.mul_(torch.exp(-log_scale))
                of_result = torch.stack([of_scale, -gradient])
        target.copy = self._round(target.values)
        return self._round(of_result), hidden

    def source_gradient(
        self, coupling: Coupling, hidden: Tensor | None, of_result: Tensor, gradient: Tensor
    ) -> Tensor | None:
        gradient.add_((of_result @ self._matrix(coupling.direct)).sum(0))
        if coupling.hidden is None:
            return None
        assert hidden is not None
        layers = coupling.hidden
        of_hidden = of_result @ self._matrix(layers.output)
        chain, growth = self._matrix(layers.chain), hidden.shape[-1] // HIDDEN_LAYERS
        for i in reversed(range(HIDDEN_LAYERS)):
            layer = slice(i * growth, (i + 1) * growth)
            part = of_hidden[..., layer]
            part = self._round(torch.where(hidden[..., layer] > 0, part, part * LEAKY_SLOPE))
            of_hidden[..., layer] = part
            of_hidden[..., : layer.start] += part @ chain[:, layer, : layer.start]
        gradient.add_((of_hidden @ self._matrix(layers.weights)).sum(0))
        return of_hidden

    def _hidden(self, coupling: Coupling, x: Tensor) -> Tensor | None:
        if coupling.hidden is None:
            return None
        layers = coupling.hidden
        pre = x @ self._matrix(layers.weights).mT + layers.bias[:, None]
        growth, chain = pre.shape[-1] // HIDDEN_LAYERS, self._matrix(layers.chain)
        hidden = pre[..., :0]
        for i in range(HIDDEN_LAYERS):
            layer = slice(i * growth, (i + 1) * growth)
            z = pre[..., layer] + hidden @ chain[:, layer, : layer.start].mT
            hidden = torch.cat([hidden, self._round(F.leaky_relu(z, LEAKY_SLOPE))], dim=-1)
        return hidden

    def _results(
        self, coupling: Coupling, hidden: Tensor | None, x: Tensor, index: Tensor
    ) -> Tensor:
        """What the subnets make of the source: (S, rows, D)."""
        results = x @ self._matrix(coupling.direct).mT
        if coupling.hidden is None:
            return results + coupling.table[index].transpose(0, 1)
        assert hidden is not None
        results += hidden @ self._matrix(coupling.hidden.output).mT
        return results + coupling.table[:, None]

    def _matrix(self, matrix: Tensor) -> Tensor:
        return self._round(matrix)

    def _round(self, x: Tensor) -> Tensor:
        return x.to(self._products).to(x.dtype)

    def _log_scale(self, x: Tensor) -> Tensor:
        return self._clamp * torch.tanh(x / 2)


class TritonSteps:
    """The Triton kernels; weights as products read them, or narrower."""

    def __init__(self, clamp: float, products: torch.dtype) -> None:
        self._kernels = kernels()
        self._clamp = clamp
        self._products = products

    def stream(self, values: Tensor) -> Stream:
        own = values.clone(memory_format=torch.contiguous_format)
        return Stream(own, own.to(self._products))

    def couple(
        self, coupling: Coupling, target: Stream, source: Stream, index: Tensor, inverse: bool
    ) -> None:
        self._couple(coupling, target, source, index, inverse, self._hidden(coupling, source))

    def undo(
        self,
        coupling: Coupling,
        target: Stream,
        source: Stream,
        index: Tensor,
        inverse: bool,
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        hidden = self._hidden(coupling, source)
        if not coupling.scales:
            self._couple(coupling, target, source, index, inverse, hidden)
            signed = gradient if inverse else -gradient
            return signed.to(self._products)[None], hidden
        of_result = source.copy.new_empty(2, *gradient.shape)
        self._couple(coupling, target, source, index, inverse, hidden, gradient, of_result)
        return of_result, hidden

    def source_gradient(
        self, coupling: Coupling, hidden: Tensor | None, of_result: Tensor, gradient: Tensor
    ) -> Tensor | None:
        add = self._kernels.add
        if coupling.hidden is None:
            for part, direct in zip(of_result, coupling.direct, strict=True):
                add(gradient, None, part, direct.T)
            return None
        layers = coupling.hidden
        of_hidden: Tensor = self._kernels.hidden_gradient(
            of_result, layers.output, hidden, layers.chain, LEAKY_SLOPE
        )
        parts = zip(of_result, coupling.direct, of_hidden, layers.weights, strict=True)
        for part, direct, hidden_part, weights in parts:
            add(gradient, None, part, direct.T, None, None, hidden_part, weights.T)
        return of_hidden

    def _hidden(self, coupling: Coupling, source: Stream) -> Tensor | None:
        if coupling.hidden is None:
            return None
        layers = coupling.hidden
        hidden: Tensor = self._kernels.hidden_layers(
            source.copy, layers.weights, layers.bias, layers.chain, LEAKY_SLOPE
        )
        return hidden

    def _couple(
        self,
        coupling: Coupling,
        target: Stream,
        source: Stream,
        index: Tensor,
        inverse: bool,
        hidden: Tensor | None,
        gradient: Tensor | None = None,
        of_result: Tensor | None = None,
    ) -> None:
        copy = None if target.copy is target.values else target.copy
        output = None if coupling.hidden is None else coupling.hidden.output
        tokens = index if coupling.hidden is None else None
        if coupling.scales:
            self._kernels.scale_shift(
                target.values,
                copy,
                source.copy,
                coupling.direct,
                coupling.table,
                tokens,
                hidden,
                output,
                self._clamp,
                inverse,
                gradient,
                of_result,
            )
            return
        self._kernels.add(
            target.values,
            copy,
            source.copy,
            coupling.direct[0],
            coupling.table.select(-2, 0),
            tokens,
            None if hidden is None else hidden[0],
            None if output is None else output[0],
            -1.0 if inverse else 1.0,
        )


def run(
    steps: Steps, h1: Tensor, h2: Tensor, index: Tensor, weights: Weights, inverse: bool
) -> tuple[Tensor, Tensor]:
    """All blocks on streams h1, h2 (rows, D); new tensors."""
    streams = (steps.stream(h1), steps.stream(h2))
    for _, coupling in _ordered(weights, inverse):
        target, source = streams[coupling.target], streams[1 - coupling.target]
        steps.couple(coupling, target, source, index, inverse)
    return streams[0].values, streams[1].values


@torch.library.custom_op("lreorg::coupling_forward", mutates_args=())
def coupling_forward(
    h1: Tensor,
    h2: Tensor,
    index: Tensor,
    constants: Tensor,
    condition: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    chain: Tensor,
    direct: Tensor,
    output: Tensor,
    output_bias: Tensor,
    clamp: float,
    products: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Disentangle (Eq. 1, 2): all blocks in order. Shapes: see the module's text."""
    weights = Weights(constants, condition, hidden, hidden_bias, chain, direct, output, output_bias)
    return _run_op(h1, h2, index, weights, clamp, products, inverse=False)


@torch.library.custom_op("lreorg::coupling_inverse", mutates_args=())
def coupling_inverse(
    h1: Tensor,
    h2: Tensor,
    index: Tensor,
    constants: Tensor,
    condition: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    chain: Tensor,
    direct: Tensor,
    output: Tensor,
    output_bias: Tensor,
    clamp: float,
    products: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Fuse (Eq. 3, 4): the inverse of all blocks, in reverse order."""
    weights = Weights(constants, condition, hidden, hidden_bias, chain, direct, output, output_bias)
    return _run_op(h1, h2, index, weights, clamp, products, inverse=True)


@torch.library.custom_op("lreorg::coupling_backward", mutates_args=())
def coupling_backward(
    gradient1: Tensor,
    gradient2: Tensor,
    result1: Tensor,
    result2: Tensor,
    index: Tensor,
    constants: Tensor,
    condition: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    chain: Tensor,
    direct: Tensor,
    output: Tensor,
    output_bias: Tensor,
    clamp: float,
    products: torch.dtype,
    inverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h1, h2, constants and all weights, from the results alone.

    Args:
        gradient1, gradient2: with respect to the results (rows, D) of coupling_forward, or of
            coupling_inverse if ``inverse``.
    """
    weights = Weights(constants, condition, hidden, hidden_bias, chain, direct, output, output_bias)
    with _own_precision(result1):
        return _gradients(
            (gradient1, gradient2),
            (result1, result2),
            index,
            weights,
            clamp,
            products,
            inverse,
        )


@coupling_forward.register_fake
@coupling_inverse.register_fake
def _(h1: Tensor, h2: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _like(h1), _like(h2)


@coupling_backward.register_fake
def _(gradient1: Tensor, gradient2: Tensor, *others: Any) -> tuple[Tensor, ...]:
    weights = others[3:11]
    return (_like(gradient1), _like(gradient2), *(torch.empty_like(x) for x in weights))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, *index_and_weights, clamp, products = inputs
    ctx.save_for_backward(*output, *index_and_weights)
    ctx.clamp, ctx.products = clamp, products


def _backward(
    ctx: Any, gradient1: Tensor, gradient2: Tensor, inverse: bool
) -> tuple[Tensor | None, ...]:
    of_h1, of_h2, *of_weights = coupling_backward(
        gradient1,
        gradient2,
        *ctx.saved_tensors,
        ctx.clamp,
        ctx.products,
        inverse,
    )
    return (of_h1, of_h2, None, *of_weights, None, None)


coupling_forward.register_autograd(functools.partial(_backward, inverse=False), setup_context=_keep)
coupling_inverse.register_autograd(functools.partial(_backward, inverse=True), setup_context=_keep)


def _run_op(
    h1: Tensor,
    h2: Tensor,
    index: Tensor,
    weights: Weights,
    clamp: float,
    products: torch.dtype,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    with _own_precision(h1):
        steps, weights = _prepared(h1, weights, clamp, products)
        return run(steps, h1, h2, index, weights, inverse)


def _own_precision(like: Tensor) -> torch.autocast:
    """Autocast, which acts on the products inside of an op too, switched off."""
    return torch.autocast(like.device.type, enabled=False)


def _gradients(
    of_results: tuple[Tensor, Tensor],
    results: tuple[Tensor, Tensor],
    index: Tensor,
    weights: Weights,
    clamp: float,
    products: torch.dtype,
    inverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    sums = Weights(*(torch.zeros_like(x) for x in weights.tensors()))
    dtype, below = weights.constants.dtype, _below_diagonal(weights.chain)
    steps, weights = _prepared(results[0], weights, clamp, products)
    streams = tuple(steps.stream(x) for x in results)
    gradients = tuple(_own(x) for x in of_results)
    for block, coupling in _ordered(weights, not inverse):
        target, source = streams[coupling.target], streams[1 - coupling.target]
        of_target, of_source = gradients[coupling.target], gradients[1 - coupling.target]
        of_result, layers = steps.undo(coupling, target, source, index, not inverse, of_target)
        of_hidden = steps.source_gradient(coupling, layers, of_result, of_source)
        at = block, coupling.roles
        if of_hidden is None or layers is None:
            sums.condition[at] = of_result.mT @ source.copy
            of_constants = of_result.to(dtype).transpose(0, 1)
            sums.constants[:, block, coupling.roles].index_add_(0, index, of_constants)
        else:
            sums.direct[at] = of_result.mT @ source.copy
            sums.output[at] = of_result.mT @ layers
            sums.output_bias[at] = of_result.sum(1, dtype=dtype)
            sums.hidden[at] = of_hidden.mT @ source.copy
            sums.hidden_bias[at] = of_hidden.sum(1, dtype=dtype)
            sums.chain[at] = (of_hidden.mT @ layers) * below
    return (*gradients, *sums.tensors())  # type: ignore[return-value]


def kernels() -> Any:
    """``lreorg_fast.kernels.triton.launch``, imported on first use.

    Raises:
        BackendUnavailable: triton is not installed.
    """
    # By name: kernels/ is part of the package only once it is installed, which mypy does not see.
    package = "lreorg_fast.kernels.triton"
    reason = importlib.import_module(package).missing()
    if reason is not None:
        raise BackendUnavailable(f"the Triton kernels cannot run: {reason}.")
    return importlib.import_module(f"{package}.launch")


def uses_kernels(device: torch.device) -> bool:
    """Whether the ops run the Triton kernels for tensors of this device."""
    return device.type == "cuda" or os.environ.get(INTERPRETER_VARIABLE) == "1"


def _prepared(
    like: Tensor, weights: Weights, clamp: float, products: torch.dtype
) -> tuple[Steps, Weights]:
    """What runs on this device, and the weights as it wants them."""
    if not uses_kernels(like.device):
        return PlainSteps(clamp, products), weights
    if like.dtype != torch.float32 or products == torch.float64:
        raise ConfigError(
            f"the Triton kernels have float32 streams, not {like.dtype}; convert the network with "
            ".float(), or run float64 on the CPU."
        )
    return TritonSteps(clamp, products), weights.rounded(products).contiguous()


def _ordered(weights: Weights, inverse: bool) -> Iterator[tuple[int, Coupling]]:
    """(block, coupling) of all blocks in the order of disentangling, or in reverse."""
    blocks = range(len(weights.condition))
    for block in reversed(blocks) if inverse else blocks:
        couplings = weights.couplings(block)
        for coupling in reversed(couplings) if inverse else couplings:
            yield block, coupling


def _below_diagonal(chain: Tensor) -> Tensor:
    """(4g, 4g), 1 where a hidden layer reads an earlier one."""
    width = chain.shape[-1]
    layer = torch.arange(width, device=chain.device) // (width // HIDDEN_LAYERS)
    return (layer[:, None] > layer[None, :]).to(chain.dtype)


def _own(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
