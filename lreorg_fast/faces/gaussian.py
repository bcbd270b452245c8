"""The Gaussian filter of SciPy in numpy, bit for bit where neither uses fused multiply-adds.

Alignment must give the published pixels exactly, and this one function would be all that the
package needs of SciPy (tests compare the two).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The filter reaches so many standard deviations far, as SciPy's default.
_TRUNCATE = 4.0
# Lines are filtered so many values at a time: about what a second-level cache holds as float64.
_BLOCK_VALUES = 1 << 15


def gaussian_filter(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """``(H, W, C)`` blurred along H, then W; beyond its edges the picture is mirrored.

    As ``scipy.ndimage.gaussian_filter(picture, [sigma, sigma, 0])``: sums in float64, rounded to
    float32 after each axis.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 / (sigma * sigma) * offsets**2)
    kernel = kernel / kernel.sum()
    blurred = np.array(picture, order="C")
    height, width, channels = blurred.shape
    _filter_in_place(blurred.reshape(height, width * channels), kernel[radius:])
    # One channel at a time, as a transposed view that can be written to.
    for channel in range(channels):
        _filter_in_place(blurred[:, :, channel].T, kernel[radius:])
    return blurred


def _filter_in_place(lines: NDArray[np.float32], half: NDArray[np.float64]) -> None:
    """Filter ``(length, n)`` along its first axis; ``half`` is the kernel from its centre on."""
    length, n = lines.shape
    radius = len(half) - 1
    step = max(1, _BLOCK_VALUES // (length + 2 * radius))
    for start in range(0, n, step):
        block = lines[:, start : start + step]
        padded = np.pad(block.astype(np.float64), ((radius, radius), (0, 0)), "symmetric")
        total = padded[radius : radius + length] * half[0]
        pair = np.empty_like(total)
        # From the outside in, as SciPy adds: another order can move a last bit.
        for offset in range(radius, 0, -1):
            before = padded[radius - offset : radius - offset + length]
            after = padded[radius + offset : radius + offset + length]
            np.add(before, after, out=pair)
            pair *= half[offset]
            total += pair
        block[:] = total
