"""The Inception network of the Frechet inception distance, as ported from TensorFlow (2015).

Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016), in the
variant whose features Heusel et al. (2017) compare. Parameter names are torchvision's, as in the
file ``pt_inception-2015-12-05-6726825d.pth`` that pytorch-fid and torch-fidelity share. What
differs from torchvision's network: average pools leave the padding out of their mean, the last
block pools by maximum, and there are 1008 classes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError

CLASSES = 1008
INPUT_SIZE = 299
_MIN_SIZE = 75  # below it, nothing is left of the picture in the last blocks
_BN_EPS = 1e-3

# "average" and "max" pool 3x3 with stride 1 before a 1x1 layer. "reduce" halves the size: its
# branches end in a layer of stride 2 without padding, and its pool is a maximum without a layer.
_Pool = Literal["average", "max", "reduce"]

# A branch is a sequence of layers "height x width : channels"; a bar parts two side by side.
_MIXED_5 = {
    "branch1x1": "1x1:64",
    "branch5x5": "1x1:48 5x5:64",
    "branch3x3dbl": "1x1:64 3x3:96 3x3:96",
}
_MIXED_6 = {
    "branch1x1": "1x1:192",
    "branch7x7": "1x1:{0} 1x7:{0} 7x1:192",
    "branch7x7dbl": "1x1:{0} 7x1:{0} 1x7:{0} 7x1:{0} 1x7:192",
    "branch_pool": "1x1:192",
}
_MIXED_7 = {
    "branch1x1": "1x1:320",
    "branch3x3": "1x1:384 1x3:384|3x1:384",
    "branch3x3dbl": "1x1:448 3x3:384 1x3:384|3x1:384",
    "branch_pool": "1x1:192",
}


def _mixed_6(inner: int) -> dict[str, str]:
    return {name: branch.format(inner) for name, branch in _MIXED_6.items()}


# Name, input channels, branches, pool.
_MIXED: tuple[tuple[str, int, dict[str, str], _Pool], ...] = (
    ("Mixed_5b", 192, _MIXED_5 | {"branch_pool": "1x1:32"}, "average"),
    ("Mixed_5c", 256, _MIXED_5 | {"branch_pool": "1x1:64"}, "average"),
    ("Mixed_5d", 288, _MIXED_5 | {"branch_pool": "1x1:64"}, "average"),
    (
        "Mixed_6a",
        288,
        {"branch3x3": "3x3:384", "branch3x3dbl": "1x1:64 3x3:96 3x3:96"},
        "reduce",
    ),
    ("Mixed_6b", 768, _mixed_6(128), "average"),
    ("Mixed_6c", 768, _mixed_6(160), "average"),
    ("Mixed_6d", 768, _mixed_6(160), "average"),
    ("Mixed_6e", 768, _mixed_6(192), "average"),
    (
        "Mixed_7a",
        768,
        {"branch3x3": "1x1:192 3x3:320", "branch7x7x3": "1x1:192 1x7:192 7x1:192 3x3:192"},
        "reduce",
    ),
    ("Mixed_7b", 1280, _MIXED_7, "average"),
    ("Mixed_7c", 2048, _MIXED_7, "max"),
)

# Length of the features, the layers up to them, and whether a max pool follows these.
_STAGES: tuple[tuple[int, tuple[str, ...], bool], ...] = (
    (64, ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"), True),
    (192, ("Conv2d_3b_1x1", "Conv2d_4a_3x3"), True),
    (768, tuple(name for name, *_ in _MIXED[:8]), False),
    (2048, tuple(name for name, *_ in _MIXED[8:]), False),
)
# Lengths of the features, which are also what one calls them.
FEATURES = tuple(length for length, *_ in _STAGES)


class _Convolution(nn.Module):
    """Convolution without bias, batch normalization, ReLU."""

    def __init__(self, inputs: int, layer: str, stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        size, channels = layer.split(":")
        height, width = map(int, size.split("x"))
        self.channels = int(channels)
        padding = (height // 2, width // 2) if pad else 0
        self.conv = nn.Conv2d(inputs, self.channels, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(self.channels, eps=_BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """Branches of one input, side by side in the channels of the result."""

    def __init__(self, inputs: int, branches: dict[str, str], pool: _Pool) -> None:
        super().__init__()
        self._pool = pool
        # Each branch as steps, each step as the names of the layers that read the same.
        self._branches = {
            name: self._add_branch(name, inputs, branch.split())
            for name, branch in branches.items()
        }

    def _add_branch(self, name: str, inputs: int, steps: list[str]) -> list[list[str]]:
        names: list[list[str]] = []
        for index, step in enumerate(steps, 1):
            stride = 2 if index == len(steps) and self._pool == "reduce" else 1
            numbered = name if len(steps) == 1 else f"{name}_{index}"
            layers = [_Convolution(inputs, x, stride, stride == 1) for x in step.split("|")]
            names.append([numbered] if len(layers) == 1 else [numbered + "a", numbered + "b"])
            for key, layer in zip(names[-1], layers, strict=True):
                self.add_module(key, layer)
            inputs = layers[0].channels
        return names

    def forward(self, x: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for branch, (*chain, last) in self._branches.items():
            y = self._pooled(x) if branch == "branch_pool" else x
            for (name,) in chain:
                y = self.get_submodule(name)(y)
            parts += [self.get_submodule(name)(y) for name in last]
        if self._pool == "reduce":
            parts.append(F.max_pool2d(x, 3, 2))
        return torch.cat(parts, dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self._pool == "max":
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class FidInception(nn.Module):
    """Prepared pictures -> the features that FID compares.

    ``forward(x)``: ``(N, 3, 299, 299)`` float32 RGB, normalized to about [-1, 1] by one of the
    conventions of :mod:`lreorg_fast.evaluation.fid` -> ``(N, 2048)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, "3x3:32", stride=2, pad=False)
        self.Conv2d_2a_3x3 = _Convolution(32, "3x3:32", pad=False)
        self.Conv2d_2b_3x3 = _Convolution(32, "3x3:64")
        self.Conv2d_3b_1x1 = _Convolution(64, "1x1:80")
        self.Conv2d_4a_3x3 = _Convolution(80, "3x3:192", pad=False)
        for name, inputs, branches, pool in _MIXED:
            self.add_module(name, _Mixed(inputs, branches, pool))
        self.fc = nn.Linear(2048, CLASSES)

    def maps(self, x: Tensor, lengths: Collection[int]) -> dict[int, Tensor]:
        """Feature maps by their number of channels; nothing is computed beyond the last asked for.

        Args:
            x: ``(N, 3, H, W)`` floating point, at least 75 pixels wide and high.
            lengths: of :data:`FEATURES`: after the first and the second max pool, Mixed_6e and
                Mixed_7c.

        Raises:
            ConfigError: another shape or type, or lengths that the network does not have.
        """
        _check(x, lengths)
        found: dict[int, Tensor] = {}
        for length, names, pooled in _STAGES:
            for name in names:
                x = self.get_submodule(name)(x)
            if pooled:
                x = F.max_pool2d(x, 3, 2)
            if length in lengths:
                found[length] = x
            if length == max(lengths):
                break
        return found

    def features(self, x: Tensor, length: int = 2048) -> Tensor:
        """``(N, length)``: the means of a map of :meth:`maps` over the picture."""
        return self.maps(x, (length,))[length].mean(dim=(2, 3))

    def logits(self, features: Tensor, bias: bool = True) -> Tensor:
        """``(N, 2048)`` features -> ``(N, 1008)``; the inception score leaves the bias out."""
        return F.linear(features, self.fc.weight, self.fc.bias if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def _check(x: Tensor, lengths: Collection[int]) -> None:
    if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < _MIN_SIZE:
        raise ConfigError(
            f"the pictures have the shape {tuple(x.shape)}, but Inception takes (N, 3, H, W) of at "
            f"least {_MIN_SIZE} pixels, usually {INPUT_SIZE}; prepare them with a convention of "
            "lreorg_fast.evaluation.fid"
        )
    if not x.is_floating_point():
        raise ConfigError(
            f"the pictures are {x.dtype}; prepare them with a convention of "
            "lreorg_fast.evaluation.fid"
        )
    if not lengths or not set(lengths) <= set(FEATURES):
        raise ConfigError(
            f"features of length {', '.join(map(str, lengths)) or 'none'} were asked for, but "
            f"Inception has {', '.join(map(str, FEATURES))}"
        )
