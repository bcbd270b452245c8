"""CDFNet in plain PyTorch: the definition of correct.

Every other backend is compared with this module, so it follows the equations literally and is
never optimised. It runs in float32 and float64 on any device and is differentiable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lreorg_fast.cdfnet.config import DENSE_LAYERS, LEAKY_SLOPE, CDFNetConfig
from lreorg_fast.errors import ConfigError


class ConditionSubnet(nn.Module):
    """phi(a, k) = out([latent(a) ; keyword(k)]) of Eq. 1: three linear maps, no activation.

    Starts at zero (``out`` is zero). ``latent`` keeps PyTorch's default; ``keyword`` is scaled up
    by sqrt(cond_dim), because a keyword feature has unit length while a latent row has about unit
    variance per entry: with it both halves of ``out``'s input start at the same size.
    """

    def __init__(self, dim: int, cond_dim: int) -> None:
        super().__init__()
        self.latent = nn.Linear(dim, dim)
        self.keyword = nn.Linear(cond_dim, dim)
        self.out = nn.Linear(2 * dim, dim)
        with torch.no_grad():
            self.keyword.weight.mul_(cond_dim**0.5)
        _zero(self.out)

    def forward(self, a: Tensor, k: Tensor) -> Tensor:
        """a (..., dim), k (..., cond_dim), leading shapes broadcast -> (..., dim)."""
        halves = torch.broadcast_tensors(self.latent(a), self.keyword(k))
        out: Tensor = self.out(torch.cat(halves, dim=-1))
        return out


class DenseSubnet(nn.Module):
    """psi(x) of Eq. 2: four leaky layers that each see everything before them, then a linear one.

    Starts at zero (the last layer is zero); the hidden layers keep PyTorch's default.
    """

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        last = DENSE_LAYERS - 1
        self.layers = nn.ModuleList(
            nn.Linear(dim + i * growth, dim if i == last else growth) for i in range(DENSE_LAYERS)
        )
        _zero(self.layers[last])

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim)."""
        seen = x
        for layer in self.layers[:-1]:
            seen = torch.cat([seen, F.leaky_relu(layer(seen), LEAKY_SLOPE)], dim=-1)
        out: Tensor = self.layers[-1](seen)
        return out


