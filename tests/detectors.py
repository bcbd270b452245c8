"""Detectors for tests: ONNX files with known outputs, and one that knows where the faces are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.pictures import Picture


def constant_onnx(
    path: Path, outputs: Mapping[str, np.ndarray], size: tuple[int | str, int | str] = (64, 64)
) -> Path:
    """A network that gives these outputs whatever it sees. Its input is used, or onnxruntime
    would take it away."""
    nodes, infos = [], []
    for name, values in outputs.items():
        constant = numpy_helper.from_array(np.asarray(values, np.float32), f"{name}_value")
        nodes.append(helper.make_node("Constant", [], [f"{name}_plain"], value=constant))
        nodes.append(helper.make_node("Add", [f"{name}_plain", "zero"], [name]))
        infos.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, values.shape))
    zero = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
    ]
    nothing = numpy_helper.from_array(np.zeros((), np.float32), "nothing")
    picture = helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph([*zero, *nodes], "detector", [picture], infos, [nothing])
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def detection(x: float, y: float, side: float, score: float = 0.9, turn: float = 0.0) -> Detection:
    """An upright face (or turned, in radians) with its box's centre at (x, y)."""
    points = np.array([[-0.22, -0.15], [0.22, -0.15], [0, 0.08], [-0.17, 0.27], [0.17, 0.27]])
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    half = side / 2
    box = np.array([x - half * 0.8, y - half, x + half * 0.8, y + half])
    return Detection(box, score, points @ rotation * side + (x, y))


class KnownFaces:
    """A detector that was told."""

    def __init__(self, faces: Sequence[Detection]) -> None:
        self.faces = list(faces)
        self.thresholds: list[float] = []

    def __call__(self, picture: Picture, threshold: float) -> list[Detection]:
        self.thresholds.append(threshold)
        return [face for face in self.faces if face.score >= threshold]
