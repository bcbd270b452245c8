"""The native engine against the reference network: the default reorganization at 1 and 8 faces.

``pytest bench/test_engine.py`` prints medians and spreads; nothing here asserts a time. Every
variant is compared with the float64 reference in the run that times it.
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import pytest
import torch
from torch import Tensor

import lreorg_fast as lf
from tolerances import tolerance

TOKENS = 14  # one face at 256 px
ROUNDS = 7
HIDE = "identity"
KEEP = ("gender", "age", "expression", "makeup")


@functools.cache
def network() -> tuple[lf.CDFNet, dict[str, Tensor]]:
    """cdfnet-base with weights of the goldens' size, and unit keyword features."""
    generator = torch.Generator().manual_seed(0)
    net = lf.CDFNet(lf.CDFNetConfig()).requires_grad_(False)
    for parameter in net.parameters():
        scale = 0.1 / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.02
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    features = torch.randn(1 + len(KEEP), net.config.cond_dim, generator=generator)
    features = torch.nn.functional.normalize(features, dim=1)
    return net, dict(zip((HIDE, *KEEP), features, strict=True))


@functools.cache
def case(faces: int) -> tuple[Tensor, Tensor, Tensor]:
    """(latents, new key features, reorganized latents in float64)."""
    generator = torch.Generator().manual_seed(faces)
    s = torch.randn(faces, TOKENS, network()[0].config.dim, generator=generator)
    f = 0.1 * torch.randn(s.shape, generator=generator)
    exact = engine("reference", "float64").reorganize(s.double(), {HIDE: f}, KEEP)
    return s, f, exact


@functools.cache
def engine(backend: str, dtype: str) -> Any:
    net, keywords = network()
    return lf.compile(net, keywords, backend=backend, dtype=dtype)


@pytest.mark.parametrize("faces", [1, 8])
@pytest.mark.parametrize(
    ("backend", "dtype"), [("cpu", "bfloat16"), ("cpu", "float32"), ("reference", "float32")]
)
def test_default_reorganization(benchmark: Any, backend: str, dtype: str, faces: int) -> None:
    s, f, exact = case(faces)
    runner = engine(backend, dtype)
    benchmark.group = f"reorganize-default, {faces} face(s) of {TOKENS} tokens"
    benchmark.extra_info.update(
        runner.build_info(), torch=torch.__version__, machine=platform.processor()
    )
    made = benchmark.pedantic(
        runner.reorganize, (s, {HIDE: f}, KEEP), rounds=ROUNDS, warmup_rounds=1
    )
    assert float((made - exact).abs().max()) < tolerance("cdfnet engine", dtype)
