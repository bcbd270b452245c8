"""Generators from files as their authors' code writes them."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import published
import pytest
import torch
from golden import DATA, arrays, difference, fill, published_keys
from torch import Tensor

from lreorg_fast.errors import CheckpointError
from lreorg_fast.models import E4EConfig, E4EEncoder, StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.weights.checkpoint import PersistentObject, open_checkpoint
from lreorg_fast.weights.generators import load_generator, mean_latent
from lreorg_fast.weights.networks import write_network
from lreorg_fast.weights.nvlabs import read_nvlabs_generator, rosinality_entry
from tolerances import tolerance

GATE = tolerance("published network", "float32")
State = dict[str, Tensor]
SMALL = {"resolution": 16, "style_dim": 16, "z_dim": 16, "mapping_layers": 2}


def small() -> StyleGAN2Generator:
    config = StyleGAN2Config(**SMALL, channels={4: 8, 8: 6, 16: 4})
    return fill(StyleGAN2Generator(config), "stylegan")


@pytest.fixture
def file(tmp_path) -> Iterator[Path]:
    path = tmp_path / "weights.bin"
    yield path
    path.unlink(missing_ok=True)


def training(state: State) -> dict[str, Any]:
    """As rosinality's train.py writes it; the raw generator has other values."""
    raw = {name: value * 0.5 for name, value in state.items()}
    return {
        "g": raw,
        "d": {"final_linear.1.weight": torch.zeros(1, 8)},
        "g_ema": state,
        "g_optim": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.002}]},
        "d_optim": {"state": {}, "param_groups": []},
        "args": Namespace(size=256, path="ffhq", lr=0.002),
        "ada_aug_p": 0.0,
    }


def e4e(state: State, average: Tensor | None = None) -> dict[str, Any]:
    """The parts of e4e's checkpoint that a generator is read from, and some that it is not."""
    average = torch.zeros(state["style.1.bias"].shape) if average is None else average
    rows = 2 * (len([name for name in state if name.startswith("noises.")]) + 1) // 2 + 1
    other = {"encoder.styles.0.linear.weight": torch.zeros(2, 2)}
    return {
        "state_dict": other | {f"decoder.{name}": value for name, value in state.items()},
        "opts": {"stylegan_size": 256, "start_from_latent_avg": True},
        "latent_avg": average.repeat(rows, 1),
        "optimizer": {"state": {0: torch.zeros(5)}},
    }


LAYOUTS: dict[str, Callable[[State, Tensor], Any]] = {
    "training": lambda state, average: training(state),
    "converted": lambda state, average: {"g_ema": state, "latent_avg": average},
    "e4e": e4e,
    "bare": lambda state, average: state | {"latent_avg": average},
    "DataParallel": lambda state, average: {f"module.{k}": v for k, v in state.items()},
    "raw only": lambda state, average: {"g": state, "latent_avg": average},
}


@pytest.mark.parametrize("layout", ["training", "converted", "e4e"])
def test_files_at_256_give_what_the_published_code_gives(layout, file) -> None:
    data = arrays("stylegan2_256")
    made = fill(StyleGAN2Generator(StyleGAN2Config()), "stylegan")
    average = torch.from_numpy(published.value("latent_avg", (512,), set()))
    torch.save(LAYOUTS[layout](made.state_dict(), average), file)
    del made
    net = load_generator(file)
    z = torch.from_numpy(published.normal("input.z", (2, 512)))
    assert difference(net.mapping(z), data["w"]) < GATE
    w = torch.from_numpy(data["w"][:1])
    assert difference(net.synthesis(w)[:, :, ::4, ::4], data["img"]) < GATE
    if layout == "training":
        assert torch.equal(net.latent_avg, mean_latent(net))
    else:
        assert torch.equal(net.latent_avg, average)


def test_an_nvlabs_pickle_gives_what_its_authors_code_gives() -> None:
    net = load_generator(DATA / "nvpkl_ada.pkl")
    data = arrays("nvpkl_ada_out")
    z = torch.from_numpy(published.normal("input.z", (2, 16)))
    w = net.mapping(z)
    assert difference(w, data["w"]) < GATE
    assert difference(net.synthesis(w), data["img"]) < GATE
    assert net.config.conv_clamp == 256
    average = published.value("mapping.w_avg", (16,), set())
    assert np.array_equal(net.latent_avg, average)
    wanted = average + 0.5 * (data["w"] - average)
    assert difference(net.mapping(z, truncation=0.5), wanted) < GATE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same_network(layout, file) -> None:
    made, average = small(), torch.randn(16)
    torch.save(LAYOUTS[layout](made.state_dict(), average), file)
    net = load_generator(file)
    assert net.config == made.config
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    for name, value in made.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    if layout not in ("training", "DataParallel"):
        assert torch.equal(net.latent_avg, average)


def test_half_precision_becomes_float32(file) -> None:
    torch.save({k: v.half() for k, v in small().state_dict().items()}, file)
    assert {value.dtype for value in load_generator(file).state_dict().values()} == {torch.float32}


