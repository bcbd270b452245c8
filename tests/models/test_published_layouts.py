"""The architectures against their authors' own code, on parameters made from names.

``tests/data/published`` holds state-dict keys and (cropped or subsampled) outputs of the published
code; ``tests/published.py`` makes the parameters and inputs. Every fourth pixel of the StyleGAN2
picture is kept: a misplaced filter or noise map moves all of them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from torch import nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models import (
    StyleGAN2Config,
    StyleGAN2Generator,
)
from tolerances import tolerance

DATA = Path(__file__).parents[1] / "data" / "published"


def fill(module: nn.Module, family: str) -> nn.Module:
    state = module.state_dict()
    for name, tensor in state.items():
        made = published.value(name, tensor.shape, set(state), family, tensor.is_floating_point())
        if made is not None:
            tensor.copy_(torch.from_numpy(made))
    return module.requires_grad_(False).eval()


def published_keys(name: str) -> dict[str, list[int]]:
    entries = json.loads((DATA / f"keys_{name}.json").read_text())["keys"]
    return {key: shape for key, shape, _ in entries}


def difference(found: torch.Tensor, wanted: np.ndarray) -> float:
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("rosinality_generator_256", lambda: StyleGAN2Generator(StyleGAN2Config())),
    ],
)
def test_state_dict_names_and_shapes_are_the_published_ones(name, module) -> None:
    with torch.device("meta"):
        state = module().state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == published_keys(name)


def test_stylegan2_equals_the_published_code() -> None:
    data = np.load(DATA / "stylegan2_256.npz")
    generator = fill(StyleGAN2Generator(StyleGAN2Config()), "stylegan")
    z = torch.from_numpy(published.normal("input.z", (2, 512)))
    limit = tolerance("published network", "float32")
    assert difference(generator.mapping(z), data["w"]) < limit
    w = torch.from_numpy(data["w"][:1])
    assert difference(generator.synthesis(w)[:, :, ::4, ::4], data["img"]) < limit
    assert difference(generator.synthesis(w, noise="none")[:, :, ::4, ::4], data["img"]) > 0.01


def test_truncation_pulls_toward_the_average() -> None:
    config = StyleGAN2Config(16, 8, 2, {4: 4, 8: 4, 16: 4})
    generator = StyleGAN2Generator(config)
    generator.latent_avg.fill_(3.0)
    z = torch.randn(5, 8)
    full, half, none = (generator.mapping(z, truncation=t) for t in (1.0, 0.5, 0.0))
    assert torch.allclose(none, torch.full_like(none, 3.0))
    assert torch.allclose(half, (full + none) / 2, atol=1e-6)


def test_w_and_equal_rows_of_w_plus_are_the_same() -> None:
    generator = StyleGAN2Generator(StyleGAN2Config(16, 8, 2, {4: 4, 8: 4, 16: 4})).eval()
    w = torch.randn(3, 8)
    rows = w[:, None].expand(-1, generator.num_ws, -1)
    assert torch.equal(generator.synthesis(w), generator.synthesis(rows))
    assert generator.synthesis(w).shape == (3, 3, 16, 16)


def test_fading_goes_from_the_smaller_picture_to_the_larger() -> None:
    generator = StyleGAN2Generator(StyleGAN2Config(16, 8, 2, {4: 4, 8: 4, 16: 4})).eval()
    w = torch.randn(2, 8)
    start = generator.synthesis(w, fade=0.0)
    small = generator.synthesis(w, resolution=8)
    assert torch.allclose(start, generator.to_rgbs[-1].upsample(small), atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StyleGAN2Config(resolution=48),
        lambda: StyleGAN2Config(resolution=64),
        lambda: StyleGAN2Config(resolution=0),
    ],
)
def test_impossible_shapes_are_refused(make) -> None:
    with pytest.raises(ConfigError):
        make()


def test_latents_of_the_wrong_shape_are_refused() -> None:
    generator = StyleGAN2Generator(StyleGAN2Config(16, 8, 2, {4: 4, 8: 4, 16: 4}))
    with pytest.raises(ConfigError, match="latents"):
        generator.synthesis(torch.randn(2, 5, 8))
