"""VGG-Face against the author's converted network, on parameters made from names."""

from __future__ import annotations

import published
import pytest
import torch
from golden import arrays, difference, fill, keys_of, published_keys

from lreorg_fast.errors import ConfigError
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.models.vgg_face import (
    MAPS,
    PERCEPTUAL_MAPS,
    PerceptualLoss,
    VggFace,
    VggFaceConfig,
)
from tolerances import tolerance

GATE = tolerance("published network", "float32")
GOLDEN = arrays("vgg_face_dag")


def photo() -> torch.Tensor:
    picture = torch.from_numpy(published.photo("photo.vgg", 224, 224))
    return to_unit(picture).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def network() -> VggFace:
    module = fill(VggFace(VggFaceConfig(classifier=False)), "relu")
    assert isinstance(module, VggFace)
    return module


def with_convention(network: VggFace, convention: str) -> VggFace:
    other = VggFace(VggFaceConfig(convention, classifier=False))
    other.load_state_dict(network.state_dict())
    return other.requires_grad_(False)


def test_the_state_dict_is_the_published_one() -> None:
    assert keys_of(lambda: VggFace(VggFaceConfig())) == published_keys("vgg_face_dag")


def test_every_layer_equals_the_published_network() -> None:
    network = fill(VggFace(VggFaceConfig()), "relu")
    assert isinstance(network, VggFace)
    compared = set()
    for name, y in (network.maps(photo(), MAPS) | network.hidden(photo())).items():
        if name in GOLDEN:
            head = y[:, :4, :8, :8] if y.dim() == 4 else y
            assert difference(head, GOLDEN[name]) < GATE, name
            mean, deviation = y.double().mean(), y.double().std()
            found = torch.stack([mean, deviation]).float()
            assert difference(found, GOLDEN[f"{name}_meanstd"]) < GATE, name
            compared.add(name)
    assert compared == {name for name in GOLDEN if not name.endswith("_meanstd")}
    assert torch.equal(network(photo()), network.hidden(photo())["fc8"])


@pytest.mark.parametrize("convention", ["lua", "caffe"])
def test_another_convention_is_another_input(network: VggFace, convention: str) -> None:
    other = with_convention(network, convention)
    found = other.maps(photo(), ["relu1_1"])["relu1_1"]
    assert difference(found[:, :4, :8, :8], GOLDEN["relu1_1"]) > 0.01


def test_conventions_subtract_what_their_users_subtract(network: VggFace) -> None:
    x = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16) / 127.5 - 1
    wanted = {
        "dag": (10 - 129.1863, 20 - 104.7624, 30 - 93.5940),
        "lua": (30 - 129.1863, 20 - 104.7624, 10 - 93.5940),
        "caffe": (30 - 93.5940, 20 - 104.7624, 10 - 129.1863),
    }
    for convention, values in wanted.items():
        prepared = with_convention(network, convention).prepared(x)
        assert torch.allclose(prepared[0, :, 0, 0], torch.tensor(values), atol=1e-4)


def test_maps_stop_at_the_last_that_is_wanted(network: VggFace) -> None:
    calls: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, module in network.named_children()
    ]
    found = network.maps(torch.zeros(1, 3, 16, 16), ["relu2_1", "relu1_1"])
    for hook in hooks:
        hook.remove()
    assert list(found) == ["relu1_1", "relu2_1"]
    assert calls == ["conv1_1", "conv1_2", "conv2_1"]


def test_the_perceptual_loss_is_the_weighted_sum_of_mean_differences(network: VggFace) -> None:
    a, b = (torch.from_numpy(published.image(f"input.vgg.{n}", 2, 32, 48)) for n in "ab")
    maps_a, maps_b = network.maps(a), network.maps(b)
    weights = (0.1, 0.1, 1.0, 1.0, 1.0)
    wanted = sum(
        weight * (maps_a[name] - maps_b[name]).abs().mean()
        for weight, name in zip(weights, PERCEPTUAL_MAPS, strict=True)
    )
    x, target = a.clone().requires_grad_(), b.clone().requires_grad_()
    loss = PerceptualLoss(network, weights)(x, target)
    assert loss.item() == pytest.approx(float(wanted), rel=1e-6)
    loss.backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0
    assert target.grad is None
    assert PerceptualLoss(network)(a, a).item() == 0


def test_other_settings_and_pictures_are_refused(network: VggFace) -> None:
    x = torch.zeros(1, 3, 32, 32)
    wrong = [
        lambda: VggFaceConfig("rgb"),
        lambda: network.maps(x, ["relu6_1"]),
        lambda: network.maps(x, []),
        lambda: network.maps(x[:, :1]),
        lambda: network.maps(x[..., :15]),
        lambda: network.maps(x.byte()),
        lambda: network(x),
        lambda: network(torch.zeros(1, 3, 224, 224)),
        lambda: PerceptualLoss(network, (1.0,)),
        lambda: PerceptualLoss(network, (1.0, 1.0, 1.0, 1.0, -1.0)),
        lambda: PerceptualLoss(network)(x, x[:, :, :16]),
    ]
    for call in wrong:
        with pytest.raises(ConfigError):
            call()
