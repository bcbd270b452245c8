"""The networks that verify, exported: every class of recognizer, and the view that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from onnx_runs import distance, pictures, session_of
from torch import nn

from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.export.onnx_graph import Graph
from lreorg_fast.export.onnx_judges import JudgeNodes
from lreorg_fast.export.onnx_options import OnnxOptions
from lreorg_fast.export.onnx_stages import Networks, stage_model
from lreorg_fast.models import BackboneConfig, FaceBackbone
from lreorg_fast.models.adaface import AdaFaceConfig, AdaFaceNet
from lreorg_fast.models.identity_view import arcface_view, view_matrices
from lreorg_fast.models.iresnet import IResNet, IResNetConfig
from lreorg_fast.models.views import recognized
from lreorg_fast.verification import DETECTOR, RECOGNIZER
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.parts import load_part
from tolerances import tolerance

Exported = Callable[..., Callable[..., dict[str, np.ndarray]]]
SMALL: dict[str, Any] = {
    "stem": 4, "widths": (4, 8, 8, 16), "units": (2, 1, 1, 1), "outputs": 8, "input_size": 112,
}  # fmt: skip
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "backbone": lambda: FaceBackbone(BackboneConfig(**SMALL)),
    "backbone, logits": lambda: FaceBackbone(BackboneConfig(**SMALL, normalize=False)),
    "iresnet": lambda: IResNet(IResNetConfig(**SMALL)),
    "adaface": lambda: AdaFaceNet(AdaFaceConfig(**SMALL)),
    "adaface, squeezed": lambda: AdaFaceNet(AdaFaceConfig(**SMALL, squeeze_excite=True)),
}


def disturbed(net: nn.Module) -> nn.Module:
    """With statistics that make every BatchNorm matter."""
    for part in net.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, std=0.3)
        if isinstance(part, nn.PReLU):
            nn.init.uniform_(part.weight, 0.1, 0.4)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [112, 64, 256, 512])
def test_every_recognizer_at_every_size(name: str, size: int) -> None:
    net = disturbed(NETWORKS[name]())
    graph = Graph(20)
    features = JudgeNodes(graph).identity(
        net, graph.input("picture", ("batch", 3, size, size)), size
    )
    graph.output("identity", features, ("batch", 8))
    x = torch.rand(3, 3, size, size) * 2 - 1
    found = session_of(graph.model("recognizer", {}))(picture=x)["identity"]
    assert distance(found, recognized(net, x)) < tolerance("onnx recognizer", "float32")


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_the_view_as_matrices(size: int) -> None:
    x = torch.rand(1, 3, size, size, dtype=torch.float64)
    rows, columns = view_matrices(size)
    assert (rows.shape, columns.shape) == ((112, size), (size, 112))
    assert distance(rows @ x @ columns, arcface_view(x)) < 1e-12


def test_the_networks_of_the_demo(demo: Networks, exported: Exported) -> None:
    x = pictures(demo, 3)
    found = exported(demo, stage="recognizer")(picture=x)["identity"]
    wanted = load_part(demo.bundle, RECOGNIZER)(x)
    assert distance(found, wanted) < tolerance("onnx recognizer", "float32")
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    face = exported(demo, stage="detector")(picture=x)["face"]
    logits = load_part(demo.bundle, DETECTOR)(x)[:, -1]
    assert distance(face, logits) < tolerance("onnx recognizer", "float32")
    assert (face > 0).all()


def test_a_bundle_without_a_detector(tmp_path: Any) -> None:
    networks = Networks(open_bundle(toy_bundle(tmp_path / "toy", detector=False)))
    with pytest.raises(BundleError, match="has no part 'attributes'"):
        stage_model(networks, OnnxOptions(stage="detector"))


@pytest.mark.parametrize("stage", ["recognizer", "detector"])
def test_checks_are_in_float32(stage: str) -> None:
    with pytest.raises(ConfigError, match="the networks that verify run in float32 only"):
        OnnxOptions(stage=stage, dtype="float16")


def test_a_network_that_is_not_known(demo: Networks) -> None:
    with pytest.raises(ConfigError, match="a network with a GELU cannot be exported"):
        JudgeNodes(Graph(20)).module("x", nn.Sequential(nn.GELU()))
