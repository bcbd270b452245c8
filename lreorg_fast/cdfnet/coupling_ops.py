"""A whole stack of coupling blocks as ``torch.library`` ops, in constant memory.

``lreorg::coupling_forward`` (disentangle) and ``lreorg::coupling_inverse`` (fuse) take two streams
and the folded weights of all blocks, and keep for their gradients only what they return: blocks
invert, so ``lreorg::coupling_backward`` recomputes every block's input from its output.

On CUDA tensors the Triton kernels run; on CPU tensors plain PyTorch does the same, or, with
``TRITON_INTERPRET=1``, the kernels in Triton's interpreter. Shapes are those of ``coupling.py``.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet.coupling import HIDDEN_LAYERS, Steps, Weights, ordered, run
from lreorg_fast.cdfnet.coupling_plain import PlainSteps
from lreorg_fast.cdfnet.coupling_triton import TritonSteps
from lreorg_fast.errors import ConfigError

INTERPRETER_VARIABLE = "TRITON_INTERPRET"


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
    """Disentangle (Eq. 1, 2): all blocks in order. Shapes: see ``coupling.py``."""
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
    for block, coupling in ordered(weights, not inverse):
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


def _below_diagonal(chain: Tensor) -> Tensor:
    """(4g, 4g), 1 where a hidden layer reads an earlier one."""
    width = chain.shape[-1]
    layer = torch.arange(width, device=chain.device) // (width // HIDDEN_LAYERS)
    return (layer[:, None] > layer[None, :]).to(chain.dtype)


def _own(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
