"""Recognizers laid out for a CPU against the modules that they are made from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models import BackboneConfig, FaceBackbone
from lreorg_fast.models.inference import inference_backbone
from lreorg_fast.models.prepared_backbone import PreparedBackbone
from tolerances import tolerance

CONFIGS = {
    "odd": BackboneConfig(32, 5, (7, 6, 9, 8), (2, 1, 1, 2), 11, normalize=False),
    "even": BackboneConfig(64, 32, (32, 32, 64, 64), (1, 2, 1, 1), 24),
}


@pytest.fixture(scope="module", params=CONFIGS)
def network(request) -> FaceBackbone:
    made = FaceBackbone(CONFIGS[request.param]).requires_grad_(False).eval()
    torch.manual_seed(0)
    for part in made.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm1d)):
            part.running_mean.normal_(0, 0.5)
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.5)
    return made


def pictures(network: FaceBackbone, count: int) -> torch.Tensor:
    size = network.config.input_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_equals_the_plain_module(network, count) -> None:
    prepared = inference_backbone(network)
    assert isinstance(prepared, PreparedBackbone)
    x = pictures(network, count)
    found, wanted = prepared(x), network(x)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    limit = tolerance("prepared network", "float32") * wanted.abs().amax(dim=(0, 1)) if count else 0
    assert count == 0 or float((found - wanted).abs().max()) < float(limit)


def test_a_picture_of_another_size_is_refused(network) -> None:
    with pytest.raises(ConfigError, match="takes pictures of shape"):
        inference_backbone(network)(pictures(network, 1)[:, :, :-16])


def test_not_a_number_stays_one(network) -> None:
    x = pictures(network, 1)
    x[0, 1, 5, 5] = float("nan")
    assert inference_backbone(network)(x).isnan().any()


def test_other_networks_stay_as_they_are(network) -> None:
    other = nn.Linear(2, 2)
    assert inference_backbone(other) is other

    class Own(FaceBackbone):
        """Whose forward pass may be anything."""

    own = Own(network.config)
    assert inference_backbone(own) is own


def test_later_changes_of_the_network_are_not_seen(network) -> None:
    source, x = copy.deepcopy(network), pictures(network, 1)
    prepared = inference_backbone(source)
    before = prepared(x)
    for parameter in source.parameters():
        parameter.zero_()
    assert torch.equal(prepared(x), before)
