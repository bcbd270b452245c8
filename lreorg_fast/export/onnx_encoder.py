"""The e4e encoder as ONNX nodes; BatchNorm is folded into the convolution before it.

Only the BatchNorm in front of a zero-padded convolution stays, as a scale and a shift: its shift
is missing in the padding, so it cannot become a bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lreorg_fast.export.onnx_graph import Graph, numpy_dtype
from lreorg_fast.models import E4EEncoder

Array = NDArray[np.float64]


class EncoderNodes:
    """Writes an encoder into a graph; maps and kernels are of ``dtype``, latents float32."""

    def __init__(self, graph: Graph, encoder: E4EEncoder, dtype: str) -> None:
        self._graph = graph
        self._encoder: Any = encoder
        self._dtype = dtype
        self._type = numpy_dtype(dtype)

    def latents(self, picture: str) -> str:
        """(N, 3, S, S) float32 -> (N, num_ws, style_dim) float32."""
        graph, config = self._graph, self._encoder.config
        with graph.scope("encoder"):
            x = picture if self._dtype == "float32" else graph.cast(picture, self._dtype)
            levels = self._pyramid(x)
            rows: list[str] = []
            for row, block in enumerate(self._encoder.styles):
                with graph.scope(f"row{row}"):
                    made = self._row(block, levels[self._encoder.level(row)])
                    made = graph.add("Add", made, rows[0]) if rows else made
                rows.append(made)
            stacked = [graph.add("Unsqueeze", row, graph.numbers(1)) for row in rows]
            average = self._encoder.latent_avg.numpy()[None]
            assert len(rows) == config.num_ws
            return graph.add("Add", graph.add("Concat", *stacked, axis=1), graph.constant(average))

    def _pyramid(self, x: str) -> list[str]:
        """Maps of 1, 2 and 4 times the last unit's size."""
        stem, norm, prelu = self._encoder.input_layer
        x = self._prelu(self._convolution(x, *_followed(stem, norm), padding=1), prelu)
        ends = [sum(self._encoder.config.units[: i + 1]) for i in range(4)]
        maps = []
        for i, unit in enumerate(self._encoder.body):
            with self._graph.scope(f"unit{i}"):
                x = self._unit(x, unit)
            if i + 1 in ends[1:]:
                maps.append(x)
        fine, middle, coarse = maps
        middle = self._stretched_sum(coarse, middle, self._encoder.latlayer1)
        return [coarse, middle, self._stretched_sum(middle, fine, self._encoder.latlayer2)]

    def _unit(self, x: str, unit: Any) -> str:
        add = self._graph.add
        norm, first, prelu, second, last_norm, excite = unit.res_layer
        scale, shift = (value[:, None, None] for value in _affine(norm))
        y = add("Add", add("Mul", x, self._held(scale)), self._held(shift))
        y = self._prelu(self._convolution(y, _array(first.weight), padding=1), prelu)
        stride = int(second.stride[0])
        y = self._convolution(y, *_followed(second, last_norm), padding=1, stride=stride)
        gate = add("GlobalAveragePool", y)
        gate = add("Relu", self._convolution(gate, _array(excite.fc1.weight)))
        gate = add("Sigmoid", self._convolution(gate, _array(excite.fc2.weight)))
        return add("Add", add("Mul", y, gate), self._shortcut(x, unit.shortcut_layer, stride))

    def _shortcut(self, x: str, layer: Any, stride: int) -> str:
        if isinstance(layer, nn.Sequential):
            return self._convolution(x, *_followed(*layer), stride=stride)
        if stride == 1:
            return x
        return self._graph.add("MaxPool", x, kernel_shape=[1, 1], strides=[stride] * 2)

    def _stretched_sum(self, coarse: str, fine: str, lateral: Any) -> str:
        add = self._graph.add
        scales = self._graph.constant(np.array([1, 1, 2, 2], np.float32))
        large = add(
            "Resize", coarse, "", scales,
            mode="linear", coordinate_transformation_mode="align_corners",
        )  # fmt: skip
        return add(
            "Add", large, self._convolution(fine, _array(lateral.weight), _array(lateral.bias))
        )

    def _row(self, block: Any, x: str) -> str:
        add = self._graph.add
        for layer, activation in zip(block.convs[::2], block.convs[1::2], strict=True):
            x = self._convolution(x, _array(layer.weight), _array(layer.bias), padding=1, stride=2)
            x = add("LeakyRelu", x, alpha=activation.negative_slope)
        x = add("Flatten", x, axis=1)
        x = x if self._dtype == "float32" else self._graph.cast(x, "float32")
        weight = _array(block.linear.weight) * block.linear.scale
        bias = _array(block.linear.bias) * block.linear.lr_multiplier
        held = [self._graph.constant(value.astype(np.float32)) for value in (weight, bias)]
        return add("Gemm", x, *held, transB=1)

    def _prelu(self, x: str, prelu: Any) -> str:
        return self._graph.add("PRelu", x, self._held(_array(prelu.weight)[:, None, None]))

    def _convolution(
        self, x: str, weight: Array, bias: Array | None = None, padding: int = 0, stride: int = 1
    ) -> str:
        held = [self._held(value) for value in (weight, bias) if value is not None]
        return self._graph.add(
            "Conv", x, *held,
            kernel_shape=list(weight.shape[2:]), pads=[padding] * 4, strides=[stride] * 2,
        )  # fmt: skip

    def _held(self, array: Array) -> str:
        return self._graph.constant(array.astype(self._type))


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().numpy()
    return array


def _affine(norm: Any) -> tuple[Array, Array]:
    """What BatchNorm does in evaluation: ``x * scale + shift``."""
    scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    return scale, _array(norm.bias) - _array(norm.running_mean) * scale


def _followed(convolution: Any, norm: Any) -> tuple[Array, Array]:
    """Kernel and bias of a convolution with the BatchNorm that follows it."""
    scale, shift = _affine(norm)
    return _array(convolution.weight) * scale[:, None, None, None], shift
