"""The reference's dense block against HiNet's own code, from which its coupling comes.

HiNet (Jing et al. 2021) has the same block of three dense subnets, of 3x3 convolutions where
CDFNet has linear layers. With its convolutions put in their place, the reference's own equations,
clamp, slope and concatenation must give what the authors' program gives on the same parameters.
"""

from __future__ import annotations

import numpy as np
import published
import torch
from golden import arrays, difference, published_keys
from torch import Tensor, nn

from lreorg_fast.cdfnet.config import CDFNetConfig
from lreorg_fast.cdfnet.reference import DenseBlock
from tolerances import tolerance

GOLDEN = arrays("hinet")
KEYS = published_keys("hinet")
NAMES = {key for key, _, _ in KEYS}
ROLES = {"add": "f", "scale": "r", "shift": "y"}
CONFIG = CDFNetConfig(dim=12, cond_dim=1, num_blocks=16, growth=32, clamp=2.0)
GATE = tolerance("published network", "float32")


class Convolution(nn.Module):
    """3x3 on ``(N, H, W, C)``, so that the channels are last, as in a linear layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        shapes = {key: shape for key, shape, _ in KEYS}
        for part in ("weight", "bias"):
            key = f"{name}.{part}"
            made = published.value(key, shapes[key], NAMES, "inv")
            setattr(self, part, torch.from_numpy(made))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, padding=1)
        return y.permute(0, 2, 3, 1)


def hinet_block(number: int) -> DenseBlock:
    block = DenseBlock(CONFIG)
    for role, letter in ROLES.items():
        layers = block.get_submodule(role).layers
        for index in range(len(layers)):
            layers[index] = Convolution(f"inv{number}.{letter}.conv{index + 1}")
    return block


def halves(x: np.ndarray | Tensor) -> list[Tensor]:
    """``(N, 24, H, W)`` -> both streams ``(N, H, W, 12)``."""
    return list(torch.as_tensor(x).permute(0, 2, 3, 1).split(12, dim=-1))


def joined(streams: list[Tensor]) -> Tensor:
    return torch.cat(streams, dim=-1).permute(0, 3, 1, 2)


@torch.no_grad()
def test_sixteen_blocks_and_their_inverse_are_hinets() -> None:
    blocks = [hinet_block(number + 1) for number in range(CONFIG.num_blocks)]
    assert len(KEYS) == sum(2 * len(b.get_submodule(r).layers) for b in blocks for r in ROLES)
    x = published.normal("input.hinet.x", (1, 24, 16, 16))
    streams = halves(x)
    for number, block in enumerate(blocks):
        streams = list(block(*streams))
        if number == 0:
            assert difference(joined(streams), GOLDEN["inv1"]) < GATE
    assert difference(joined(streams), GOLDEN["out"]) < GATE
    streams = halves(GOLDEN["out"])
    for block in reversed(blocks):
        streams = list(block.inverse(*streams))
    assert difference(joined(streams), x) < GATE
