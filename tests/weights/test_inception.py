"""FID's Inception from a file as it is published."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import published
import pytest
import torch
from golden import arrays, difference, fill
from torch import Tensor

from lreorg_fast.errors import CheckpointError
from lreorg_fast.evaluation import inception_statistics, prepare_pictures
from lreorg_fast.models import FidInception
from lreorg_fast.weights.inception import load_inception
from lreorg_fast.weights.tensors import write_tensors
from tolerances import tolerance

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return fill(FidInception(), "relu").state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_published_file_gives_the_published_features(
    state: State, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        write_tensors(path, state)
    network = load_inception(path)
    os.remove(path)  # nothing is read from it any more
    pictures = torch.from_numpy(published.photo("photo.fid", 200, 180)).permute(2, 0, 1)[None]
    golden = arrays("fid_inception")
    limit = tolerance("published FID blocks", "float32")
    for convention, name in (("pytorch-fid", "pool3"), ("torch-fidelity", "tfid_2048")):
        features = network(prepare_pictures(pictures, convention))
        assert difference(features, golden[f"{name}_photo"]) < limit
    made = inception_statistics(network, [pictures, pictures], "pytorch-fid")
    assert made.n == 2
    assert difference(torch.from_numpy(made.mean[None]), golden["pool3_photo"]) < limit
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert list(network.state_dict()) == list(state)


def test_half_precision_becomes_float32(state: State, tmp_path: Path) -> None:
    halves = {key: x.half() if x.is_floating_point() else x for key, x in state.items()}
    torch.save(halves, tmp_path / "half.pth")
    network = load_inception(tmp_path / "half.pth")
    assert torch.equal(network.fc.weight, state["fc.weight"].half().float())


def without_a_layer(state: State) -> None:
    del state["Mixed_6b.branch7x7dbl_4.conv.weight"]


def with_a_stranger(state: State) -> None:
    state["Mixed_8a.weight"] = torch.zeros(3)


def of_another_shape(state: State) -> None:
    state["fc.weight"] = torch.zeros(1000, 2048)


def with_nan(state: State) -> None:
    state["fc.bias"] = torch.full((1008,), torch.nan)


def of_imagenet(state: State) -> None:
    state["AuxLogits.fc.weight"] = torch.zeros(1000, 768)


def of_something_else(state: State) -> None:
    state.clear()
    state["weight"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_a_layer, "Mixed_6b.branch7x7dbl_4.conv.weight"),
        (with_a_stranger, "Mixed_8a.weight"),
        (of_another_shape, "fc.weight"),
        (with_nan, "NaN"),
        (of_imagenet, "torchvision's Inception for ImageNet"),
        (of_something_else, "not the Inception network of FID"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, spoil: Callable[[State], None], message: str
) -> None:
    with torch.device("meta"):
        shapes = FidInception().state_dict()
    state = {key: torch.zeros(x.shape, dtype=x.dtype) for key, x in shapes.items()}
    state = {key: x.half() if x.is_floating_point() else x for key, x in state.items()}
    spoil(state)
    path = tmp_path / "spoiled.pth"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_inception(path)
    assert str(path) in str(caught.value)
