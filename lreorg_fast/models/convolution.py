"""Convolutions with constant weights, laid out once instead of at every call.

PyTorch's ``conv2d`` reorders the weights for oneDNN at each call, which costs more than the
arithmetic at small maps; its own compiler avoids that with the same two operators that are used
here. Where 3x3 convolutions are bound by bfloat16 products, Winograd's minimal filtering
(``kernels/cpu/networks/winograd.h``) needs 2.25 times fewer of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.log import once
from lreorg_fast.models.passes import tensor_view


def _prepacking() -> bool:
    found = (
        torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )
    if not found:
        once(
            "oneDNN prepacking",
            "this PyTorch cannot lay out weights for oneDNN beforehand: the generator and the "
            "encoder run its plain convolutions, which are slower",
        )
    return found


@dataclass(frozen=True)
class Window:
    """Stride and zero padding (rows, columns) of a convolution."""

    stride: int = 1
    padding: tuple[int, int] = (0, 0)


class Convolution(Protocol):
    """``(N, H, W, C_in) -> (N, H', W', C_out)``, dense maps, in the dtype of the weights."""

    def __call__(self, x: Tensor) -> Tensor: ...


def convolution(
    weight: Tensor,
    window: Window,
    *,
    dtype: torch.dtype,
    size: tuple[int, int],
    bias: Tensor | None = None,
    leak: float | None = None,
) -> Convolution:
    """The faster of the two kinds for maps of ``size`` (height, width), which it will mostly see.

    Args:
        weight: (C_out, C_in, kernel, kernel), any float type; best the unrounded one.
        dtype: float32 or bfloat16, of maps and weights; sums are float32.
        bias: (C_out,) or None.
        leak: slope of a leaky ReLU that follows, or None for none.
    """
    if WinogradConvolution.pays(weight, window, dtype, size):
        return WinogradConvolution(weight, window.stride, bias=bias, leak=leak)
    return DirectConvolution(weight, window, dtype=dtype, size=size, bias=bias, leak=leak)


# Transforms of a line of three taps, by stride; see kernels/cpu/networks/winograd.cpp.
_LINES = {
    1: [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
    2: [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]],
}


class WinogradConvolution:
    """3x3, stride 1 or 2, zero padding 1, bfloat16: minimal filtering of Lavin and Gray (2016).

    The transformed weights are rounded once, from float64, and the transformed inputs once more
    than in a direct convolution: its error is up to 1.8 times that of one.
    """

    _PANEL = 32
    # By stride. Reading 16/9 (25/9) times as many weights costs more than is gained at maps of
    # smaller sides, and the transforms do with fewer channels.
    _SMALLEST: ClassVar[dict[int, int]] = {1: 8, 2: 32}
    _NARROWEST: ClassVar[dict[int, int]] = {1: 32, 2: 128}

    def __init__(
        self,
        weight: Tensor,
        stride: int = 1,
        *,
        bias: Tensor | None = None,
        leak: float | None = None,
    ) -> None:
        from lreorg_fast import _native

        self._run = _native.winograd
        self._stride = stride
        self._bias = None if bias is None else bias.detach().to(torch.float32, copy=True)
        self._leak = 1.0 if leak is None else leak
        self._out_channels, inputs = weight.shape[:2]
        line = torch.tensor(_LINES[stride], dtype=torch.float64)
        spread = torch.einsum("ai,ocij,bj->abco", line, weight.detach().double(), line)
        outputs = (self._out_channels // self._PANEL, self._PANEL)
        panels = spread.reshape(len(line) ** 2, inputs // 2, 2, *outputs)
        self._weights = panels.permute(3, 0, 1, 4, 2).to(torch.bfloat16).contiguous()

    @classmethod
    def pays(
        cls, weight: Tensor, window: Window, dtype: torch.dtype, size: tuple[int, int]
    ) -> bool:
        """Whether the kernel exists for this shape and this CPU gains by it."""
        from lreorg_fast import _native

        return (
            dtype == torch.bfloat16
            and weight.shape[2:] == (3, 3)
            and window.padding == (1, 1)
            and window.stride in _LINES
            and all(channels % cls._PANEL == 0 for channels in weight.shape[:2])
            and all(side % (2 * window.stride) == 0 for side in size)
            and min(size) >= cls._SMALLEST[window.stride]
            and min(weight.shape[:2]) >= cls._NARROWEST[window.stride]
            and _native.winograd_pays()
        )

    def __call__(self, x: Tensor) -> Tensor:
        count, height, width, _ = x.shape
        shape = (count, height // self._stride, width // self._stride, self._out_channels)
        out = x.new_empty(shape)
        self._run(
            in_=tensor_view(x),
            weights=tensor_view(self._weights),
            bias=None if self._bias is None else tensor_view(self._bias),
            leak=self._leak,
            stride=self._stride,
            out=tensor_view(out),
            threads=torch.get_num_threads(),
        )
        return out


class DirectConvolution:
    """By oneDNN, or by PyTorch's own convolution where that is missing.

    Arguments are those of :func:`convolution`.
    """

    def __init__(
        self,
        weight: Tensor,
        window: Window,
        *,
        dtype: torch.dtype,
        size: tuple[int, int],
        bias: Tensor | None = None,
        leak: float | None = None,
    ) -> None:
        self._window = window
        self._bias = None if bias is None else bias.detach().to(dtype, copy=True)
        self._leak = leak
        weight = weight.detach().to(dtype, copy=True).contiguous()
        self._packed = _prepacking()
        if self._packed:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # its stub lacks the shape
            weight = reorder(
                weight.to_mkldnn(),
                list(window.padding),
                [window.stride] * 2,
                [1, 1],
                1,
                [1, weight.shape[1], *size],
            )
        else:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self._weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        y = self._run(x.permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).contiguous()  # copies only where torch chose another layout

    def _run(self, x: Tensor) -> Tensor:
        window = self._window
        if not self._packed:
            y = F.conv2d(x, self._weight, self._bias, window.stride, window.padding)
            return y if self._leak is None else F.leaky_relu_(y, self._leak)
        y = torch.ops.mkldnn._convolution_pointwise(
            x,
            self._weight,
            self._bias,
            list(window.padding),
            [window.stride] * 2,
            [1, 1],
            1,
            "none" if self._leak is None else "leaky_relu",
            [] if self._leak is None else [self._leak],
            "",
        )
        assert isinstance(y, Tensor)
        return y
