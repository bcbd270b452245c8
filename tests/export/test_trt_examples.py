"""The model repository for Triton Inference Server against what is exported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lreorg_fast.export.onnx_options import OnnxOptions
from lreorg_fast.export.onnx_stages import Networks, stage_model
from lreorg_fast.models import E4EConfig, StyleGAN2Config, StyleGAN2Generator

MODELS = Path(__file__).parents[2] / "examples" / "triton_server"
TENSOR = re.compile(r'\{ name: "(\w+)" data_type: (\w+) dims: \[ ([\d, ]+) \] \}')

Tensors = dict[str, tuple[int, ...]]


def declared(stage: str) -> tuple[Tensors, Tensors]:
    """Inputs and outputs of a model's config.pbtxt: shapes without the batch, all float32."""
    text = (MODELS / f"lreorg_{stage}" / "config.pbtxt").read_text()
    parts = []
    for kind in ("input", "output"):
        (block,) = re.findall(rf"^{kind} \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
        found = TENSOR.findall(block)
        assert found
        assert all(dtype == "TYPE_FP32" for _, dtype, _ in found)
        parts.append({name: tuple(map(int, dims.split(","))) for name, _, dims in found})
    return parts[0], parts[1]


@pytest.mark.parametrize("stage", ["analysis", "rendering"])
def test_names_and_shapes_are_those_of_the_export(stage: str, toys: Networks) -> None:
    graph = stage_model(toys, OnnxOptions(stage=stage)).graph
    for tensors, infos in zip(declared(stage), (graph.input, graph.output), strict=True):
        exported = {info.name: len(info.type.tensor_type.shape.dim) - 1 for info in infos}
        assert {name: len(shape) for name, shape in tensors.items()} == exported


def test_sizes_are_those_of_the_networks_of_256_pixels() -> None:
    config = StyleGAN2Config()
    latent = (StyleGAN2Generator(config).num_ws, config.style_dim)
    picture = (3, config.resolution, config.resolution)
    assert declared("rendering") == (
        {"latent": latent, "replace_identity": latent[1:]},
        {"rendered": picture},
    )
    size = E4EConfig().input_size
    assert declared("analysis") == (
        {"picture": (3, size, size)},
        {"latent": latent, "key_identity": latent},
    )
