"""The passes of training on the CPU: gradients, constant memory, and what torch asks of ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast.cdfnet import coupling_ops, coupling_triton
from lreorg_fast.cdfnet.training_pass import TrainingPass
from lreorg_fast.errors import BackendUnavailable, ConfigError
from tolerances import tolerance

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(coupling_ops.INTERPRETER_VARIABLE, raising=False)


def random_net(config: lf.CDFNetConfig, dtype: torch.dtype = torch.float32) -> lf.CDFNet:
    net = lf.CDFNet(config).to(dtype)
    for parameter in net.parameters():
        # Larger ones amplify rounding until no two float32 gradients agree.
        torch.nn.init.normal_(parameter, std=0.3 / parameter.shape[-1] ** 0.5)
    return net


def losses(passes: Any, s: Tensor, k: Tensor) -> Tensor:
    """Something that every result of both directions takes part in."""
    f, r = passes.disentangle(s, k)
    loss, fused = passes.fuse(1.3 * f + 0.1, r, k)
    return f.sin().sum() + r.square().sum() + loss.cos().sum() + fused.square().sum()


def worst(made: Any, expected: Any) -> float:
    """The largest error of any tensor, relative to the tensor's largest entry."""
    pairs = zip(made, expected, strict=True)
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)


def test_results_are_those_of_the_golden(small: Any) -> None:
    passes = TrainingPass(small.net)
    k = small.keywords[small.hidden]
    f, r = passes.disentangle(small.latent, k)
    loss, fused = passes.fuse(small.replacement, r, k)
    limit = tolerance("cdfnet golden", "float64")
    for made, name in ((f, "key_feature"), (r, "residual"), (loss, "loss"), (fused, "fused")):
        assert float((made - small.expected[name]).abs().max()) < limit


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_gradients_are_those_of_stored_activations(dtype: torch.dtype) -> None:
    made, expected = gradients(dtype, torch.float32)
    assert worst(made, expected) < tolerance("recomputed gradient", "float32")


@pytest.mark.parametrize("products", [torch.float16, torch.bfloat16])
def test_rounded_products_point_the_same_way(products: torch.dtype) -> None:
    made, expected = (
        torch.cat([x.flatten() for x in g]) for g in gradients(torch.float32, products)
    )
    error = float((made - expected).norm() / expected.norm())
    assert 1e-5 < error < tolerance("recomputed gradient", str(products).removeprefix("torch."))


def gradients(dtype: torch.dtype, products: torch.dtype) -> tuple[Any, Any]:
    """Of the training pass, and of the network in its own precision."""
    net = random_net(lf.CDFNetConfig(dim=24, cond_dim=5, num_blocks=4, growth=6), dtype)
    s = torch.randn(3, 7, 24, dtype=dtype, requires_grad=True)
    k = torch.randn(3, 1, 5, dtype=dtype, requires_grad=True)
    inputs = [s, k, *net.parameters()]
    made = torch.autograd.grad(losses(TrainingPass(net, products), s, k), inputs)
    return made, torch.autograd.grad(losses(net, s, k), inputs)


