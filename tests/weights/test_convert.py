"""One safetensors file from what people have, with its settings in the header."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lreorg_fast.weights as library
from lreorg_fast.errors import CheckpointError, ConfigError, OutputError
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.weights.convert import convert
from lreorg_fast.weights.registry import published_file

CONFIG = StyleGAN2Config(
    resolution=16, style_dim=16, mapping_layers=2, channels={4: 8, 8: 8, 16: 4}
)


@pytest.fixture
def net() -> StyleGAN2Generator:
    return StyleGAN2Generator(CONFIG).eval().requires_grad_(False)


@pytest.fixture
def training_file(tmp_path: Path, net: StyleGAN2Generator) -> Path:
    """As rosinality's training writes it, with an average: the generator twice, and optimizers."""
    path = tmp_path / "550000.pt"
    content = {
        "g": {name: 0 * value for name, value in net.state_dict().items()},
        "g_ema": net.state_dict(),
        "g_optim": {"state": {0: {"exp_avg": torch.zeros(1000)}}, "param_groups": []},
        "args": argparse.Namespace(size=16),
        "latent_avg": torch.arange(16.0),
    }
    torch.save(content, path)
    return path


@pytest.fixture
def e4e_file(tmp_path: Path, net: StyleGAN2Generator) -> Path:
    """The generator as an e4e file carries it, beside what tells that file."""
    path = tmp_path / "e4e.pt"
    state: dict[str, Tensor] = {f"decoder.{k}": v for k, v in net.state_dict().items()}
    state["encoder.styles.0.linear.weight"] = torch.zeros(16, 16)
    average = torch.arange(16.0).repeat(6, 1)
    torch.save({"state_dict": state, "opts": {}, "latent_avg": average}, path)
    return path


def test_the_result_is_the_same_network(
    training_file: Path, tmp_path: Path, net: StyleGAN2Generator
) -> None:
    target = tmp_path / "generator.safetensors"
    done = convert(training_file, target)
    assert (done.path, done.architecture) == (target, "stylegan2")
    assert done.config["resolution"] == 16
    assert done.bytes == target.stat().st_size < training_file.stat().st_size
    again = library.load_generator(target)
    assert torch.equal(again.latent_avg, torch.arange(16.0))
    w = torch.randn(2, 16)
    assert torch.equal(again.synthesis(w), net.synthesis(w))


def test_a_converted_file_converts_to_itself(training_file: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    convert(training_file, once)
    convert(once, twice)
    assert once.read_bytes() == twice.read_bytes()


def test_of_several_networks_one_must_be_named(e4e_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "generator.safetensors"
    with pytest.raises(CheckpointError, match=r"an e4e checkpoint and holds several networks"):
        convert(e4e_file, target)
    assert not target.exists()
    assert convert(e4e_file, target, "generator").architecture == "stylegan2"


def test_a_part_that_is_not_there(training_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"StyleGAN2 generator .*part 'encoder'"):
        convert(training_file, tmp_path / "encoder.safetensors", "encoder")
    with pytest.raises(ConfigError, match="one of generator, encoder, identity"):
        convert(training_file, tmp_path / "encoder.safetensors", "nose")


def test_what_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a network that is converted"):
        convert(path, tmp_path / "other.safetensors")


def test_the_target_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pt"
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        convert(missing, tmp_path / "out.pt")
    (tmp_path / "here.safetensors").touch()
    with pytest.raises(OutputError, match="exists already"):
        convert(missing, tmp_path / "here.safetensors")


def test_an_existing_file_is_replaced_when_asked(training_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "generator.safetensors"
    target.touch()
    assert convert(training_file, target, overwrite=True).bytes == target.stat().st_size


def test_adding_checks_the_kind_where_no_digest_is_known(
    cache: Path, training_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"StyleGAN2 generator .*not vgg-face"):
        library.add(training_file, "vgg-face")
    name = "stylegan2-ada-ffhq-1024"
    entry, path = library.add(training_file, name)
    assert (entry, library.cached(name)) == (published_file(name), path)
    record = json.loads(path.with_name("record.json").read_text())
    assert record["bytes"] == training_file.stat().st_size
