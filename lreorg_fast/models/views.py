"""What each network of a bundle sees of one picture: their input sizes need not agree.

The pipeline and the calibration of its limits measure through these functions alone, so that a
limit is about exactly what it is compared with.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.models.identity_view import RECOGNIZER_SIZE, arcface_view


def at_size(x: Tensor, size: int) -> Tensor:
    """``(N, 3, R, R)`` -> ``(N, 3, size, size)``: averaged down as pSp does, or interpolated up."""
    if x.shape[-1] > size:
        return F.adaptive_avg_pool2d(x, size)
    if x.shape[-1] < size:
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return x


def recognizes(input_size: int, resolution: int) -> bool:
    """Whether a recognizer of this input size can look at pictures of this resolution."""
    return input_size in (resolution, RECOGNIZER_SIZE)


def recognized(recognizer: Any, pictures: Tensor) -> Tensor:
    """Identity features ``(N, outputs)`` of aligned pictures ``(N, 3, R, R)`` in [-1, 1].

    A recognizer of another input size than R gets the crop of
    :func:`~lreorg_fast.models.identity_view.arcface_view`.
    """
    same = recognizer.config.input_size == pictures.shape[-1]
    features: Tensor = recognizer(pictures if same else arcface_view(pictures))
    return features


def encoded(encoder: Any, pictures: Tensor) -> Tensor:
    """Latents ``(N, num_ws, style_dim)`` of pictures ``(N, 3, R, R)`` in [-1, 1]."""
    codes: Tensor = encoder(at_size(pictures, encoder.config.input_size))
    return codes


def squared_error(back: Tensor, pictures: Tensor) -> Tensor:
    """``(N,)`` mean squared difference of pictures in [-1, 1]."""
    return (back - pictures).square().mean(dim=(1, 2, 3))
