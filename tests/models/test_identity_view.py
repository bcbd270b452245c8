"""What a recognizer is shown of an aligned picture; its golden is in test_published_identity."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lreorg_fast.errors import ConfigError
from lreorg_fast.models import arcface_view


def picture(size: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1


@pytest.mark.parametrize("size", [64, 128, 256, 300, 512, 1024])
def test_every_size_gives_what_recognizers_take(size) -> None:
    view = arcface_view(picture(size, 2))
    assert view.shape == (2, 3, 112, 112)
    assert view.abs().max() <= 1


def test_only_the_face_counts() -> None:
    x = picture(256).requires_grad_()
    arcface_view(x).sum().backward()
    used = x.grad[0].abs().sum(dim=0) > 0
    assert used[35:223, 32:220].all()
    assert int(used.sum()) == 188 * 188


@pytest.mark.parametrize("factor", [2, 4])
def test_a_larger_picture_is_averaged_first(factor) -> None:
    x = picture(256)
    larger = x.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    assert torch.allclose(arcface_view(larger), arcface_view(x), atol=1e-6)


def test_a_smaller_picture_is_interpolated_first() -> None:
    x = picture(128)
    larger = F.interpolate(x, size=256, mode="bilinear", align_corners=False)
    assert torch.equal(arcface_view(x), arcface_view(larger))


@pytest.mark.parametrize("shape", [(3, 256, 256), (1, 1, 256, 256), (1, 3, 256, 128)])
def test_anything_else_is_refused(shape) -> None:
    with pytest.raises(ConfigError, match="aligned picture"):
        arcface_view(torch.zeros(shape))