def test_an_estimated_average_is_always_the_same(file) -> None:
    torch.save(small().state_dict(), file)
    first, second = load_generator(file), load_generator(file)
    assert torch.equal(first.latent_avg, second.latent_avg)
    w = first.mapping(torch.randn(20_000, 16, generator=torch.Generator().manual_seed(5)))
    # Two means of 10,000 and 20,000 samples: 1.2 % of the spread is one standard error.
    assert float(((w.mean(0) - first.latent_avg) / w.std(0)).abs().max()) < 0.06


def test_own_files_load(file) -> None:
    made = small()
    made.latent_avg = torch.randn(16)
    write_network(file, made)
    net = load_generator(file)
    assert net.config == made.config
    z = torch.randn(2, 16)
    assert torch.equal(net.mapping(z, 0.7), made.mapping(z, 0.7))
    assert torch.equal(net.synthesis(net.mapping(z)), made.synthesis(made.mapping(z)))


def replaced(name: str, value: Tensor) -> Callable[[State], Any]:
    return lambda state: state | {name: value}


def without(begin: str) -> Callable[[State], Any]:
    return lambda state: {k: v for k, v in state.items() if not k.startswith(begin)}


WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "noise missing": (without("noises."), "missing: noises.noise_0"),
    "layer missing": (without("convs.2."), "lacks 'convs.2.conv.weight'"),
    "mapping missing": (without("style."), "lacks 'style.1.weight'"),
    "mapping with a gap": (without("style.1."), "lacks 'style.1.weight'"),
    "extra": (replaced("more", torch.zeros(1)), "extra: more"),
    "shape": (replaced("conv1.activate.bias", torch.zeros(7)), r"conv1.activate.bias is \[7\]"),
    "NaN": (replaced("conv1.activate.bias", torch.full((8,), torch.nan)), "NaN or infinity"),
    "filter": (replaced("to_rgbs.0.upsample.kernel", torch.full((4, 4), 0.25)), "another filter"),
    "filter of sum 1": (
        lambda s: {k: v / 4 if k.endswith(".kernel") else v for k, v in s.items()},
        "sums to 1, not 4",
    ),
    "average of another length": (
        lambda s: {"g_ema": s, "latent_avg": torch.zeros(9)},
        r"'latent_avg' of shape \[9\]",
    ),
    "average of unequal rows": (
        lambda s: {"g_ema": s, "latent_avg": torch.randn(6, 16)},
        "rows differ",
    ),
    "average no tensor": (lambda s: {"g_ema": s, "latent_avg": "zero"}, "'latent_avg'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_fit_are_refused_by_what_is_wrong(name, file) -> None:
    wrong, message = WRONG[name]
    torch.save(wrong(small().state_dict()), file)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_generator(file)
    assert str(file) in str(caught.value)


def test_an_encoder_of_our_own_is_no_generator(file) -> None:
    shape = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1)}
    write_network(file, fill(E4EEncoder(E4EConfig(32, 8, 16, 8, **shape)), "e4e"))
    with pytest.raises(CheckpointError, match="load_encoder"):
        load_generator(file)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "conditional": ({"c_dim": 10}, "conditional on classes"),
    "gray": ({"img_channels": 1}, "img_channels = 1"),
    "residual": ({"_init_kwargs": {"architecture": "resnet"}}, "architecture = 'resnet'"),
    "nested": (
        {"_init_kwargs": {"synthesis_kwargs": {"resample_filter": [1, 2, 1]}}},
        "resample_filter",
    ),
    "StyleGAN3": ({"_modules": {}}, "StyleGAN3's own networks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nvlabs_networks_of_other_kinds_are_refused(name) -> None:
    change, message = REFUSED[name]
    with open_checkpoint(DATA / "nvpkl_ada.pkl") as checkpoint:
        network = checkpoint.content["G_ema"]
        changed = PersistentObject(network.class_name, {**network.state, **change})
        other = SimpleNamespace(path=checkpoint.path, content={"G_ema": changed})
        with pytest.raises(CheckpointError, match=message):
            read_nvlabs_generator(other)
        other.content["G_ema"] = None
        with pytest.raises(CheckpointError, match="nothing"):
            read_nvlabs_generator(other)


@pytest.mark.parametrize("size", [256, 1024])
def test_nvlabs_names_become_those_of_the_published_table(size) -> None:
    text = (DATA / f"map_rosinality_nvlabs_{size}.json").read_text()
    shapes = {name: shape for name, shape, _ in published_keys(f"rosinality_generator_{size}")}
    theirs = {name: shape for name, shape, _ in published_keys(f"ada_generator_{size}_cb32768")}
    pairs = json.loads(text)["map"]
    assert len(pairs) == len(theirs) - sum("resample_filter" in n for n in theirs) - 1
    for ours, name, _ in pairs:
        assert rosinality_entry(name, theirs[name]) == (ours, shapes[ours])
