"""From an FFHQ-aligned picture to what a recognizer sees.

The crop is that of the identity loss of pSp and e4e (Richardson et al. 2021, Tov et al. 2021).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.errors import ConfigError

FFHQ_SIZE = 256
RECOGNIZER_SIZE = 112
_ROWS, _COLUMNS = slice(35, 223), slice(32, 220)  # of a picture of 256 pixels


def arcface_view(x: Tensor) -> Tensor:
    """The face of an FFHQ-aligned picture, about as ArcFace aligns it.

    ``(N, 3, R, R)`` floating point -> ``(N, 3, 112, 112)``, same range, with a gradient. At 256
    pixels the values are exactly those of the published identity loss: the square of 188 pixels
    is averaged down, not resized. Larger pictures are first averaged down to 256 pixels, smaller
    ones interpolated up.

    Raises:
        ConfigError: not a batch of square pictures of three channels.
    """
    if x.dim() != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3]:
        raise ConfigError(f"an aligned picture has the shape (N, 3, R, R), not {tuple(x.shape)}")
    size = x.shape[2]
    if size > FFHQ_SIZE:
        x = F.adaptive_avg_pool2d(x, FFHQ_SIZE)
    elif size < FFHQ_SIZE:
        x = F.interpolate(x, size=FFHQ_SIZE, mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool2d(x[:, :, _ROWS, _COLUMNS], RECOGNIZER_SIZE)


def view_matrices(size: int) -> tuple[Tensor, Tensor]:
    """:func:`arcface_view` of pictures of ``size`` pixels as ``rows @ x @ columns``, float64.

    ``(112, size)`` and ``(size, 112)``; for runtimes without its kinds of resizing.
    """
    basis = torch.eye(size, dtype=torch.float64)[None]
    if size > FFHQ_SIZE:
        basis = F.adaptive_avg_pool1d(basis, FFHQ_SIZE)
    elif size < FFHQ_SIZE:
        basis = F.interpolate(basis, size=FFHQ_SIZE, mode="linear", align_corners=False)
    rows, columns = (
        F.adaptive_avg_pool1d(basis[:, :, cut], RECOGNIZER_SIZE)[0] for cut in (_ROWS, _COLUMNS)
    )
    return rows.T.contiguous(), columns
