"""The networks that verify a face as ONNX nodes: recognizers, and the bundle's own detector.

In float32 always, as in the pipeline: a check must not depend on how the faces are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.export.onnx_graph import Graph
from lreorg_fast.models.adaface import AdaFaceNet
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.identity_view import view_matrices
from lreorg_fast.models.iresnet import IResNet, IResNetBlock
from lreorg_fast.models.residual import ResidualUnit, SqueezeExcite

_LEAST_LENGTH = 1e-12  # as torch's normalize

Emit = Callable[["JudgeNodes", str, Any], str]


class JudgeNodes:
    """Writes face networks into a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def identity(self, recognizer: nn.Module, picture: str, size: int) -> str:
        """Unit features (N, outputs) of aligned pictures (N, 3, size, size), cropped if need be."""
        config: Any = recognizer.config
        with self._graph.scope("recognizer"):
            if config.input_size != size:
                rows, columns = (self._held(_array(m)) for m in view_matrices(size))
                picture = self._graph.add(
                    "MatMul", self._graph.add("MatMul", rows, picture), columns
                )
            return self.module(picture, recognizer)

    def face(self, detector: nn.Module, picture: str) -> str:
        """The detector's logit (N,), its last output."""
        graph = self._graph
        with graph.scope("detector"):
            return graph.add(
                "Gather", self.module(picture, detector), graph.constant(np.array(-1)), axis=1
            )

    def module(self, x: str, module: nn.Module) -> str:
        """What a module of a known class makes of ``x``."""
        emit = self._EMIT.get(type(module))
        if emit is None:
            raise ConfigError(
                f"a network with a {type(module).__name__} cannot be exported; use a recognizer of "
                "one of the classes FaceBackbone, IResNet, AdaFaceNet"
            )
        return emit(self, x, module)

    # ---- networks

    def _backbone(self, x: str, net: Any) -> str:
        for part in (net.input_layer, net.body, net.output_layer):
            x = self.module(x, part)
        return self._normalized(x) if net.config.normalize else x

    def _adaface(self, x: str, net: Any) -> str:
        x = self._graph.add("Gather", x, self._graph.numbers(2, 1, 0), axis=1)
        for part in (net.input_layer, net.body, net.output_layer):
            x = self.module(x, part)
        return self._normalized(x)

    def _iresnet(self, x: str, net: Any) -> str:
        parts = (net.conv1, net.bn1, net.prelu, net.layer1, net.layer2, net.layer3, net.layer4,
                 net.bn2, nn.Flatten(), net.fc, net.features)  # fmt: skip
        for part in parts:
            x = self.module(x, part)
        return self._normalized(x)

    def _iresnet_block(self, x: str, block: Any) -> str:
        y = x
        for part in (block.bn1, block.conv1, block.bn2, block.prelu, block.conv2, block.bn3):
            y = self.module(y, part)
        other = x if block.downsample is None else self.module(x, block.downsample)
        return self._graph.add("Add", y, other)

    def _unit(self, x: str, unit: Any) -> str:
        return self._graph.add(
            "Add", self.module(x, unit.res_layer), self.module(x, unit.shortcut_layer)
        )

    def _excite(self, x: str, layer: Any) -> str:
        add = self._graph.add
        gate = add("Relu", self.module(add("GlobalAveragePool", x), layer.fc1))
        return add("Mul", x, add("Sigmoid", self.module(gate, layer.fc2)))

    # ---- layers

    def _sequence(self, x: str, parts: Any) -> str:
        for part in parts:
            x = self.module(x, part)
        return x

    def _convolution(self, x: str, layer: Any) -> str:
        held = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        return self._graph.add(
            "Conv", x, *(self._held(_array(value)) for value in held),
            kernel_shape=list(layer.kernel_size), strides=list(layer.stride),
            pads=[*layer.padding] * 2,
        )  # fmt: skip

    def _norm(self, x: str, norm: Any) -> str:
        scale = 1 / np.sqrt(_array(norm.running_var) + norm.eps)
        shift = -_array(norm.running_mean) * scale
        if norm.affine:
            scale, shift = scale * _array(norm.weight), shift * _array(norm.weight)
            shift = shift + _array(norm.bias)
        axes = (..., None, None) if isinstance(norm, nn.BatchNorm2d) else (...,)
        add = self._graph.add
        return add("Add", add("Mul", x, self._held(scale[axes])), self._held(shift[axes]))

    def _prelu(self, x: str, layer: Any) -> str:
        return self._graph.add("PRelu", x, self._held(_array(layer.weight)[:, None, None]))

    def _linear(self, x: str, layer: Any) -> str:
        held = (self._held(_array(value)) for value in (layer.weight, layer.bias))
        return self._graph.add("Gemm", x, *held, transB=1)

    def _pool(self, x: str, layer: Any) -> str:
        if layer.kernel_size == layer.stride == 1:
            return x
        sides = [layer.kernel_size] * 2, [layer.stride] * 2
        return self._graph.add("MaxPool", x, kernel_shape=sides[0], strides=sides[1])

    def _flatten(self, x: str, _layer: Any) -> str:
        return self._graph.add("Flatten", x, axis=1)

    def _dropout(self, x: str, _layer: Any) -> str:
        return x  # in evaluation

    def _normalized(self, x: str) -> str:
        graph = self._graph
        length = graph.add("ReduceL2", x, graph.numbers(1), keepdims=1)
        return graph.add("Div", x, graph.add("Max", length, graph.scalar(_LEAST_LENGTH)))

    def _held(self, array: NDArray[np.float64]) -> str:
        return self._graph.constant(array.astype(np.float32))

    _EMIT: ClassVar[dict[type[nn.Module], Emit]] = {
        FaceBackbone: _backbone,
        AdaFaceNet: _adaface,
        IResNet: _iresnet,
        IResNetBlock: _iresnet_block,
        ResidualUnit: _unit,
        SqueezeExcite: _excite,
        nn.Sequential: _sequence,
        nn.Conv2d: _convolution,
        nn.BatchNorm2d: _norm,
        nn.BatchNorm1d: _norm,
        nn.PReLU: _prelu,
        nn.Linear: _linear,
        nn.MaxPool2d: _pool,
        nn.Flatten: _flatten,
        nn.Dropout: _dropout,
    }


def _array(tensor: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().double().numpy()
    return array
