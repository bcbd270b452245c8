"""Properties of StyleGAN2's mapping and synthesis, and the shapes that are refused."""

from __future__ import annotations

import pytest
import torch

from lreorg_fast.errors import ConfigError
from lreorg_fast.models import StyleGAN2Config, StyleGAN2Generator


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
