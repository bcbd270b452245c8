"""StyleGAN2 synthesis as ONNX nodes with constant kernels (docs/export.md).

``y = conv(x * style, kernel) * gain``: the style scales what comes in, the demodulation what comes
out, and the kernel is the same for every picture. Styles and gains are float32 in every file, and
what a 16-bit product reads is divided by its largest value first, so that nothing overflows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.export.onnx_graph import Graph, numpy_dtype
from lreorg_fast.models import StyleGAN2Generator
from lreorg_fast.models.layers import SQRT2, fir_kernel

Array = NDArray[np.float64]
_DEMODULATION = 1e-8  # as in the network
_LEAST_STYLE = 1e-12  # a style of zeros is divided by this
_LEAK = 0.2


class GeneratorNodes:
    """Writes a synthesis into a graph; maps and kernels are of ``dtype``, the picture float32."""

    def __init__(self, graph: Graph, generator: StyleGAN2Generator, dtype: str) -> None:
        self._graph = graph
        self._generator: Any = generator
        self._dtype = dtype
        self._type = numpy_dtype(dtype)
        self._limit: float | None = generator.config.conv_clamp

    def picture(self, latents: str) -> str:
        """(N, num_ws, style_dim) float32 -> (N, 3, R, R) float32, not clipped; constant noise."""
        graph, generator = self._graph, self._generator
        with graph.scope("generator"):
            rows = [
                graph.add("Squeeze", row, graph.numbers(1))
                for row in graph.split(latents, [1] * generator.num_ws, axis=1)
            ]
            x = self._held(_array(generator.input.input))
            x = self._layer(0, generator.conv1, x, rows[0])
            picture = self._colour(generator.to_rgb1, x, rows[1], None)
            for j, colour in enumerate(generator.to_rgbs):
                for i in (2 * j, 2 * j + 1):
                    x = self._layer(i + 1, generator.convs[i], x, rows[i + 1])
                picture = self._colour(colour, x, rows[2 * j + 3], picture)
            return picture

    def _layer(self, index: int, layer: Any, x: str, row: str) -> str:
        """Modulated convolution, noise, bias, activation; sqrt(2) is in all that it scales."""
        add = self._graph.add
        with self._graph.scope(f"layer{index}"):
            kernel = _array(layer.conv.weight)[0] * layer.conv.scale
            style = self._style(layer.conv.modulation, row)
            norms = np.square(kernel).sum((2, 3)).T
            squares = add("MatMul", add("Mul", style, style), self._float(norms))
            length = add("Sqrt", add("Add", squares, self._float(_DEMODULATION)))
            gain = add("Div", self._float(SQRT2), length)
            x, largest = self._modulated(x, style)
            scaled, scales = _bounded(kernel)
            gain = add("Mul", add("Mul", gain, largest), self._float(scales))
            x = self._upsampled(x, scaled) if layer.conv.upsample else self._convolution(x, scaled)
            x = add("Mul", x, self._of_maps(gain))
            strength = float(layer.noise.weight)
            if strength:
                noise = _array(getattr(self._generator.noises, f"noise_{index}"))
                x = add("Add", x, self._held(noise * strength * SQRT2))
            bias = _array(layer.activate.bias) * SQRT2
            x = add("Add", x, self._held(bias[:, None, None]))
            return self._clipped(add("LeakyRelu", x, alpha=_LEAK), self._dtype)

    def _colour(self, layer: Any, x: str, row: str, before: str | None) -> str:
        """ToRGB in float32 from its 1x1 convolution on, on top of the picture so far."""
        graph, add = self._graph, self._graph.add
        with graph.scope("colour"):
            kernel = _array(layer.conv.weight)[0] * layer.conv.scale
            x, largest = self._modulated(x, self._style(layer.conv.modulation, row))
            scaled, scales = _bounded(kernel)
            x = self._convolution(x, scaled)
            x = x if self._dtype == "float32" else graph.cast(x, "float32")
            gain = add("Mul", largest, self._float(scales))
            x = add("Mul", x, graph.add("Unsqueeze", gain, graph.numbers(2, 3)))
            x = add("Add", x, self._float(_array(layer.bias)))
            x = self._clipped(x, "float32")
            if before is None:
                return x
            fir = np.broadcast_to(_array(fir_kernel(4.0)), (3, 1, 4, 4))
            larger = add(
                "ConvTranspose", before, self._float(fir),
                kernel_shape=[4, 4], pads=[1] * 4, strides=[2, 2], group=3,
            )  # fmt: skip
            return add("Add", x, larger)

    def _style(self, modulation: Any, row: str) -> str:
        weight = _array(modulation.weight) * modulation.scale
        bias = _array(modulation.bias) * modulation.lr_multiplier
        return self._graph.add("Gemm", row, self._float(weight), self._float(bias), transB=1)

    def _modulated(self, x: str, style: str) -> tuple[str, str]:
        """``x`` times the style over its largest value (N, 1), and that value."""
        add = self._graph.add
        largest = add("ReduceMax", add("Abs", style), self._graph.numbers(1), keepdims=1)
        largest = add("Max", largest, self._float(_LEAST_STYLE))
        return add("Mul", x, self._of_maps(add("Div", style, largest))), largest

    def _convolution(self, x: str, kernel: Array) -> str:
        size = kernel.shape[-1]
        return self._graph.add(
            "Conv", x, self._held(kernel), kernel_shape=[size] * 2, pads=[size // 2] * 4
        )

    def _upsampled(self, x: str, kernel: Array) -> str:
        """Zero insertion and the kernel as a transposed convolution, then the 4x4 filter."""
        channels = kernel.shape[0]
        x = self._graph.add(
            "ConvTranspose", x, self._held(kernel.swapaxes(0, 1)),
            kernel_shape=[3, 3], strides=[2, 2],
        )  # fmt: skip
        fir = np.broadcast_to(_array(fir_kernel(4.0)), (channels, 1, 4, 4))
        return self._graph.add(
            "Conv", x, self._held(fir), kernel_shape=[4, 4], pads=[1] * 4, group=channels
        )

    def _clipped(self, x: str, dtype: str) -> str:
        if self._limit is None:
            return x
        ends = (np.array(end, numpy_dtype(dtype)) for end in (-self._limit, self._limit))
        return self._graph.add("Clip", x, *map(self._graph.constant, ends))

    def _of_maps(self, channels: str) -> str:
        """(N, C) float32 -> (N, C, 1, 1) as maps are."""
        graph = self._graph
        value = channels if self._dtype == "float32" else graph.cast(channels, self._dtype)
        return graph.add("Unsqueeze", value, graph.numbers(2, 3))

    def _held(self, array: Array) -> str:
        return self._graph.constant(array.astype(self._type))

    def _float(self, array: Array | float) -> str:
        return self._graph.constant(np.asarray(array, np.float32))


def _bounded(kernel: Array) -> tuple[Array, Array]:
    """A kernel whose largest weight is 1 / sqrt(inputs) for each output, and the factors (C_out,).

    Then a sum over all inputs is of the size of one input, as without the division it need not be.
    """
    inputs = math.prod(kernel.shape[1:])
    largest = np.abs(kernel).max((1, 2, 3))
    scales = np.where(largest > 0, largest, 1.0) * math.sqrt(inputs)
    return kernel / scales[:, None, None, None], scales


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().numpy()
    return array
