"""Signed-distance shapes and anti-aliased painting, batched in torch.

Distances are in the picture's own units (the frame spans -1..1); negative is inside. All
tensors broadcast over ``(N, H, W)``; colours are ``(N, 3)`` or ``(N, 3, H, W)`` in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """First-order distance to an axis-parallel ellipse at the origin."""
    k0 = ((x / rx) ** 2 + (y / ry) ** 2 + 1e-9).sqrt()
    k1 = ((x / rx**2) ** 2 + (y / ry**2) ** 2 + 1e-9).sqrt()
    return k0 * (k0 - 1) / k1


def stroke(
    x: Tensor,
    y: Tensor,
    curve: Tensor,
    start: Tensor | float,
    end: Tensor | float,
    width: Tensor | float,
    slope: Tensor | float = 0.0,
) -> Tensor:
    """Distance to a line of half-width ``width`` along ``y = curve(x)``, start <= x <= end."""
    across = (y - curve).abs() / (1 + slope**2) ** 0.5
    beyond = torch.maximum(start - x, x - end).clamp(min=0)
    return (across.square() + beyond.square()).sqrt() - width


def soft(distance: Tensor, width: float) -> Tensor:
    """Blurred coverage in [0, 1]: one inside, falling over about ``width``."""
    return torch.sigmoid(-distance / width * 4)


def ramp(table: Tensor, position: Tensor) -> Tensor:
    """Linear interpolation in a colour table ``(K, 3)`` at ``position`` in [0, 1] -> (N, 3)."""
    scaled = position.clamp(0, 1) * (len(table) - 1)
    index = scaled.floor().clamp(max=len(table) - 2).long()
    weight = (scaled - index)[:, None]
    return table[index] * (1 - weight) + table[index + 1] * weight


class Canvas:
    """An RGB picture that shapes are painted on, back to front."""

    def __init__(self, background: Tensor, pixel: float) -> None:
        self.picture = background
        self.pixel = pixel

    def coverage(self, distance: Tensor) -> Tensor:
        """Anti-aliased inside-ness: a ramp one pixel wide across the edge."""
        return (0.5 - distance / self.pixel).clamp(0, 1)

    def paint(self, colour: Tensor, alpha: Tensor) -> None:
        """Blend a colour over the picture with opacity ``alpha`` ``(N, H, W)``."""
        if colour.dim() == 2:
            colour = colour[:, :, None, None]
        self.picture = self.picture + (colour - self.picture) * alpha[:, None]

    def fill(self, colour: Tensor, distance: Tensor, alpha: Tensor | float = 1.0) -> None:
        """Paint the inside of a shape."""
        self.paint(colour, self.coverage(distance) * alpha)
