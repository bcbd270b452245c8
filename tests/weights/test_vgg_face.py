"""VGG-Face from files as they are published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import published
import pytest
import torch
from golden import arrays, difference, fill
from torch import Tensor

from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.models.vgg_face import VggFace, VggFaceConfig
from lreorg_fast.weights.tensors import write_tensors
from lreorg_fast.weights.vgg_face import load_vgg_face
from tolerances import tolerance

State = dict[str, Tensor]
GATE = tolerance("published network", "float32")


def photo() -> Tensor:
    picture = torch.from_numpy(published.photo("photo.vgg", 224, 224))
    return to_unit(picture).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def state() -> State:
    return dict(fill(VggFace(VggFaceConfig(classifier=False)), "relu").state_dict())


def lua(state: State) -> State:
    return {name.replace("conv", "conv_"): value for name, value in state.items()}


def test_the_published_file_gives_the_published_scores(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    torch.save(fill(VggFace(VggFaceConfig()), "relu").state_dict(), path)
    network = load_vgg_face(path)
    path.unlink()  # nothing is read from it any more
    assert difference(network(photo()), arrays("vgg_face_dag")["fc8"]) < GATE
    assert network.config == VggFaceConfig("dag", classifier=True)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def bare(state: State, path: Path) -> None:
    torch.save(state, path)


def nested(state: State, path: Path) -> None:
    torch.save({"state_dict": state}, path)


def legacy(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def safetensors(state: State, path: Path) -> None:
    write_tensors(path, state)


@pytest.mark.parametrize("write", [bare, nested, legacy, safetensors])
def test_every_container_is_read_without_its_classifier(
    state: State, tmp_path: Path, write: Callable[[State, Path], None]
) -> None:
    write(state | {"fc6.bias": torch.zeros(4096)}, tmp_path / "weights")
    network = load_vgg_face(tmp_path / "weights", classifier=False)
    found = network.maps(photo(), ["relu1_1"])["relu1_1"]
    assert difference(found[:, :4, :8, :8], arrays("vgg_face_dag")["relu1_1"]) < GATE


def test_the_names_decide_the_convention(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "dag.pth")
    torch.save(lua(state), tmp_path / "lua.pth")
    dag = load_vgg_face(tmp_path / "dag.pth", classifier=False)
    port = load_vgg_face(tmp_path / "lua.pth", classifier=False)
    caffe = load_vgg_face(tmp_path / "dag.pth", "caffe", classifier=False)
    conventions = [network.config.convention for network in (dag, port, caffe)]
    assert conventions == ["dag", "lua", "caffe"]
    assert torch.equal(port.conv3_2.weight, dag.conv3_2.weight)


def test_half_precision_becomes_float32(state: State, tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pth")
    network = load_vgg_face(tmp_path / "half.pth", classifier=False)
    assert torch.equal(network.conv1_1.weight, state["conv1_1.weight"].half().float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv3_3.bias": None}, "conv3_3.bias"),
        ({"conv6_1.bias": torch.zeros(3)}, "conv6_1.bias"),
        ({"conv1_1.weight": torch.zeros(64, 4, 3, 3)}, "conv1_1.weight"),
        ({"conv1_1.bias": torch.full((64,), torch.nan)}, "NaN"),
        ({"conv5_3.weight": None}, "not a VGG-Face network"),
    ],
)
def test_other_files_are_refused(
    state: State, tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    changed = {name: value for name, value in (state | change).items() if value is not None}
    path = tmp_path / "spoiled.pth"
    torch.save(changed, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_vgg_face(path, classifier=False)
    assert str(path) in str(caught.value)


def test_a_network_without_its_classifier_must_be_asked_for(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"missing: fc6\.weight"):
        load_vgg_face(tmp_path / "weights.pth")


def test_unknown_conventions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of dag, lua, caffe"):
        load_vgg_face(tmp_path / "weights.pth", "rgb")
