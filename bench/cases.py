"""What is benchmarked: ``reorganize-default`` on ``cdfnet-base``, and its float64 result."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

import lreorg_fast as lf
from bench import TOKENS
from lreorg_fast.cdfnet import Engine, Plan
from lreorg_fast.cdfnet.backends import BACKENDS

HIDE = "identity"
KEEP = ("gender", "age", "expression", "makeup")
KEYWORDS = (HIDE, *KEEP)
BASE = lf.CDFNetConfig()

# Cases beyond this many faces repeat these, so that the float64 result of 256 faces takes seconds
# and every row of every result is still compared. No variant's time depends on the values.
DISTINCT_FACES = 16


@functools.cache
def network(config: lf.CDFNetConfig = BASE) -> tuple[lf.CDFNet, dict[str, Tensor]]:
    """A network with weights of the goldens' size, and unit keyword features by name."""
    generator = torch.Generator().manual_seed(0)
    net = lf.CDFNet(config).requires_grad_(False)
    for parameter in net.parameters():
        scale = 0.1 / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.02
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    features = torch.randn(len(KEYWORDS), config.cond_dim, generator=generator)
    features = torch.nn.functional.normalize(features, dim=1)
    return net, dict(zip(KEYWORDS, features, strict=True))


def inputs(faces: int, config: lf.CDFNetConfig = BASE) -> tuple[Tensor, Tensor]:
    """(latents, new key features of the hidden keyword), each float32 (faces, TOKENS, dim)."""
    s, f = _distinct_inputs(config)
    return _repeated(s, faces), _repeated(f, faces)


def expected(faces: int, config: lf.CDFNetConfig = BASE) -> Tensor:
    """The reorganized latents by the float64 reference, (faces, TOKENS, dim)."""
    return _repeated(_distinct_expected(min(faces, DISTINCT_FACES), config), faces)


@functools.cache
def engine(
    backend: str, dtype: str, activations: str = "auto", config: lf.CDFNetConfig = BASE
) -> Engine:
    """The compiled network of this configuration."""
    net, keywords = network(config)
    return lf.compile(net, keywords, backend=backend, dtype=dtype, activations=activations)


def recurrence() -> Plan:
    """The plan of ``reorganize-default``."""
    return lf.plan(hide=[HIDE], keep=KEEP)


def offered_dtypes(backend: str = "cpu") -> tuple[str, ...]:
    """The weight types that a backend offers, bfloat16 (the default) first."""
    (info,) = (info for info in BACKENDS if info.name == backend)
    return tuple(sorted(info.dtypes, key=lambda dtype: (dtype != "bfloat16", dtype)))


@functools.cache
def _distinct_inputs(config: lf.CDFNetConfig) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    s = torch.randn(DISTINCT_FACES, TOKENS, config.dim, generator=generator)
    f = 0.1 * torch.randn(s.shape, generator=generator)
    return s, f


@functools.cache
def _distinct_expected(faces: int, config: lf.CDFNetConfig) -> Tensor:
    s, f = inputs(faces, config)
    reference = engine("reference", "float64", config=config)
    return reference.reorganize(s.double(), {HIDE: f}, KEEP)


def _repeated(rows: Tensor, faces: int) -> Tensor:
    return rows[torch.arange(faces) % len(rows)]
