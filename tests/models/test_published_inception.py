"""FID's Inception against pytorch-fid and torch-fidelity, on parameters made from names."""

from __future__ import annotations

import published
import pytest
import torch
from golden import arrays, difference, fill, keys_of, published_keys

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation import prepare_pictures
from lreorg_fast.models import FidInception
from lreorg_fast.models.inception import FEATURES
from tolerances import tolerance

GATE = tolerance("published FID blocks", "float32")
GOLDEN = arrays("fid_inception")


@pytest.fixture(scope="module")
def network() -> FidInception:
    module = fill(FidInception(), "relu")
    assert isinstance(module, FidInception)
    return module


def photo(name: str, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(published.photo(name, height, width)).permute(2, 0, 1)[None]


PHOTOS = {"photo": ("photo.fid", 200, 180), "photo299": ("photo.fid299", 299, 299)}


def test_the_state_dict_is_the_published_one() -> None:
    assert keys_of(FidInception) == published_keys("fid_inception")


def test_every_block_equals_pytorch_fids(network: FidInception) -> None:
    x = torch.from_numpy(published.uniform("input.fid.x", (2, 3, 256, 256), 0, 1))
    maps = network.maps(prepare_pictures(x, "pytorch-fid"), FEATURES)
    for index, length in enumerate(FEATURES[:3]):
        assert difference(maps[length][:, :4, :8, :8], GOLDEN[f"b{index}_head"]) < GATE
        assert difference(maps[length].mean(dim=(2, 3)), GOLDEN[f"b{index}_gap"]) < GATE
    assert difference(maps[2048].mean(dim=(2, 3)), GOLDEN["pool3"]) < GATE


@pytest.mark.parametrize("name", PHOTOS)
def test_both_conventions_equal_their_programs_and_differ(network: FidInception, name: str) -> None:
    pictures = photo(*PHOTOS[name])
    first = network(prepare_pictures(pictures, "pytorch-fid"))
    second = network(prepare_pictures(pictures, "torch-fidelity"))
    assert difference(first, GOLDEN[f"pool3_{name}"]) < GATE
    assert difference(second, GOLDEN[f"tfid_2048_{name}"]) < GATE
    assert difference(first, GOLDEN[f"tfid_2048_{name}"]) > 1e-3  # 3.0e-3 and 1.6e-3 published


def test_early_features_and_logits_equal_torch_fidelitys(network: FidInception) -> None:
    x = prepare_pictures(photo(*PHOTOS["photo"]), "torch-fidelity")
    assert difference(network.features(x, 64), GOLDEN["tfid_64_photo"]) < GATE
    unbiased = network.logits(network(x), bias=False)
    assert difference(unbiased, GOLDEN["tfid_logits_unbiased_photo"]) < GATE
    biased = network.logits(network(x))
    assert torch.allclose(biased - unbiased, network.fc.bias.expand_as(biased), atol=1e-5)


def test_a_picture_does_not_depend_on_its_batch(network: FidInception) -> None:
    x = torch.from_numpy(published.image("input.batch", 3, 299, 299))
    alone = torch.cat([network(part[None]) for part in x])
    assert difference(network(x), alone.numpy()) < GATE


@pytest.mark.parametrize(
    ("x", "lengths"),
    [
        (torch.zeros(1, 3, 74, 299), (2048,)),
        (torch.zeros(1, 1, 299, 299), (2048,)),
        (torch.zeros(3, 299, 299), (2048,)),
        (torch.zeros(1, 3, 299, 299, dtype=torch.uint8), (2048,)),
        (torch.zeros(1, 3, 299, 299), (2047,)),
        (torch.zeros(1, 3, 299, 299), ()),
    ],
)
def test_inception_refuses(x: torch.Tensor, lengths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = FidInception()
    with pytest.raises(ConfigError):
        network.maps(x, lengths)
