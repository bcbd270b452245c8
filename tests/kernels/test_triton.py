"""The Triton kernels in Triton's interpreter, against the float64 reference network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cdfnet.conftest import load_golden, named_net, normal, unit
from torch import Tensor
from triton_imports import imported_anew

import lreorg_fast as lf
from lreorg_fast.cdfnet.backends import Precision
from lreorg_fast.cdfnet.schedule import plan, single
from lreorg_fast.cdfnet.training_pass import TrainingPass
from lreorg_fast.cdfnet.triton_runner import TritonRunner
from tolerances import tolerance


@pytest.fixture(autouse=True, scope="module")
def launch() -> Iterator[Any]:
    with imported_anew(interpret=True) as module:
        assert module.INTERPRETED
        yield module


def latent(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(normal(name, shape)).double()


def largest(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())


def build(net: Any, keywords: dict[str, Tensor], dtype: str, exact: bool = False) -> TritonRunner:
    return TritonRunner.build(net, keywords, Precision(dtype, exact))


def test_the_default_recurrence_follows_the_golden() -> None:
    case = load_golden("small")
    runner = build(case.net, case.keywords, "float32")
    run = runner.prepare(plan([case.hidden], case.kept))
    (made,) = run([case.latent.float(), case.replacement.float()])
    assert largest(made, case.expected["reorganized"]) < tolerance("cdfnet engine", "float32")


@pytest.mark.parametrize(("dtype", "exact"), [("bfloat16", False), ("bfloat16", True)])
def test_half_precision_follows_the_golden(dtype: str, exact: bool) -> None:
    case = load_golden("small")
    runner = build(case.net, case.keywords, dtype, exact)
    run = runner.prepare(single("disentangle", case.hidden))
    made = run([case.latent.float()])
    for result, name in zip(made, ("key_feature", "residual"), strict=True):
        error = largest(result, case.expected[name])
        assert 0 < error < tolerance("triton interpreter", dtype)
    info = runner.build_info()
    assert info["activations"] == ("float32" if exact else dtype)
    assert info["kernels"] == "interpreted"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_fuse_inverts_disentangle(dtype: str) -> None:
    case = load_golden("small")
    runner = build(case.net, case.keywords, dtype, exact=True)
    halves = runner.prepare(single("disentangle", case.hidden))([case.latent.float()])
    loss, back = runner.prepare(single("fuse", case.hidden))(halves)
    limit = tolerance("cdfnet exact activations round trip", "float32")
    assert largest(back, case.latent) < limit
    assert float(loss.abs().max()) < limit


@pytest.mark.parametrize(
    ("dim", "growth", "tokens"),
    [(1, 1, 1), (20, 3, 33), (64, 16, 5), (48, 17, 0), (33, 70, 3)],
    ids=["smallest", "odd", "even", "no_tokens", "layers_too_wide_to_fuse"],
)
def test_any_size_follows_the_reference(dim: int, growth: int, tokens: int) -> None:
    net = named_net(lf.CDFNetConfig(dim, 4, 2, growth, clamp=1.5))
    keywords = {name: unit(name, 4) for name in ("a", "b")}
    s, f = latent("s", tokens, dim), latent("f", tokens, dim)
    expected = net.reorganize(s, keywords, {"a": f}, ["b"])
    run = build(net, keywords, "float32").prepare(plan(["a"], ["b"]))
    (made,) = run([s.float(), f.float()])
    limit = tolerance("cdfnet engine", "float32")
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=limit)


def test_other_keywords_share_the_weights() -> None:
    net = named_net(lf.CDFNetConfig(16, 4, 1, 4))
    s, k = latent("s", 3, 16), unit("other", 4)
    runner = build(net, {"a": unit("a", 4)}, "float32").with_keywords({"other": k})
    f, r = runner.prepare(single("disentangle", "other"))([s.float()])
    limit = tolerance("cdfnet engine", "float32")
    assert largest(torch.stack([f, r]), torch.stack(net.disentangle(s, k))) < limit


@pytest.mark.parametrize("growth", [5, 66], ids=["fused", "layers_too_wide_to_fuse"])
def test_gradients_are_those_of_stored_activations(growth: int) -> None:
    net = lf.CDFNet(lf.CDFNetConfig(20, 6, 2, growth))
    net.load_state_dict(named_net(net.config).state_dict())
    s = latent("s", 3, 7, 20).float().requires_grad_()
    k = latent("k", 3, 1, 6).float().requires_grad_()
    inputs = [s, k, *net.parameters()]

    def gradients(passes: Any) -> tuple[Tensor, ...]:
        f, r = passes.disentangle(s, k)
        loss, fused = passes.fuse(1.3 * f + 0.1, r, k)
        total = f.sin().sum() + r.square().sum() + loss.cos().sum() + fused.square().sum()
        return torch.autograd.grad(total, inputs)

    for made, expected in zip(gradients(TrainingPass(net)), gradients(net), strict=True):
        error = largest(made, expected) / float(expected.abs().max())
        assert error < tolerance("recomputed gradient", "float32")


def test_float64_is_refused() -> None:
    net = named_net(lf.CDFNetConfig(4, 3, 1, 2))
    with pytest.raises(lf.errors.ConfigError, match=r"float32 streams.*\.float\(\)"):
        TrainingPass(net).disentangle(latent("s", 2, 4), unit("k", 3))
