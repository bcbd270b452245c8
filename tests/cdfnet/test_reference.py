from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import ConfigError
from tolerances import tolerance

DATA = Path(__file__).parents[1] / "data"
CONFIGS = st.builds(
    CDFNetConfig,
    dim=st.integers(1, 12),
    cond_dim=st.integers(1, 9),
    num_blocks=st.integers(1, 4),
    growth=st.integers(1, 6),
    clamp=st.floats(0.1, 3.0),
)


def largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def test_reproduces_the_goldens(golden: Any) -> None:
    limit = tolerance("cdfnet golden", "float64")
    k = golden.keywords[golden.hidden]
    f, r = golden.net.disentangle(golden.latent, k)
    loss, fused = golden.net.fuse(golden.replacement, r, k)
    reorganized = golden.net.reorganize(
        golden.latent, golden.keywords, {golden.hidden: golden.replacement}, golden.kept
    )
    assert largest(f, golden.expected["key_feature"]) < limit
    assert largest(r, golden.expected["residual"]) < limit
    assert largest(loss, golden.expected["loss"]) < limit
    assert largest(fused, golden.expected["fused"]) < limit
    assert largest(reorganized, golden.expected["reorganized"]) < limit


def test_state_dict_names_and_shapes_are_the_published_ones() -> None:
    config = CDFNetConfig(dim=64, cond_dim=32, num_blocks=4, growth=16)
    expected = json.loads((DATA / "cdfnet-small.keys.json").read_text())
    assert [[n, list(p.shape)] for n, p in CDFNet(config).state_dict().items()] == expected


def test_a_fresh_network_is_the_identity() -> None:
    net = CDFNet(CDFNetConfig(dim=6, cond_dim=3, num_blocks=2, growth=2))
    s, k = torch.randn(4, 6), torch.randn(3)
    f, r = net.disentangle(s, k)
    assert torch.equal(f, torch.zeros_like(s))
    assert torch.equal(r, s)


def test_a_fresh_network_can_learn() -> None:
    net = CDFNet(CDFNetConfig(dim=6, cond_dim=3, num_blocks=2, growth=2))
    f, r = net.disentangle(torch.randn(4, 6), torch.randn(3))
    ((f - 1).square().sum() + (r - 1).square().sum()).backward()
    for block in net.blocks:
        for last in (block.cond.add.out, block.cond.scale.out, block.dense.add.layers[4]):
            assert last.weight.grad.abs().max() > 0


def test_a_unit_keyword_weighs_as_much_as_the_latent_at_the_start() -> None:
    net = CDFNet(CDFNetConfig(dim=256, cond_dim=64, num_blocks=1, growth=2))
    subnet = net.blocks[0].cond.add
    k = torch.nn.functional.normalize(torch.randn(64), dim=0)
    ratio = subnet.keyword(k).std() / subnet.latent(torch.randn(100, 256)).std()
    assert 0.5 < ratio < 2


@given(CONFIGS, st.integers(0, 5), st.integers(0, 2**31))
def test_fuse_inverts_disentangle(config: CDFNetConfig, tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    net = CDFNet(config).double().requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    s = torch.randn(tokens, config.dim, generator=generator, dtype=torch.float64)
    k = torch.randn(config.cond_dim, generator=generator, dtype=torch.float64)
    f, r = net.disentangle(s, k)
    loss, back = net.fuse(f, r, k)
    size = 1 + max((float(x.abs().max()) for x in (f, r) if x.numel()), default=0.0)
    torch.testing.assert_close(back, s, rtol=0, atol=1e-11 * size**2)
    torch.testing.assert_close(loss, torch.zeros_like(s), rtol=0, atol=1e-11 * size**2)


def test_float32_inverse_is_near_exact(small: Any) -> None:
    net = CDFNet(small.net.config).requires_grad_(False)
    net.load_state_dict(small.net.state_dict())
    s, k = small.latent.float(), small.keywords[small.hidden].float()
    loss, back = net.fuse(*net.disentangle(s, k), k)
    assert largest(back, s) < tolerance("cdfnet inverse", "float32")
    assert float(loss.abs().max()) < tolerance("cdfnet inverse", "float32")


def test_keywords_broadcast_over_tokens_and_faces(small: Any) -> None:
    s = small.latent.expand(3, -1, -1)
    keywords = torch.stack(list(small.keywords.values()))[:, None]
    f, r = small.net.disentangle(s, keywords)
    assert f.shape == r.shape == s.shape
    for i, k in enumerate(small.keywords.values()):
        one = small.net.disentangle(small.latent, k)
        torch.testing.assert_close((f[i], r[i]), one, rtol=0, atol=1e-12)


def test_one_latent_under_several_keywords(small: Any) -> None:
    keywords = torch.stack(list(small.keywords.values()))[:, None]
    f, r = small.net.disentangle(small.latent, keywords)
    assert f.shape == r.shape == (3, *small.latent.shape)


def test_tokens_are_independent(small: Any) -> None:
    k = small.keywords[small.hidden]
    order = torch.arange(len(small.latent)).flip(0)
    f, r = small.net.disentangle(small.latent, k)
    flipped = small.net.disentangle(small.latent[order], k)
    torch.testing.assert_close(flipped, (f[order], r[order]), rtol=0, atol=1e-13)


def test_gradients_are_exact() -> None:
    net = CDFNet(CDFNetConfig(dim=3, cond_dim=2, num_blocks=2, growth=2)).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    s = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    k = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net.disentangle, (s, k))
    r = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net.fuse, (s, r, k))


@pytest.mark.parametrize(
    ("s", "k", "message"),
    [
        (torch.zeros(2, 5), torch.zeros(3), "dim = 6"),
        (torch.tensor(1.0), torch.zeros(3), "dim = 6"),
        (torch.zeros(2, 6), torch.zeros(4), "cond_dim = 3"),
        (torch.zeros(2, 6, dtype=torch.float64), torch.zeros(3), "float64"),
        (torch.zeros(2, 6), torch.zeros(3, dtype=torch.bfloat16), "bfloat16"),
        (torch.zeros(2, 6, dtype=torch.int64), torch.zeros(3), "int64"),
        (torch.zeros(2, 6), torch.zeros(5, 3), "broadcast"),
    ],
)
def test_wrong_inputs_are_explained(s: Tensor, k: Tensor, message: str) -> None:
    net = CDFNet(CDFNetConfig(dim=6, cond_dim=3, num_blocks=1, growth=2))
    with pytest.raises(ConfigError, match=message):
        net.disentangle(s, k)
    with pytest.raises(ConfigError, match=message):
        net.fuse(s, s, k)


def test_reorganize_names_an_unknown_keyword(small: Any) -> None:
    with pytest.raises(ConfigError, match="moustache"):
        small.net.reorganize(small.latent, small.keywords, {}, ["moustache"])
