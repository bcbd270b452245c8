"""Pictures in memory: what a caller may pass in, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lreorg_fast.errors import ImageError

Picture = NDArray[np.uint8]
# What stands in the place of a face that cannot be replaced.
FILL_COLOUR = (128, 128, 128)
_MAX_SIDE = 8192


def checked_pictures(images: Any) -> list[Picture]:
    """One aligned picture or several, as a list of ``(H, H, 3)`` uint8 RGB arrays.

    Args:
        images: an array ``(H, H, 3)``, a PIL image, a list of these, or ``(N, H, H, 3)``.

    Raises:
        ImageError: anything else, or a picture that is not square.
    """
    if is_single(images):
        images = [images]
    elif isinstance(images, np.ndarray):
        images = list(images)
    if not isinstance(images, (list, tuple)) or not images:
        raise ImageError(
            "images must be a picture or a list of pictures: uint8 RGB arrays (H, W, 3) or PIL"
        )
    return [_checked_picture(picture) for picture in images]


def is_single(images: Any) -> bool:
    """Whether this is one picture and not a batch or list of pictures."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, Image.Image)


def _checked_picture(picture: Any) -> Picture:
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture.convert("RGB"))
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        kind = getattr(picture, "dtype", type(picture).__name__)
        raise ImageError(f"a picture is {kind}, but must be uint8 RGB (H, W, 3) or PIL")
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ImageError(f"a picture has shape {picture.shape}, but must be (H, W, 3)")
    height, width = picture.shape[:2]
    if height != width or not 1 <= height <= _MAX_SIDE:
        raise ImageError(
            f"a picture is {width} x {height} pixels, but an aligned face is square, 1 to "
            f"{_MAX_SIDE} pixels; crop and align it first"
        )
    return picture


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """``picture`` at (width, height), Lanczos; the same object if it already has that size."""
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