class ConditionBlock(nn.Module):
    """CDB / CFB: the three keyword-conditioned subnets of a block (Eq. 1 and its inverse)."""

    def __init__(self, config: CDFNetConfig) -> None:
        super().__init__()
        self.add = ConditionSubnet(config.dim, config.cond_dim)
        self.scale = ConditionSubnet(config.dim, config.cond_dim)
        self.shift = ConditionSubnet(config.dim, config.cond_dim)
        self.clamp = config.clamp

    def forward(self, h1: Tensor, h2: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        h1 = h1 + self.add(h2, k)
        h2 = h2 * torch.exp(log_scale(self.scale(h1, k), self.clamp)) + self.shift(h1, k)
        return h1, h2

    def inverse(self, g1: Tensor, g2: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        g2 = (g2 - self.shift(g1, k)) * torch.exp(-log_scale(self.scale(g1, k), self.clamp))
        g1 = g1 - self.add(g2, k)
        return g1, g2


class DenseBlock(nn.Module):
    """DB: the three unconditioned subnets of a block (Eq. 2 and its inverse)."""

    def __init__(self, config: CDFNetConfig) -> None:
        super().__init__()
        self.add = DenseSubnet(config.dim, config.growth)
        self.scale = DenseSubnet(config.dim, config.growth)
        self.shift = DenseSubnet(config.dim, config.growth)
        self.clamp = config.clamp

    def forward(self, h1: Tensor, h2: Tensor) -> tuple[Tensor, Tensor]:
        h1 = h1 + self.add(h2)
        h2 = h2 * torch.exp(log_scale(self.scale(h1), self.clamp)) + self.shift(h1)
        return h1, h2

    def inverse(self, g1: Tensor, g2: Tensor) -> tuple[Tensor, Tensor]:
        g2 = (g2 - self.shift(g1)) * torch.exp(-log_scale(self.scale(g1), self.clamp))
        g1 = g1 - self.add(g2)
        return g1, g2


class Block(nn.Module):
    """One invertible block: a condition block, then a dense block."""

    def __init__(self, config: CDFNetConfig) -> None:
        super().__init__()
        self.cond = ConditionBlock(config)
        self.dense = DenseBlock(config)

    def forward(self, h1: Tensor, h2: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        h1, h2 = self.cond(h1, h2, k)
        h1, h2 = self.dense(h1, h2)
        return h1, h2

    def inverse(self, g1: Tensor, g2: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        g1, g2 = self.dense.inverse(g1, g2)
        g1, g2 = self.cond.inverse(g1, g2, k)
        return g1, g2


class CDFNet(nn.Module):
    """The Conditional Disentangle-Fuse network of LReOrg (2024), Eq. 1 to 4.

    Rows (tokens) of a latent are treated alike and independently. A fresh network is the
    identity: ``disentangle(s, k) == (0, s)``. Parameters are float32; ``.double()`` makes it the
    float64 reference.

    Args:
        config: the shape; defaults to :class:`CDFNetConfig`'s.
    """

    def __init__(self, config: CDFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else CDFNetConfig()
        self.blocks = nn.ModuleList(Block(self.config) for _ in range(self.config.num_blocks))

    def disentangle(self, s: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Split a latent under a keyword (Eq. 1, 2): streams start as (0, s).

        Args:
            s: latent (..., dim), in the parameters' dtype.
            k: keyword feature (cond_dim,), or (..., cond_dim) whose leading shape broadcasts
                against s's.

        Returns:
            (f, r): key feature and residual feature, both (..., dim).

        Raises:
            ConfigError: wrong widths, dtypes or shapes that do not broadcast.
        """
        self._check(k, s=s)
        h1, h2 = torch.zeros_like(s), s
        for block in self._steps():
            h1, h2 = block(h1, h2, k)
        return h1, h2

    def fuse(self, f: Tensor, r: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """The exact inverse (Eq. 3, 4): ``fuse(*disentangle(s, k), k) == (0, s)``.

        Args:
            f: key feature (..., dim), perhaps replaced; broadcasts against r.
            r: residual feature (..., dim).
            k: keyword feature, as for :meth:`disentangle`.

        Returns:
            (loss_info, s): the information lost Delta_r (0 if nothing was replaced) and the
            latent, both (..., dim).

        Raises:
            ConfigError: wrong widths, dtypes or shapes that do not broadcast.
        """
        self._check(k, f=f, r=r)
        g1, g2 = torch.broadcast_tensors(f, r)
        for block in reversed(self._steps()):
            g1, g2 = block.inverse(g1, g2, k)
        return g1, g2

    def forward(self, s: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`disentangle`, so that wrappers which only know ``forward`` work."""
        return self.disentangle(s, k)

    def reorganize(
        self,
        s: Tensor,
        keywords: Mapping[str, Tensor],
        replace: Mapping[str, Tensor],
        keep: Sequence[str],
    ) -> Tensor:
        """The whole recurrence as published: anonymize (AR), then recover (RR), pass by pass.

        Args:
            s: original latent s_0 (..., dim).
            keywords: keyword features by name, each (cond_dim,).
            replace: new key features by hidden keyword, in the order of hiding; each
                broadcasts to s.
            keep: keywords to recover from s_0, in order.

        Returns:
            The reorganized latent (..., dim).

        Raises:
            ConfigError: as :meth:`disentangle` and :meth:`fuse`, or an unknown keyword.
        """
        unknown = sorted({*replace, *keep} - set(keywords))
        if unknown:
            raise ConfigError(
                f"unknown keyword {', '.join(unknown)}; known are {', '.join(keywords)}."
            )
        current = s
        for name, replacement in replace.items():
            _, r = self.disentangle(current, keywords[name])
            _, current = self.fuse(replacement, r, keywords[name])
        for name in keep:
            _, r = self.disentangle(current, keywords[name])
            f, _ = self.disentangle(s, keywords[name])
            _, current = self.fuse(f, r, keywords[name])
        return current

    def _steps(self) -> list[Block]:
        return [cast(Block, block) for block in self.blocks]

    def _check(self, k: Tensor, **latents: Tensor) -> None:
        dtype = next(self.parameters()).dtype
        for name, x in latents.items():
            _check_last(name, x, "dim", self.config.dim)
            _check_dtype(name, x, dtype)
        _check_last("k", k, "cond_dim", self.config.cond_dim)
        _check_dtype("k", k, dtype)
        shapes = {"k": k.shape[:-1]} | {name: x.shape[:-1] for name, x in latents.items()}
        try:
            torch.broadcast_shapes(*shapes.values())
        except RuntimeError:
            listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
            raise ConfigError(
                f"leading shapes do not broadcast: {listed}; make them equal or 1."
            ) from None


def log_scale(x: Tensor, clamp: float) -> Tensor:
    """c (2 sigmoid(x) - 1): the log of a coupling's scale, within [-c, c]."""
    return clamp * (2 * torch.sigmoid(x) - 1)


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _check_last(name: str, x: Tensor, field: str, width: int) -> None:
    if x.ndim == 0 or x.shape[-1] != width:
        raise ConfigError(
            f"{name} has shape {tuple(x.shape)}; its last dimension must be {field} = {width}."
        )


def _check_dtype(name: str, x: Tensor, dtype: torch.dtype) -> None:
    if x.dtype != dtype:
        raise ConfigError(
            f"{name} is {x.dtype} but the network is {dtype}; convert one with .to(...)."
        )
