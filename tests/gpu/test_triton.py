"""The Triton kernels on a GPU: training's gradients, and plans replayed as CUDA graphs.

What the engine computes on every backend is in test_engine_gpu.py.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from cdfnet.conftest import Golden, load_golden
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast.cdfnet import coupling_ops
from lreorg_fast.cdfnet.replay import Replayed
from lreorg_fast.cdfnet.training_pass import TrainingPass
from tolerances import tolerance

pytest.importorskip("triton", reason="triton is not installed: pip install triton")


def on_gpu(config: lf.CDFNetConfig) -> lf.CDFNet:
    net = lf.CDFNet(config)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3 / parameter.shape[-1] ** 0.5)
    return net.cuda()


def gradients(passes: Any, net: lf.CDFNet, s: Tensor, k: Tensor) -> list[Tensor]:
    f, r = passes.disentangle(s, k)
    loss, fused = passes.fuse(1.3 * f + 0.1, r, k)
    total = f.sin().sum() + r.square().sum() + loss.cos().sum() + fused.square().sum()
    return list(torch.autograd.grad(total, [s, k, *net.parameters()]))


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        (lf.CDFNetConfig(64, 32, 4, 16), 70),
        (lf.CDFNetConfig(50, 9, 3, 5), 33),
        (lf.CDFNetConfig(96, 8, 2, 80), 200),
        (lf.CDFNetConfig(256, 64, 4, 32), 3584),
    ],
    ids=["small", "odd", "layers_too_wide_to_fuse", "large_tiles"],
)
def test_gradients_are_those_of_float64(config: lf.CDFNetConfig, rows: int) -> None:
    net = on_gpu(config)
    s = torch.randn(rows, config.dim, device="cuda", requires_grad=True)
    k = torch.randn(config.cond_dim, device="cuda", requires_grad=True)
    made = gradients(TrainingPass(net), net, s, k)
    double = lf.CDFNet(config).cuda().double()
    double.load_state_dict(net.state_dict())
    wide = [x.detach().double().requires_grad_() for x in (s, k)]
    expected = gradients(double, double, *wide)
    far = [float((a - b).norm() / b.norm()) for a, b in zip(made, expected, strict=True)]
    assert max(far) < tolerance("recomputed gradient on a GPU", "float32")


@pytest.mark.parametrize("products", [torch.bfloat16, torch.float16])
def test_rounded_products_point_the_same_way(products: torch.dtype) -> None:
    net = on_gpu(lf.CDFNetConfig(128, 32, 4, 16))
    s = torch.randn(64, 14, 128, device="cuda", requires_grad=True)
    k = torch.randn(64, 1, 32, device="cuda", requires_grad=True)
    passes = (TrainingPass(net, products), TrainingPass(net))
    made, expected = (torch.cat([x.flatten() for x in gradients(p, net, s, k)]) for p in passes)
    error = float((made - expected).norm() / expected.norm())
    assert 1e-5 < error < tolerance("recomputed gradient", str(products).removeprefix("torch."))


@pytest.mark.parametrize("op", [coupling_ops.coupling_forward, coupling_ops.coupling_inverse])
def test_opcheck(op: Any) -> None:
    net = on_gpu(lf.CDFNetConfig(32, 4, 2, 3))
    weights = TrainingPass(net).weights(torch.randn(2, 4, device="cuda")).tensors()
    streams = torch.randn(2, 5, 32, device="cuda").unbind()
    leaves = [x.detach().clone().requires_grad_() for x in (*streams, *weights)]
    index = torch.tensor([0, 1, 1, 0, 1], dtype=torch.int32, device="cuda")
    torch.library.opcheck(op, (*leaves[:2], index, *leaves[2:], 2.0, torch.float32))


def test_a_training_step_compiles_as_one_graph() -> None:
    net = on_gpu(lf.CDFNetConfig(32, 4, 2, 8))
    s = torch.randn(9, 32, device="cuda", requires_grad=True)
    k = torch.randn(4, device="cuda")

    def step(s: Tensor) -> Tensor:
        f, r = TrainingPass(net).disentangle(s, k)
        return f.square().sum() + r.sin().sum()

    compiled = torch.compile(step, fullgraph=True)
    (made,) = torch.autograd.grad(compiled(s), s)
    (expected,) = torch.autograd.grad(step(s), s)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def run_twice_and_replay(engine: Any, case: Golden, s: Tensor) -> list[Tensor]:
    """Direct, recorded, replayed."""
    replace = {case.hidden: case.replacement.cuda()}
    return [engine.reorganize(s, replace, case.kept) for _ in range(3)]


@pytest.fixture
def engine() -> Any:
    case = load_golden("small")
    net = lf.CDFNet(case.net.config).double()
    net.load_state_dict(case.net.state_dict())
    keywords = {name: k.cuda() for name, k in case.keywords.items()}
    return lf.compile(net.cuda(), keywords, backend="triton", dtype="bfloat16")


def test_a_replay_is_bit_equal_to_the_launches(engine: Any) -> None:
    case = load_golden("small")
    first, *others = run_twice_and_replay(engine, case, case.latent.cuda().float())
    for other in others:
        assert torch.equal(other, first)


def test_threads_and_streams_share_recordings(engine: Any) -> None:
    case = load_golden("small")
    latents = [case.latent.cuda().float() * scale for scale in (0.5, 1.0, 1.5, 2.0)]
    expected = [run_twice_and_replay(engine, case, s)[0] for s in latents]
    made: list[list[Tensor]] = [[] for _ in latents]

    def work(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                made[i] += run_twice_and_replay(engine, case, latents[i])[:1]
            torch.cuda.current_stream().synchronize()

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(latents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results, wanted in zip(made, expected, strict=True):
        assert len(results) == 20
        assert all(torch.equal(result, wanted) for result in results)


def test_recordings_are_bounded() -> None:
    replayed = Replayed(lambda inputs: [2 * inputs[0]], most=2)
    for _ in range(3):
        for tokens in (1, 2, 3, 4):
            x = torch.full((tokens, 4), float(tokens), device="cuda")
            (made,) = replayed([x])
            assert torch.equal(made, 2 * x)


def test_runs_inside_of_a_capture() -> None:
    replayed = Replayed(lambda inputs: [inputs[0] + 1])
    x = torch.zeros(3, 4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        (made,) = replayed([x])
    x.fill_(5)
    graph.replay()
    assert torch.equal(made, x + 1)
