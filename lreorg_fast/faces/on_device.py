"""Cut, mask, paste and compose as :mod:`lreorg_fast.faces.blending` does, in torch on any device.

For frames that are on a GPU already: they stay there, and only boxes and landmarks come from
outside. Same order, same masks, same guarantees; colours differ by rounding, see the tests. Not
yet run on a GPU: tested on CPU tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.errors import ConfigError
from lreorg_fast.faces.blending import (
    LEAST_RING,
    MAX_FACE_SIDE,
    MOST_GAIN,
    MOST_SHIFT,
    mosaic_block,
)
from lreorg_fast.faces.regions import Shape, Window, window_of
from lreorg_fast.media.pictures import FILL_COLOUR
from lreorg_fast.models.pixels import to_unit

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TensorLayer:
    """As :class:`lreorg_fast.faces.blending.Layer`: pixels (3, h, w) float in [0, 255], alpha and
    core (h, w)."""

    window: Window
    pixels: Tensor
    alpha: Tensor
    core: Tensor


def cut_square(frame: Tensor, quad: Floats, size: int) -> Tensor:
    """A square out of a frame, upright.

    Args:
        frame: ``(3, H, W)`` uint8.
        quad: (4, 2) corners: top left, bottom left, bottom right, top right of the result.
        size: of the result.

    Returns:
        ``(3, size, size)`` float32 in [-1, 1]. Beyond the frame its border is repeated, which
        the mirrored and blurred padding of :func:`lreorg_fast.faces.align.align_square` is not.

    Raises:
        ConfigError: the square lies outside of the frame or has less than 2 pixels.
    """
    right, down = (quad[3] - quad[0]) / 2, (quad[1] - quad[0]) / 2
    height, width = frame.shape[1:]
    side = 2 * float(np.hypot(*right))
    outside = (quad.max(axis=0) <= 0).any() or (quad.min(axis=0) >= (width, height)).any()
    if side < 2 or outside or not np.isfinite(quad).all():
        raise ConfigError(f"a face of {side:.2g} pixels cannot be cut out where it is")
    part = _surroundings(frame, quad, max(1, int(side / size * 0.5)))
    steps = (torch.arange(size, device=frame.device) + 0.5) * (2 / size) - 1
    centre, right, down = part.place(quad.mean(axis=0)), right / part.shrink, down / part.shrink
    x = centre[0] + right[0] * steps + down[0] * steps[:, None]
    y = centre[1] + right[1] * steps + down[1] * steps[:, None]
    height, width = part.pixels.shape[1:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=2)
    made = F.grid_sample(
        part.pixels[None], grid[None].float(), padding_mode="border", align_corners=False
    )
    return to_unit(made[0]).clamp(-1, 1)


def fill_layer(frame: Tensor, shapes: Sequence[Shape]) -> TensorLayer:
    """See :func:`lreorg_fast.faces.blending.fill_layer`."""
    window = window_of(shapes, (frame.shape[2], frame.shape[1]))
    _, core = masks(shapes, window, frame.device)
    return TensorLayer(window, _colour(core), core.float(), core)


def pixelate_layer(frame: Tensor, shapes: Sequence[Shape]) -> TensorLayer:
    """See :func:`lreorg_fast.faces.blending.pixelate_layer`."""
    window = window_of(shapes, (frame.shape[2], frame.shape[1]))
    _, core = masks(shapes, window, frame.device)
    if window.empty:
        return TensorLayer(window, _colour(core), core.float(), core)
    height, width = core.shape
    block = mosaic_block(height, width)
    source = frame[:, window.top : window.bottom, window.left : window.right].float()
    means = F.avg_pool2d(source[None], block, ceil_mode=True, count_include_pad=False)[0]
    blocks = means.repeat_interleave(block, dim=1).repeat_interleave(block, dim=2)
    return TensorLayer(window, blocks[:, :height, :width].round(), core.float(), core)


def paste_layer(
    frame: Tensor, face: Tensor, quad: Floats, shapes: Sequence[Shape], colour_match: bool = False
) -> TensorLayer:
    """See :func:`lreorg_fast.faces.blending.paste_layer`; ``face`` is (3, S, S) in [-1, 1]."""
    window = window_of(shapes, (frame.shape[2], frame.shape[1]))
    alpha, core = masks(shapes, window, frame.device)
    if window.empty:
        return TensorLayer(window, _colour(core), alpha, core)
    right, down = (quad[3] - quad[0]) / 2, (quad[1] - quad[0]) / 2
    face = _about((face.float().clamp(-1, 1) + 1) * 127.5, 2 * float(np.hypot(*right)))
    u, v = _unit_coordinates(window, quad.mean(axis=0), right, down, frame.device)
    inside = (u.abs() <= 1) & (v.abs() <= 1)
    grid = torch.stack([u, v], dim=2)[None]
    pixels = F.grid_sample(face[None], grid, padding_mode="border", align_corners=False)[0]
    if colour_match:
        source = frame[:, window.top : window.bottom, window.left : window.right].float()
        pixels = _matched(pixels, source, inside & (alpha > 0) & ~core)
    pixels = torch.where(inside, pixels, _colour(core))
    alpha = torch.where(inside | core, alpha, torch.zeros_like(alpha))
    return TensorLayer(window, pixels, alpha, core)


def masks(shapes: Sequence[Shape], window: Window, device: torch.device) -> tuple[Tensor, Tensor]:
    """See :func:`lreorg_fast.faces.blending.masks`."""
    height, width = max(0, window.bottom - window.top), max(0, window.right - window.left)
    alpha = torch.zeros(height, width, device=device)
    core = torch.zeros(height, width, dtype=torch.bool, device=device)
    for shape in shapes:
        radius = _radius(shape, window, device)
        core |= radius <= 1
        if shape.outer > 1:
            alpha = torch.maximum(alpha, (shape.outer - radius) / (shape.outer - 1))
    return torch.where(core, 1.0, alpha.clamp(0, 1)), core


def compose(frame: Tensor, layers: Sequence[TensorLayer]) -> Tensor:
    """See :func:`lreorg_fast.faces.blending.compose`; ``(3, H, W)`` uint8."""
    made = frame.clone()
    for i, layer in enumerate(layers):
        if layer.window.empty:
            continue
        alpha = layer.alpha.clone()
        for other in (*layers[:i], *layers[i + 1 :]):
            shared = layer.window.meet(other.window)
            if not shared.empty:
                here, there = shared.within(layer.window).slices, shared.within(other.window).slices
                alpha[here][other.core[there] & ~layer.core[here]] = 0
        rows, columns = layer.window.slices
        target = made[:, rows, columns]
        mixed = layer.pixels * alpha + target.float() * (1 - alpha)
        new = torch.where(alpha >= 1, layer.pixels, mixed).round().clamp(0, 255).to(torch.uint8)
        made[:, rows, columns] = torch.where(alpha > 0, new, target)
    return made


@dataclass(frozen=True, eq=False)
class _Part:
    """Float pixels (3, h, w) of a frame, reduced by ``shrink``, and where they begin in it."""

    pixels: Tensor
    corner: Floats
    shrink: float

    def place(self, point: Floats) -> Floats:
        """A point of the frame in this part. As published, a place is divided like a corner of
        a pixel and used like a centre, so a face that is reduced comes from beside it by up to
        half a pixel of this part (:class:`lreorg_fast.faces.align.AlignedFace`)."""
        return np.asarray((point - self.corner) / self.shrink)


def _surroundings(frame: Tensor, quad: Floats, shrink: int) -> _Part:
    """Only the face's surroundings become float: a frame may be large."""
    height, width = frame.shape[1:]
    border = 2 * shrink + 2
    left, top = (int(max(0, n)) // shrink * shrink for n in np.floor(quad.min(axis=0)) - border)
    right, bottom = (
        int(n) for n in np.minimum(np.ceil(quad.max(axis=0)) + border + 1, (width, height))
    )
    pixels = frame[:, top:bottom, left:right].float()
    if shrink > 1:
        # Whole multiples, so that the scale is exact; the last row and column are repeated.
        extra = [-n % shrink for n in pixels.shape[1:]]
        pixels = F.pad(pixels[None], (0, extra[1], 0, extra[0]), mode="replicate")
        size = [n // shrink for n in pixels.shape[2:]]
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)[0].clamp(0, 255)
    return _Part(pixels, np.array([left, top], dtype=np.float64), float(shrink))


def _unit_coordinates(
    window: Window, centre: Floats, right: Floats, down: Floats, device: torch.device
) -> tuple[Tensor, Tensor]:
    inverse = np.linalg.inv(np.stack([right, down], axis=1))
    # In float64 up to the last step: coordinates may be far outside of the frame.
    x = torch.arange(window.left, window.right, device=device, dtype=torch.float64) - centre[0]
    y = torch.arange(window.top, window.bottom, device=device, dtype=torch.float64) - centre[1]
    u, v = (float(row[0]) * x + float(row[1]) * y[:, None] for row in inverse)
    return u.float(), v.float()


def _radius(shape: Shape, window: Window, device: torch.device) -> Tensor:
    across, along = _unit_coordinates(window, shape.centre, shape.right, shape.down, device)
    across, along = across.abs(), along.abs()
    most, least = torch.maximum(across, along), torch.minimum(across, along)
    if np.isinf(shape.power):
        return most
    ratio = least / most.clamp(min=1e-12)
    return most * (1 + ratio**shape.power) ** (1 / shape.power)


def _colour(core: Tensor) -> Tensor:
    colour = torch.tensor(FILL_COLOUR, device=core.device, dtype=torch.float32)
    return colour[:, None, None].expand(3, *core.shape)


def _about(face: Tensor, side: float) -> Tensor:
    size = min(max(1, round(side)), MAX_FACE_SIDE)
    if abs(size - face.shape[1]) <= 0.2 * face.shape[1]:
        return face
    resized = F.interpolate(
        face[None], size=(size, size), mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0].clamp(0, 255)


def _matched(pixels: Tensor, source: Tensor, ring: Tensor) -> Tensor:
    if int(ring.sum()) < LEAST_RING:
        return pixels
    ours, theirs = pixels[:, ring], source[:, ring]
    spread = [values.std(dim=1, correction=0) + 1 for values in (theirs, ours)]
    gain = (spread[0] / spread[1]).clamp(1 / MOST_GAIN, MOST_GAIN)[:, None, None]
    centre = ours.mean(dim=1)
    shift = (theirs.mean(dim=1) - centre).clamp(-MOST_SHIFT, MOST_SHIFT)[:, None, None]
    return ((pixels - centre[:, None, None]) * gain + centre[:, None, None] + shift).clamp(0, 255)
