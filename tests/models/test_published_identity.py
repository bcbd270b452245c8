"""The identity networks against their authors' own code, on parameters made from names."""

from __future__ import annotations

from collections.abc import Callable

import published
import pytest
import torch
from golden import arrays, difference, fill, keys_of, published_keys
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.models import (
    AdaFaceConfig,
    AdaFaceNet,
    BackboneConfig,
    FaceBackbone,
    IResNet,
    IResNetConfig,
    arcface_view,
)
from tolerances import tolerance

GATE = tolerance("published network", "float32")
U18, U50, U100 = (2, 2, 2, 2), (3, 4, 14, 3), (3, 13, 30, 3)

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "irse50_treb1en": lambda: FaceBackbone(BackboneConfig()),
    "insightface_iresnet50": lambda: IResNet(IResNetConfig(units=U50)),
    "insightface_iresnet100": lambda: IResNet(IResNetConfig(units=U100)),
    "adaface_ir_18": lambda: AdaFaceNet(AdaFaceConfig(units=U18)),
    "adaface_ir_50": lambda: AdaFaceNet(AdaFaceConfig(units=U50)),
    "adaface_ir_101": lambda: AdaFaceNet(AdaFaceConfig(units=U100)),
    "adaface_ir_se_50": lambda: AdaFaceNet(AdaFaceConfig(units=U50, squeeze_excite=True)),
}
ADAFACE = ["adaface_ir_18", "adaface_ir_50", "adaface_ir_se_50"]
SMALL = {"input_size": 32, "stem": 4, "widths": (4, 6, 8, 8), "units": (1, 2, 1, 1), "outputs": 5}
SMALL_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "TreB1eN": lambda: FaceBackbone(BackboneConfig(**SMALL)),
    "insightface": lambda: IResNet(IResNetConfig(**SMALL)),
    "AdaFace": lambda: AdaFaceNet(AdaFaceConfig(**SMALL)),
    "AdaFace SE": lambda: AdaFaceNet(AdaFaceConfig(**SMALL, squeeze_excite=True)),
}


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return torch.from_numpy(published.image("input.face.x", 2, 112, 112))


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    return fill(NETWORKS["irse50_treb1en"]())


def seen(net: nn.Module, x: Tensor, **places: str) -> dict[str, Tensor]:
    """What the named modules put out while ``net`` looks at ``x``."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.__setitem__(name, output)

    hooks = [
        net.get_submodule(place).register_forward_hook(keep(name)) for name, place in places.items()
    ]
    net(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_state_dict_is_the_published_one(name) -> None:
    assert keys_of(NETWORKS[name]) == published_keys(name)


def test_treb1en_equals_the_published_code(backbone, faces) -> None:
    data = arrays("irse50_treb1en")
    assert difference(backbone.raw(faces), data["pre_norm"]) < GATE
    assert difference(backbone(faces), data["feat"]) < GATE
    maps = seen(backbone, faces, stem="input_layer", b0="body.0", b3="body.3", b23="body.23")
    for name in ("stem", "b0", "b3"):
        assert difference(maps[name][:, :4, :8, :8], data[f"{name}_head"]) < GATE, name
    assert difference(maps["b23"][:, :8], data["b23"]) < GATE


def test_identity_loss_equals_the_published_code(backbone) -> None:
    data = arrays("irse50_treb1en")
    x = torch.from_numpy(published.image("input.idloss.x256", 2, 256, 256))
    y = torch.from_numpy(published.image("input.idloss.a", 2, 256, 256))
    assert difference(arcface_view(x)[:1], data["idloss_pooled112"]) < GATE
    wanted, found = backbone(arcface_view(x)), backbone(arcface_view(y))
    assert difference(wanted, data["idloss_feat"]) < GATE
    loss = (1 - (wanted * found).sum(dim=1)).mean()
    assert difference(loss, data["idloss_loss"]) < GATE
    assert difference(arcface_view(x.mT)[:1], data["idloss_pooled112"]) > 100 * GATE


def test_insightface_equals_the_published_code(faces) -> None:
    data = arrays("insightface_iresnet50")
    net = fill(NETWORKS["insightface_iresnet50"]())
    raw = net.raw(faces)
    assert difference(raw, data["feat"]) < GATE
    assert difference(net(faces) * raw.norm(dim=1, keepdim=True), data["feat"]) < GATE
    maps = seen(net, faces, layer1="layer1")
    assert difference(maps["layer1"][:, :4, :8, :8], data["layer1_head"]) < GATE
    assert difference(net.raw(faces.flip(1)), data["feat"]) > 1000 * GATE


@pytest.mark.parametrize("name", ADAFACE)
def test_adaface_equals_the_published_code(name, faces) -> None:
    data = arrays(name)
    net = fill(NETWORKS[name]())
    rgb = faces.flip(1)  # the fixture's input is BGR
    assert difference(net(rgb), data["feat"]) < GATE
    assert difference(net.norm(rgb), data["norm"]) < GATE
    assert difference(net.raw(rgb), data["feat"] * data["norm"]) < GATE
    assert difference(net(faces), data["feat"]) > 1000 * GATE


def test_adaface_takes_an_rgb_picture_as_its_authors_prepare_it() -> None:
    data = arrays("adaface_to_input")
    net = fill(NETWORKS["adaface_ir_50"]())
    rgb = torch.from_numpy(data["rgb"]).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert difference(rgb.flip(1)[:, :, :16, :16], data["tensor_head"]) < GATE
    assert difference(net(rgb), data["feat"]) < GATE
    assert difference(net.norm(rgb), data["norm"]) < GATE


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_result_is_of_unit_length_and_does_not_depend_on_its_neighbours(name) -> None:
    net = fill(SMALL_NETWORKS[name]())
    x = torch.from_numpy(published.image("input.small.x", 3, 32, 32))
    y = net(x)
    assert torch.allclose(y.norm(dim=1), torch.ones(3), atol=1e-6)
    assert torch.allclose(y, torch.nn.functional.normalize(net.raw(x)), atol=1e-6)
    for i in range(3):
        assert difference(net(x[i : i + 1]), y[i : i + 1].numpy()) < GATE
    assert difference(net(x.flip(3)), y.numpy()) > 0.01


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_pictures_of_another_size_are_refused(name) -> None:
    with pytest.raises(ConfigError, match=r"\(N, 3, 32, 32\), not \(1, 3, 48, 48\)"):
        SMALL_NETWORKS[name]()(torch.zeros(1, 3, 48, 48))


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_config_survives_its_dict(name) -> None:
    net = SMALL_NETWORKS[name]()
    again = type(net)(type(net.config)(**net.config.to_dict()))
    assert again.config == net.config
    assert keys_of(lambda: again) == keys_of(lambda: net)


@pytest.mark.parametrize("config", [BackboneConfig, IResNetConfig, AdaFaceConfig])
@pytest.mark.parametrize(
    "wrong", [{"input_size": 50}, {"outputs": 0}, {"units": (1, 2)}, {"widths": (4, 4, 4, 0)}]
)
def test_impossible_shapes_are_refused(config, wrong) -> None:
    with pytest.raises(ConfigError):
        config(**wrong)
