"""What StyleGAN2 does between its convolutions on a GPU, one Triton kernel per pass.

Maps are ``(N, H, W, C)`` contiguous, float32, bfloat16 or float16: the memory of a channels-last
``(N, C, H, W)``, which cuDNN prefers. All other tensors are float32, sums too. Every tensor of a
call is on one CUDA device, or on the CPU where ``TRITON_INTERPRET=1`` was set before the import.
Nothing waits for the device, so a call can be captured in a CUDA graph once it has run before.

A leaky ReLU scales with what goes in: its gain of sqrt(2) is expected in ``gain``, ``bias`` and
``noise``. The filter is that of Karras et al. (2020), [1, 3, 3, 1] along each side, with the gain
of 4 that zero insertion costs: lines of 1/4, 3/4, 3/4, 1/4.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from lreorg_fast.kernels.triton import generator_kernels as kernels

_MAPS = (torch.float32, torch.bfloat16, torch.float16)
# Values per program: 16 (8) for each of 128 threads, two (one) 16-byte accesses in 16 bits.
_TILE = 2048
_UP_TILE = 1024
_WIDEST = 512
_UP_WIDEST = 64
# Rows per program of the up-sampling pass: each filtered row serves four results.
_UP_ROWS = 4
# A tile of a grouped product: terms summed at a time, results.
_TERMS, _RESULTS = 64, 32


@dataclass(frozen=True)
class Term:
    """One product of a group: ``x[:, first : first + K] @ matrix`` with ``matrix`` ``(K, O)``."""

    first: int
    matrix: Tensor


class GroupedProduct:
    """Products of different sizes in one launch, their results side by side.

    ``x (N, ...) -> (N, sum of O)``, float32. With ``offsets`` ``(sum of O,)`` they are added: the
    affine maps from latent rows to styles. Without, the results are the demodulation coefficients
    times sqrt(2), ``sqrt(2 / (x^2 @ matrix + 1e-8))``, for matrices of squared norms of kernels.

    Args:
        terms: at least one, float32 and all on one device.
    """

    def __init__(self, terms: Sequence[Term], offsets: Tensor | None) -> None:
        self._matrices = torch.cat([term.matrix.flatten() for term in terms])
        self._offsets = offsets
        self.widths = [term.matrix.shape[1] for term in terms]
        tiles: list[tuple[int, ...]] = []
        matrix_first = out_first = 0
        for term in terms:
            depth, width = term.matrix.shape
            tiles += [
                (term.first, depth, matrix_first, width, column, out_first)
                for column in range(0, width, _RESULTS)
            ]
            matrix_first += depth * width
            out_first += width
        self._table = torch.tensor(tiles, dtype=torch.int32, device=self._matrices.device)

    def __call__(self, x: Tensor) -> Tensor:
        x = _vectors(x)
        out = x.new_empty(len(x), sum(self.widths))
        with _device(x):
            kernels.product_kernel[(len(self._table), len(x))](
                x,
                self._matrices,
                self._offsets,
                out,
                self._table,
                x.stride(0),
                out.stride(0),
                TERMS=_TERMS,
                RESULTS=_RESULTS,
            )
        return out


def modulate(x: Tensor, style: Tensor, dtype: torch.dtype) -> Tensor:
    """``x (N or 1, H, W, C)`` times ``style (N, C)``, as a map of ``dtype``."""
    _check_map(x)
    style = _vectors(style)
    _, height, width, channels = x.shape
    out = x.new_empty(len(style), height, width, channels, dtype=dtype)
    block_c = min(triton.next_power_of_2(channels), _WIDEST)
    block_p = _TILE // block_c
    grid = (triton.cdiv(height * width, block_p), triton.cdiv(channels, block_c), len(style))
    with _device(x):
        kernels.modulate_kernel[grid](
            x,
            style,
            out,
            height * width,
            _shared_stride(x),
            style.stride(0),
            CHANNELS=channels,
            BLOCK_P=block_p,
            BLOCK_C=block_c,
        )
    return out


def finish(
    x: Tensor,
    *,
    gain: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    next_style: Tensor | None,
    colour_style: Tensor,
    colour_weight: Tensor,
    colour_bias: Tensor,
    skip: Tensor | None,
    limit: float | None = None,
) -> tuple[Tensor | None, Tensor]:
    """``a = leaky_relu(x * gain + noise + bias, 0.2)`` -> (``a * next_style``, picture).

    The picture ``(N, 3, H, W)``, float32, is ``a * colour_style`` times ``colour_weight`` plus
    ``colour_bias`` plus ``skip``, the picture so far, doubled.

    Args:
        x: overwritten by the first result.
        gain, next_style, colour_style: ``(N, C)``, the styles with equal strides between rows;
            ``next_style`` None saves writing the map.
        bias: ``(C,)``.
        noise: ``(N or 1, H, W)``.
        colour_weight, colour_bias: ``(3, C)`` and ``(3,)``.
        skip: ``(N, 3, H/2, W/2)``.
        limit: clamps ``a`` to ``[-limit, limit]``, and the colours before ``skip`` is added.
    """
    _check_map(x)
    count, height, width, channels = x.shape
    picture = x.new_empty(count, 3, height, width, dtype=torch.float32)
    block_c = min(triton.next_power_of_2(channels), _WIDEST)
    block_p = _TILE // block_c
    with _device(x):
        kernels.finish_kernel[(triton.cdiv(height * width, block_p), count)](
            x,
            x,
            _vectors(gain),
            bias,
            noise,
            next_style,
            _vectors(colour_style),
            colour_weight,
            colour_bias,
            skip,
            picture,
            height,
            width,
            _style_stride(next_style, colour_style),
            gain.stride(0),
            _shared_stride(noise),
            limit,
            CHANNELS=channels,
            BLOCK_P=block_p,
            BLOCK_C=block_c,
        )
    return (None if next_style is None else x), picture


def up_finish(
    x: Tensor,
    *,
    gain: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    next_style: Tensor,
    limit: float | None = None,
) -> Tensor:
    """``leaky_relu(filter(x) * gain + noise + bias, 0.2) * next_style``.

    Args:
        x: ``(N, H + 1, W + 1, C)``, what a transposed 3x3 convolution of stride 2 gives.
        gain, bias, noise, next_style, limit: as of :func:`finish`.

    Returns:
        ``(N, H, W, C)``.
    """
    _check_map(x)
    count, height, width, channels = x.shape[0], x.shape[1] - 1, x.shape[2] - 1, x.shape[3]
    out = x.new_empty(count, height, width, channels)
    block_c = min(triton.next_power_of_2(channels), _UP_WIDEST)
    block_x = min(triton.next_power_of_2(width), _UP_TILE // block_c)
    tiles = triton.cdiv(width, block_x) * triton.cdiv(channels, block_c)
    with _device(x):
        kernels.up_finish_kernel[(tiles, triton.cdiv(height, _UP_ROWS), count)](
            x,
            out,
            _vectors(gain),
            bias,
            noise,
            _vectors(next_style),
            height,
            width,
            next_style.stride(0),
            gain.stride(0),
            _shared_stride(noise),
            limit,
            CHANNELS=channels,
            ROWS=_UP_ROWS,
            BLOCK_X=block_x,
            BLOCK_C=block_c,
        )
    return out


def _device(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, wherever its arguments are."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _check_map(x: Tensor) -> None:
    if x.dim() != 4 or x.dtype not in _MAPS or not x.is_contiguous():
        raise ValueError(
            f"a map is {x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}, but must be "
            "(N, H, W, C), contiguous, in float32, bfloat16 or float16"
        )


def _vectors(x: Tensor) -> Tensor:
    """``x`` if it is ``(N, C)``, float32 and dense along C; rows may lie apart."""
    if x.dim() != 2 or x.dtype != torch.float32 or x.stride(1) != 1:
        raise ValueError(
            f"vectors are {x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}, but must "
            "be (N, C), float32 and dense along C"
        )
    return x


def _style_stride(next_style: Tensor | None, colour_style: Tensor) -> int:
    stride: int = colour_style.stride(0)
    if next_style is not None and _vectors(next_style).stride(0) != stride:
        raise ValueError("next_style and colour_style must have equal strides between rows")
    return stride


def _shared_stride(x: Tensor | None) -> int:
    """Between images; 0 where one serves all, or where there is none."""
    return 0 if x is None or len(x) == 1 else x.stride(0)
