"""New faces into a picture: only through their masks, in a defined order, over no neighbour.

Order: the nearer face is the larger one and is drawn last. Where the cores of two faces overlap
the nearer one is seen; the soft border of any face stops where the core of another begins. So every
pixel of a core is new, and no pixel outside of a mask changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.regions import Shape, Window, unit_coordinates, window_of
from lreorg_fast.media.pictures import FILL_COLOUR, Picture

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]

# A mosaic has so many blocks along the longer side of the head, and none is smaller than this.
_BLOCKS, _SMALLEST_BLOCK = 8, 4
# How far colours are matched: contrast by a quarter, brightness by a tenth of the range. More is
# not light but another picture.
MOST_GAIN, MOST_SHIFT = 1.25, 26.0
# A new face that is larger in the picture is sampled from one of this size.
MAX_FACE_SIDE = 2048
LEAST_RING = 16  # pixels, below which statistics say nothing


@dataclass(frozen=True, eq=False)
class Layer:
    """One face ready to be drawn.

    Attributes:
        window: the pixels of the picture that it may touch.
        pixels: (h, w, 3) uint8 of the window.
        alpha: (h, w) float32 in [0, 1]: how much of ``pixels`` is seen.
        core: (h, w) bool: the face itself, where alpha is 1 and a neighbour's border ends.
    """

    window: Window
    pixels: Picture
    alpha: Weights
    core: NDArray[np.bool_]


def draw_order(detections: Sequence[Detection]) -> list[int]:
    """Indices from the farthest (smallest) face to the nearest (largest)."""
    return sorted(range(len(detections)), key=lambda i: (detections[i].size, i))


def masks(shapes: Sequence[Shape], window: Window) -> tuple[Weights, NDArray[np.bool_]]:
    """Alpha and core of the union of shapes, ``(h, w)`` of the window."""
    alpha = np.zeros((window.bottom - window.top, window.right - window.left), dtype=np.float32)
    core = np.zeros(alpha.shape, dtype=bool)
    for shape in shapes:
        radius = shape.radius(window)
        core |= radius <= 1
        if shape.outer > 1:
            np.maximum(alpha, (shape.outer - radius) / (shape.outer - 1), out=alpha)
    alpha[core] = 1
    return np.minimum(alpha, 1), core


def compose(picture: Picture, layers: Sequence[Layer]) -> Picture:
    """A copy of the picture with the layers drawn, in their order."""
    made = np.array(picture)
    for i, layer in enumerate(layers):
        if layer.window.empty:
            continue
        alpha = np.array(layer.alpha)
        for other in (*layers[:i], *layers[i + 1 :]):
            shared = layer.window.meet(other.window)
            if not shared.empty:
                here, there = shared.within(layer.window).slices, shared.within(other.window).slices
                alpha[here][other.core[there] & ~layer.core[here]] = 0
        _mix(made[layer.window.slices], layer.pixels, alpha)
    return made


def _mix(target: Picture, pixels: Picture, alpha: Weights) -> None:
    """In place. Whole where alpha is 1, untouched where it is 0: rounding must not decide that."""
    whole = alpha >= 1
    target[whole] = pixels[whole]
    partly = (alpha > 0) & ~whole
    share = alpha[partly][:, None]
    mixed = pixels[partly] * share + target[partly] * (1 - share)
    target[partly] = np.rint(mixed).astype(np.uint8)


def fill_layer(picture: Picture, shapes: Sequence[Shape]) -> Layer:
    """The shapes in one colour, with a hard border."""
    window = window_of(shapes, picture.shape[1::-1])
    _, core = masks(shapes, window)
    pixels = np.full((*core.shape, 3), FILL_COLOUR, dtype=np.uint8)
    return Layer(window, pixels, core.astype(np.float32), core)


def pixelate_layer(picture: Picture, shapes: Sequence[Shape]) -> Layer:
    """The shapes as a mosaic of their mean colours, with a hard border.

    Not a protection: who has pictures of the people in question can compare their mosaics.
    """
    window = window_of(shapes, picture.shape[1::-1])
    _, core = masks(shapes, window)
    block = mosaic_block(*core.shape)
    source = picture[window.slices]
    pixels = np.empty_like(source)
    for top in range(0, source.shape[0], block):
        for left in range(0, source.shape[1], block):
            part = (slice(top, top + block), slice(left, left + block))
            pixels[part] = np.rint(source[part].mean(axis=(0, 1))).astype(np.uint8)
    return Layer(window, pixels, core.astype(np.float32), core)


def mosaic_block(height: int, width: int) -> int:
    """Side of the blocks of a mosaic over a window of this size."""
    return max(_SMALLEST_BLOCK, -(-max(height, width) // _BLOCKS))


def paste_layer(
    picture: Picture,
    face: Picture,
    quad: Floats,
    shapes: Sequence[Shape],
    colour_match: bool = False,
) -> Layer:
    """A square face picture laid into its quad, seen through the shapes.

    Args:
        picture: that it is for.
        face: (S, S, 3) uint8, upright.
        quad: (4, 2) corners of a square in the picture: top left, bottom left, bottom right, top
            right of ``face``. Core beyond it is filled with a solid colour.
        shapes: what is to be covered.
        colour_match: carry brightness and contrast of the picture around the core over to the
            face: six numbers, of the surroundings and not of the face.
    """
    window = window_of(shapes, picture.shape[1::-1])
    alpha, core = masks(shapes, window)
    if window.empty:
        return Layer(window, np.zeros((*core.shape, 3), np.uint8), alpha, core)
    pixels, inside = warp_back(face, quad, window)
    if colour_match:
        ring = inside & (alpha > 0) & ~core
        pixels = _matched(pixels, picture[window.slices], ring)
    pixels[~inside] = FILL_COLOUR
    alpha[~inside & ~core] = 0
    return Layer(window, pixels, alpha, core)


def warp_back(face: Picture, quad: Floats, window: Window) -> tuple[Picture, NDArray[np.bool_]]:
    """``face`` as seen in the picture's window (bilinear), and where it is: inside of the quad."""
    top_left, bottom_left, _, top_right = quad
    right, down = (top_right - top_left) / 2, (bottom_left - top_left) / 2
    side = float(np.hypot(*right)) * 2
    face = _about(face, side)
    size = face.shape[0]
    u, v = unit_coordinates(window, top_left + right + down, right, down)
    inside = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    # PIL asks at the centre of each output pixel, (x + 0.5, y + 0.5), for a place in the source.
    inverse = np.linalg.inv(np.stack([right, down], axis=1)) * (size / 2)
    corner = np.array([window.left, window.top]) - 0.5 - top_left
    offset = inverse @ corner
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    # One pixel of margin, repeated: PIL blackens what lies within half a pixel of the border.
    padded = np.pad(face, ((1, 1), (1, 1), (0, 0)), "edge")
    shifted = (*coefficients[:2], coefficients[2] + 1, *coefficients[3:5], coefficients[5] + 1)
    made = Image.fromarray(padded).transform(
        (window.right - window.left, window.bottom - window.top),
        Image.Transform.AFFINE,
        shifted,
        Image.Resampling.BILINEAR,
    )
    return np.array(made), inside


def _about(face: Picture, side: float) -> Picture:
    """At about its size in the picture: bilinear sampling skips pixels of a larger one, and shows
    those of a smaller one."""
    size = min(max(1, round(side)), MAX_FACE_SIDE)
    if abs(size - face.shape[0]) <= 0.2 * face.shape[0]:
        return face
    return np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC))


def _matched(pixels: Picture, source: Picture, ring: NDArray[np.bool_]) -> Picture:
    """``pixels`` with the mean and deviation that ``source`` has on the ring, per channel."""
    if int(ring.sum()) < LEAST_RING:
        return pixels
    ours, theirs = pixels[ring].astype(np.float32), source[ring].astype(np.float32)
    gain = (theirs.std(axis=0) + 1) / (ours.std(axis=0) + 1)
    gain = np.clip(gain, 1 / MOST_GAIN, MOST_GAIN)
    centre = ours.mean(axis=0)
    shift = np.clip(theirs.mean(axis=0) - centre, -MOST_SHIFT, MOST_SHIFT)
    matched = (pixels - centre) * gain + centre + shift
    made: Picture = np.rint(matched.clip(0, 255)).astype(np.uint8)
    return made
