"""Network files of our own: round trips, and headers that lie."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from golden import fill
from torch import nn

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.models import (
    AdaFaceConfig,
    AdaFaceNet,
    BackboneConfig,
    E4EConfig,
    E4EEncoder,
    FaceBackbone,
    IResNet,
    IResNetConfig,
    StyleGAN2Config,
    StyleGAN2Generator,
)
from lreorg_fast.models.window import WindowBackbone, WindowConfig
from lreorg_fast.weights.networks import ARCHITECTURE, CONFIG, load_network, write_network
from lreorg_fast.weights.parts import ARCHITECTURES
from lreorg_fast.weights.tensors import write_tensors

SHAPE: dict[str, Any] = {"stem": 4, "widths": (4, 6, 8, 8), "units": (1, 2, 1, 1)}
FACE: dict[str, Any] = {"input_size": 32, "outputs": 5, **SHAPE}
NETWORKS = {
    "stylegan2": lambda: StyleGAN2Generator(StyleGAN2Config(8, 16, 2, {4: 4, 8: 6})),
    "e4e": lambda: E4EEncoder(E4EConfig(32, 8, 16, 8, **SHAPE)),
    "face-backbone": lambda: FaceBackbone(BackboneConfig(**FACE, normalize=False)),
    "window-backbone": lambda: WindowBackbone(WindowConfig(48, 8, 12, BackboneConfig(**FACE))),
    "iresnet": lambda: IResNet(IResNetConfig(**FACE)),
    "adaface": lambda: AdaFaceNet(AdaFaceConfig(**FACE, squeeze_excite=True)),
    "cdfnet": lambda: CDFNet(CDFNetConfig(8, 6, 2, 4, 1.5)),
}


def test_every_architecture_has_a_round_trip() -> None:
    assert set(NETWORKS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_back(name, tmp_path) -> None:
    made = fill(NETWORKS[name]())
    average = getattr(made, "latent_avg", None)
    if average is not None:
        average.normal_()
    write_network(tmp_path / "n.safetensors", made)
    net = load_network(tmp_path / "n.safetensors")
    assert type(net) is type(made)
    assert net.config == made.config
    assert not net.training
    assert list(net.state_dict()) == list(made.state_dict())
    for key, value in made.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    for key, value in made.named_buffers():
        assert torch.equal(net.get_buffer(key), value), key
    assert not any(value.is_meta or value.requires_grad for value in net.parameters())


def test_other_modules_cannot_be_written(tmp_path) -> None:
    with pytest.raises(ConfigError, match="Linear cannot be written"):
        write_network(tmp_path / "n.safetensors", nn.Linear(2, 2))


GOOD = E4EConfig(32, 8, 16, 8, **SHAPE).to_dict()
LYING: dict[str, tuple[str, Any]] = {
    "unknown architecture": ("resnet", GOOD),
    "no object": ("e4e", [1]),
    "unknown field": ("e4e", GOOD | {"colour": 1}),
    "text for a number": ("e4e", GOOD | {"stem": "4"}),
    "fraction": ("e4e", GOOD | {"stem": 4.0}),
    "number for a list": ("e4e", GOOD | {"units": 3}),
    "negative": ("e4e", GOOD | {"stem": -4}),
    "huge": ("e4e", GOOD | {"style_dim": 10**9}),
    "endless": ("e4e", GOOD | {"style_dim": 10**500}),
    "wide": ("e4e", GOOD | {"style_dim": 65_536, "style_channels": 65_536}),
    "many rows": ("e4e", GOOD | {"num_ws": 60_000}),
    "many units": ("e4e", GOOD | {"units": [60_000] * 4}),
    "long list": ("e4e", GOOD | {"units": [1] * 1000}),
    "nested": ("e4e", GOOD | {"units": [[1]] * 4}),
    "no mapping of channels": ("stylegan2", {"channels": 5}),
    "impossible channels": ("stylegan2", {"resolution": 8, "channels": {"4": 1, "x": 2}}),
    "many blocks": ("cdfnet", {"num_blocks": 65_536}),
}


@pytest.mark.parametrize("name", LYING)
def test_headers_that_lie_are_refused_before_memory_is_reserved(
    name, tmp_path, monkeypatch
) -> None:
    architecture, config = LYING[name]
    path = tmp_path / "n.safetensors"
    tensors = fill(NETWORKS["e4e"]()).state_dict()
    write_tensors(path, tensors, {ARCHITECTURE: architecture, CONFIG: json.dumps(config)})
    monkeypatch.setattr(torch.Tensor, "to", None)  # nothing may be read
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"stem": 1, "stem": 2}', "[" * 5000, "x" * 70000]
)
def test_configs_that_are_no_json_are_refused(text, tmp_path) -> None:
    path = tmp_path / "n.safetensors"
    write_tensors(path, {"a": torch.zeros(1)}, {ARCHITECTURE: "e4e", CONFIG: text})
    with pytest.raises(CheckpointError, match="config"):
        load_network(path)


def test_a_file_without_its_header_is_refused(tmp_path) -> None:
    path = tmp_path / "n.safetensors"
    write_tensors(path, {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="network file of this package"):
        load_network(path)
