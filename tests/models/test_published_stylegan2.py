"""StyleGAN2 against rosinality's and NVlabs' own code, on parameters made from names.

``tests/data/published`` holds their keys and outputs; ``tests/published.py`` makes parameters and
inputs. NVlabs' parameters are made from NVlabs' names and come in through the map between both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.models.inference import prepare_generator
from lreorg_fast.models.stylegan2 import published_channels
from tolerances import tolerance

DATA = Path(__file__).parents[1] / "data" / "published"
LIMIT = tolerance("published network", "float32")
SMALL = StyleGAN2Config(16, 8, 2, {4: 4, 8: 4, 16: 4}, z_dim=6, conv_clamp=0.5)


def load(name: str) -> Any:
    return np.load(DATA / f"{name}.npz")


def keys(name: str) -> dict[str, tuple[list[int], str]]:
    entries = json.loads((DATA / f"keys_{name}.json").read_text())["keys"]
    return {key: (shape, dtype) for key, shape, dtype in entries}


def name_map(resolution: int) -> list[tuple[str, str, str]]:
    return json.loads((DATA / f"map_rosinality_nvlabs_{resolution}.json").read_text())["map"]


def made(module: StyleGAN2Generator, names: dict[str, str], average: str) -> StyleGAN2Generator:
    """Parameters under the names of their own layout; ours have only dimensions of one more."""
    state = module.state_dict()
    for name, tensor in state.items():
        theirs = names.get(name, name)
        shape = tensor.shape
        value = published.value(theirs, shape, set(state), "stylegan", tensor.is_floating_point())
        if value is not None:
            tensor.copy_(torch.from_numpy(value))
    value = published.value(average, (module.config.style_dim,), set(), "stylegan")
    assert value is not None
    module.latent_avg.copy_(torch.from_numpy(value))
    return module.requires_grad_(False).eval()


def config(resolution: int, multiplier: int, clamp: float | None = None) -> StyleGAN2Config:
    channels = published_channels(resolution, multiplier)
    return StyleGAN2Config(resolution, channels=channels, conv_clamp=clamp)


def nvlabs(resolution: int, clamp: float | None = None) -> StyleGAN2Generator:
    names = {ours: theirs for ours, theirs, _ in name_map(256)}
    module = StyleGAN2Generator(config(resolution, 1, clamp))
    return made(module, names, "mapping.w_avg")


@pytest.fixture(scope="module")
def rosinality() -> StyleGAN2Generator:
    return made(StyleGAN2Generator(StyleGAN2Config()), {}, "latent_avg")


@pytest.fixture(scope="module")
def ada() -> StyleGAN2Generator:
    return nvlabs(256)


def z(count: int = 2) -> Tensor:
    return torch.from_numpy(published.normal("input.z", (count, 512)))


def difference(found: Tensor, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


def latent(name: str) -> Tensor:
    return torch.from_numpy(load(name)["w"][:1])


@pytest.mark.parametrize("resolution", [256, 1024])
def test_the_keys_are_rosinalitys(resolution: int) -> None:
    with torch.device("meta"):
        state = StyleGAN2Generator(config(resolution, 2)).state_dict()
    found = {k: (list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in state.items()}
    assert list(found.items()) == list(keys(f"rosinality_generator_{resolution}").items())


RESHAPED = {
    "same": lambda s: s,
    "unsqueeze0": lambda s: [1, *s],
    "reshape[1]": lambda s: [1],
    "reshape[1,3,1,1]": lambda s: [1, 3, 1, 1],
    "reshape[1,1,H,W]": lambda s: [1, 1, *s],
}


@pytest.mark.parametrize(
    ("name", "resolution", "multiplier"),
    [
        ("ada_generator_256_cb16384", 256, 1),
        ("ada_generator_256_cb32768", 256, 2),
        ("ada_generator_1024_cb32768", 1024, 2),
        ("sg3_generator_256_cb16384", 256, 1),
        ("sg3_generator_256_cb32768", 256, 2),
    ],
)
def test_the_shapes_are_nvlabs(name: str, resolution: int, multiplier: int) -> None:
    with torch.device("meta"):
        state = StyleGAN2Generator(config(resolution, multiplier)).state_dict()
    theirs = keys(name)
    found = {}
    for ours, key, change in name_map(resolution):
        assert RESHAPED[change](theirs[key][0]) == list(state[ours].shape)
        found[key] = ours
    assert {k for k in theirs if "filter" not in k} - set(found) == {"mapping.w_avg"}
    assert {k for k in state if "kernel" not in k} == set(found.values())


def test_rosinalitys_mapping_and_pictures(rosinality) -> None:
    data = load("sg2r256_map")
    w = rosinality.mapping(z())
    assert difference(w, data["w"]) < LIMIT
    assert difference(rosinality.latent_avg, data["latent_avg"]) == 0
    assert difference(rosinality.synthesis(latent("sg2r256_map")), load("sg2r256_w")["img"]) < LIMIT
    assert difference(rosinality.synthesis(w[1:2]), load("sg2r256_z2")["img"]) < LIMIT


def test_rosinalitys_inner_activations(rosinality) -> None:
    data, seen = load("sg2r256_inner"), {}
    convs = [rosinality.conv1, *rosinality.convs]
    colours = [rosinality.to_rgb1, *rosinality.to_rgbs]
    hooks = [
        module.register_forward_hook(lambda m, i, out, key=key: seen.update({key: out}))
        for key, module in [
            *((f"feat{i}", conv) for i, conv in enumerate(convs)),
            *((f"skip{4 << i}", colour) for i, colour in enumerate(colours)),
        ]
    ]
    rosinality.synthesis(latent("sg2r256_map"))
    for hook in hooks:
        hook.remove()
    for key in data.files:
        found = seen[key.split("_")[0]]
        if key.endswith("_head"):
            found = found[:, :4, :8, :8]
        elif key.endswith("_meanstd"):
            found = found.double()
            found = torch.stack([found.mean(), found.std()])
        assert difference(found, data[key]) < LIMIT, key


def test_a_prepared_generator_equals_rosinalitys(rosinality) -> None:
    found = prepare_generator(rosinality).synthesis(latent("sg2r256_map"))
    assert difference(found, load("sg2r256_w")["img"]) < LIMIT


def test_nvlabs_mapping_and_truncation(ada) -> None:
    data = load("ada_256_cb16384_map")
    assert difference(ada.mapping(z()), data["w"]) < LIMIT
    assert difference(ada.mapping(z(), 0.7), data["w_trunc07"]) < LIMIT
    assert difference(ada.mapping(z()[:1], 0.7, cutoff=8), data["w_trunc07_cut8"]) < LIMIT


def test_nvlabs_pictures(ada) -> None:
    w, data = latent("ada_256_cb16384_map"), load("ada_256_cb16384_nonoise")
    assert difference(ada.synthesis(w), load("ada_256_cb16384_w")["img"]) < LIMIT
    plain = ada.synthesis(w, noise="none")
    assert difference(plain[:, :, :96, :96], data["crop_tl"]) < LIMIT
    assert difference(plain[:, :, -96:, -96:], data["crop_br"]) < LIMIT
    truncated = ada.synthesis(ada.mapping(z()[:1], 0.7))
    assert difference(truncated[:, :, :96, :96], data["trunc07_tl"]) < LIMIT
    rows = load("ada_256_cb16384_wplus")
    found = ada.synthesis(torch.from_numpy(load("ada_256_cb16384_map")["wplus"]))
    assert difference(found[:, :, :96, :96], rows["crop_tl"]) < LIMIT
    assert difference(found[:, :, -96:, -96:], rows["crop_br"]) < LIMIT


def test_the_clamp_is_nvlabs() -> None:
    data = load("ada_64_clamp1")
    for clamp, name in ((1.0, "img"), (None, "img_noclamp")):
        net = nvlabs(64, clamp)
        assert difference(net.synthesis(net.mapping(z())), data[name]) < LIMIT
        assert difference(prepare_generator(net).synthesis(net.mapping(z())), data[name]) < LIMIT
    assert difference(torch.from_numpy(data["img"]), data["img_noclamp"]) > 1000 * LIMIT


def spoil_modulation(net: StyleGAN2Generator) -> None:
    for name, parameter in net.named_parameters():
        if name.endswith("modulation.bias"):
            parameter.add_(1.0)


def weaken(part: str) -> Any:
    def change(net: StyleGAN2Generator) -> None:
        for name, kernel in net.named_buffers():
            if name.endswith(f"{part}.kernel"):
                kernel.div_(4.0)

    return change


def flip(net: StyleGAN2Generator) -> None:
    for conv in list(net.convs)[::2]:
        conv.conv.weight.copy_(conv.conv.weight.flip(3, 4))


def without_noise(net: StyleGAN2Generator) -> None:
    for name, parameter in net.named_parameters():
        if name.endswith("noise.weight"):
            parameter.zero_()


@pytest.mark.parametrize(
    "mistake", [without_noise, weaken("blur"), weaken("upsample"), spoil_modulation, flip]
)
def test_each_known_mistake_shows(mistake) -> None:
    net = made(StyleGAN2Generator(StyleGAN2Config()), {}, "latent_avg")
    mistake(net)
    found = net.synthesis(latent("sg2r256_map"))
    assert difference(found, load("sg2r256_w")["img"]) > 1000 * LIMIT


def small(**changes: Any) -> StyleGAN2Generator:
    torch.manual_seed(0)
    net = StyleGAN2Generator(StyleGAN2Config(**{**SMALL.to_dict(), **changes}))
    for name, parameter in net.named_parameters():
        if name.endswith("noise.weight"):
            nn.init.constant_(parameter, 0.02)
    return net.requires_grad_(False).eval()


def test_settings_go_through_a_dict_and_older_ones_have_defaults() -> None:
    assert StyleGAN2Config(**SMALL.to_dict()) == SMALL
    older = {k: v for k, v in SMALL.to_dict().items() if k not in ("z_dim", "conv_clamp")}
    assert StyleGAN2Config(**older).z_dim == 8
    assert StyleGAN2Config(**older).conv_clamp is None
    assert small().mapping(torch.randn(3, 6)).shape == (3, 8)


@pytest.mark.parametrize("change", [{"z_dim": -1}, {"conv_clamp": 0.0}, {"conv_clamp": np.nan}])
def test_impossible_settings_are_refused(change) -> None:
    with pytest.raises(ConfigError):
        StyleGAN2Config(**{**SMALL.to_dict(), **change})


@pytest.mark.parametrize("prepared", [False, True])
def test_truncation_of_leading_rows_and_of_all(prepared: bool) -> None:
    plain = small(conv_clamp=None)
    plain.latent_avg.fill_(3.0)
    net = prepare_generator(plain) if prepared else plain
    w = torch.randn(2, net.num_ws, 8)
    found = net.truncate(w, 0.0, cutoff=2)
    assert torch.equal(found[:, :2], torch.full((2, 2, 8), 3.0))
    assert torch.equal(found[:, 2:], w[:, 2:])
    assert torch.allclose(net.truncate(w, 0.5), (w + 3.0) / 2)
    with pytest.raises(ConfigError, match="cutoff"):
        net.truncate(w, 0.5, cutoff=net.num_ws + 1)


@pytest.mark.parametrize("prepared", [False, True])
def test_random_noise_differs_repeats_and_has_no_bias(prepared: bool) -> None:
    plain = small(conv_clamp=None)
    for name, parameter in plain.named_parameters():
        if name.endswith("activate.bias"):
            parameter.fill_(5.0)  # far from the kink, where noise would move the mean
    net = prepare_generator(plain) if prepared else plain
    w = torch.randn(1, 8).expand(2000, 8)
    first = net.synthesis(w, noise="random", generator=torch.Generator().manual_seed(1))
    again = net.synthesis(w, noise="random", generator=torch.Generator().manual_seed(1))
    other = net.synthesis(w, noise="random", generator=torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    quiet = plain.synthesis(w[:1], noise="none")[0]
    assert F.mse_loss(first.mean(0), quiet) < 0.01 * F.mse_loss(first, quiet.expand_as(first))


def test_clamped_layers_have_a_gradient() -> None:
    net = small()
    w = torch.randn(1, 8, requires_grad=True)
    net.synthesis(w).sum().backward()
    assert w.grad is not None
    assert bool(w.grad.isfinite().all())
