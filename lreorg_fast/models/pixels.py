"""Between pictures (uint8, HWC) and what networks see (float, CHW, in [-1, 1])."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 of any shape -> float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_bytes(values: Tensor) -> Tensor:
    """Floats of any shape, clipped to [-1, 1] -> uint8, rounded."""
    return ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_tensor(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures ``(H, W, 3)`` of equal size -> ``(N, 3, H, W)`` float32 on the CPU."""
    return to_unit(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


def to_pictures(batch: Tensor) -> list[NDArray[np.uint8]]:
    """``(N, 3, H, W)`` on any device -> N pictures ``(H, W, 3)`` uint8."""
    return list(to_bytes(batch).permute(0, 2, 3, 1).cpu().numpy())