def test_gradients_are_exact() -> None:
    net = random_net(lf.CDFNetConfig(3, 2, 2, 2), DOUBLE)
    s, f = (torch.randn(2, 3, dtype=DOUBLE, requires_grad=True) for _ in range(2))
    k = torch.randn(2, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(TrainingPass(net).disentangle, (s, k))
    assert torch.autograd.gradcheck(TrainingPass(net).fuse, (f, s, k))


@pytest.mark.parametrize("op", [coupling_ops.coupling_forward, coupling_ops.coupling_inverse])
def test_gradients_of_every_folded_weight_are_exact(op: Any) -> None:
    arguments = op_arguments(DOUBLE)
    assert torch.autograd.gradcheck(op, arguments, atol=1e-6)


def op_arguments(dtype: torch.dtype) -> tuple[Any, ...]:
    net = random_net(lf.CDFNetConfig(3, 2, 2, 1), dtype)
    h1, h2 = torch.randn(2, 3, 3, dtype=dtype).unbind()
    weights = TrainingPass(net).weights(torch.randn(2, 2, dtype=dtype)).tensors()
    leaves = [x.detach().clone().requires_grad_() for x in (h1, h2, *weights)]
    index = torch.tensor([0, 1, 1], dtype=torch.int32)
    return (*leaves[:2], index, *leaves[2:], 2.0, dtype)


@pytest.mark.parametrize("op", [coupling_ops.coupling_forward, coupling_ops.coupling_inverse])
def test_opcheck(op: Any) -> None:
    torch.library.opcheck(op, op_arguments(torch.float32))


@pytest.mark.parametrize("inverse", [False, True])
def test_opcheck_of_the_backward(inverse: bool) -> None:
    h1, h2, *others = op_arguments(torch.float32)
    plain = [x.detach() if isinstance(x, Tensor) else x for x in others]
    streams = [x.detach() for x in (h1, h2, h2, h1)]
    torch.library.opcheck(coupling_ops.coupling_backward, (*streams, *plain, inverse))


def test_compiles_as_one_graph() -> None:
    net = random_net(lf.CDFNetConfig(8, 3, 2, 2))
    s, k = torch.randn(4, 8, requires_grad=True), torch.randn(3)

    def step(s: Tensor, k: Tensor) -> Tensor:
        return losses(TrainingPass(net), s, k)

    inputs = [s, *net.parameters()]
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    made = torch.autograd.grad(compiled(s, k), inputs)
    expected = torch.autograd.grad(step(s, k), inputs)
    assert worst(made, expected) < tolerance("recomputed gradient", "float32")


def saved_for_rows(blocks: int, run: Callable[[lf.CDFNet, Tensor], Any]) -> int:
    """Bytes kept for the backward pass that grow with the number of tokens."""
    net = random_net(lf.CDFNetConfig(8, 3, blocks, 2))

    def kept(rows: int) -> int:
        sizes: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            alive.append(x)
            return x

        alive: list[Tensor] = []
        s = torch.randn(rows, 8, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            results = run(net, s)
        assert results[0].requires_grad
        return sum(sizes.values())

    return kept(80) - kept(40)


def test_memory_is_constant_in_depth() -> None:
    k = torch.randn(3)

    def recomputed(net: lf.CDFNet, s: Tensor) -> Any:
        return TrainingPass(net).disentangle(s, k)

    def stored(net: lf.CDFNet, s: Tensor) -> Any:
        return net.disentangle(s, k)

    assert saved_for_rows(1, recomputed) == saved_for_rows(6, recomputed) > 0
    assert saved_for_rows(6, stored) > 5 * saved_for_rows(1, stored)


def test_folding_stays_exact_under_autocast() -> None:
    net = random_net(lf.CDFNetConfig(8, 3, 2, 2))
    s, k = torch.randn(4, 8), torch.randn(3)
    with torch.autocast("cpu", torch.bfloat16):
        made = TrainingPass(net).disentangle(s, k)
    expected = net.disentangle(s, k)
    assert worst(made, expected) < tolerance("cdfnet inverse", "float32")


def test_keywords_broadcast_as_in_the_network() -> None:
    net = random_net(lf.CDFNetConfig(4, 3, 1, 2))
    s, k = torch.randn(2, 1, 4), torch.randn(5, 3)
    made, expected = TrainingPass(net).disentangle(s, k), net.disentangle(s, k)
    torch.testing.assert_close(made, expected)
    f = torch.randn(4)
    torch.testing.assert_close(TrainingPass(net).fuse(f, s, k), net.fuse(f, s, k))


def test_wrong_inputs_are_explained() -> None:
    net = lf.CDFNet(lf.CDFNetConfig(4, 3, 1, 2))
    with pytest.raises(ConfigError, match="dim = 4"):
        TrainingPass(net).disentangle(torch.zeros(2, 5), torch.zeros(3))
    with pytest.raises(ConfigError, match=r"products is torch\.int8"):
        TrainingPass(net, torch.int8)


def test_a_missing_triton_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "triton", None)
    with pytest.raises(BackendUnavailable, match="pip install triton"):
        coupling_triton.kernels()
