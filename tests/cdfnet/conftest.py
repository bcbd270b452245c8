"""Networks and inputs made from names alone, by the rule of spec/cdfnet.md, and the goldens."""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig

DATA = Path(__file__).parents[1] / "data"


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return generator.standard_normal(shape).astype(np.float32)


def parameter(name: str, shape: tuple[int, ...]) -> Tensor:
    scale = 0.1 / np.sqrt(shape[-1]) if len(shape) == 2 else 0.02
    return torch.from_numpy(np.float32(scale) * normal(name, shape))


@functools.cache
def named_net(config: CDFNetConfig) -> CDFNet:
    """A float64 network whose parameters follow from their names; not to be changed."""
    net = CDFNet(config).double().requires_grad_(False)
    net.load_state_dict({n: parameter(n, tuple(p.shape)) for n, p in net.state_dict().items()})
    return net


def unit(name: str, width: int) -> Tensor:
    k = torch.from_numpy(normal(name, (width,)).astype(np.float64))
    return k / k.norm()


@dataclasses.dataclass(frozen=True)
class Golden:
    net: CDFNet
    latent: Tensor
    keywords: dict[str, Tensor]
    replacement: Tensor
    expected: dict[str, Tensor]

    @property
    def hidden(self) -> str:
        return next(iter(self.keywords))

    @property
    def kept(self) -> list[str]:
        return list(self.keywords)[1:]


@functools.cache
def load_golden(size: str) -> Golden:
    name = f"cdfnet-{size}"
    with np.load(DATA / f"{name}.npz") as file:
        arrays = dict(file)
    config = CDFNetConfig.from_dict(json.loads(str(arrays.pop("config"))))
    shape = (int(arrays.pop("tokens")), config.dim)
    # The goldens stop after the third keyword (small) and the fifth (base).
    count = {"small": 3, "base": 5}[size]
    return Golden(
        net=named_net(config),
        latent=torch.from_numpy(normal(f"{name}:latent", shape).astype(np.float64)),
        keywords={
            f"keyword{i}": unit(f"{name}:keyword:{i}", config.cond_dim) for i in range(count)
        },
        replacement=torch.from_numpy(0.1 * normal(f"{name}:replacement", shape).astype(np.float64)),
        expected={key: torch.from_numpy(value) for key, value in arrays.items()},
    )


@pytest.fixture(params=["small", "base"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)


@pytest.fixture
def small() -> Golden:
    return load_golden("small")


@pytest.fixture(scope="session")
def base() -> Golden:
    return load_golden("base")


@pytest.fixture(scope="session")
def make_net() -> Callable[[CDFNetConfig], CDFNet]:
    return named_net


@pytest.fixture(scope="session")
def make_latent() -> Callable[..., Tensor]:
    """(name, *shape) -> float64 standard normals."""
    return lambda name, *shape: torch.from_numpy(normal(name, shape).astype(np.float64))
