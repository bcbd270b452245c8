"""Every kind of file given to every loader of another: named, with the loader that takes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import DATA

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights.encoders import load_encoder
from lreorg_fast.weights.generators import load_generator
from lreorg_fast.weights.networks import load_network

ONE = torch.zeros(1)
LOADERS = {
    "load_generator": load_generator,
    "load_encoder": load_encoder,
    "load_network": load_network,
}


def names(*keys: str) -> dict[str, Any]:
    return dict.fromkeys(keys, ONE)


# content, what the error calls it, the loader that it names
KINDS: dict[str, tuple[Any, str, str]] = {
    "rosinality": (
        {"g_ema": names("input.input", "conv1.conv.weight")},
        "rosinality's layout",
        "load_generator",
    ),
    "e4e": (
        {
            "state_dict": names(
                "encoder.styles.0.linear.weight", "encoder.latlayer1.weight", "decoder.input.input"
            )
        },
        "an e4e checkpoint",
        "load_encoder",
    ),
    "e4e encoder": (
        names("styles.0.linear.weight", "latlayer1.weight"),
        "an e4e encoder",
        "load_encoder",
    ),
    "IR-SE50": (names("body.0.res_layer.5.fc1.weight"), "IR-SE50", "load_identity"),
    "AdaFace": (
        {"state_dict": names("model.body.0.res_layer.5.running_mean")},
        "AdaFace",
        "load_identity",
    ),
    "iresnet": (names("layer1.0.prelu.weight"), "iresnet", "load_identity"),
    "CLIP": (
        names("text_projection", "visual.proj", "token_embedding.weight"),
        "a CLIP model",
        "load_clip",
    ),
    "Inception": (
        names("Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.conv.weight"),
        "Inception",
        "load_inception",
    ),
    "VGG-Face": (names("conv5_3.weight"), "VGG-Face", "load_vgg_face"),
    "VGG-Face, Lua port": (names("conv_5_3.weight"), "VGG-Face", "load_vgg_face"),
    "CDFNet": (names("blocks.0.cond.add.latent.weight"), "a CDFNet", "load_cdfnet"),
    "HiNet": ({"net": names("module.model.inv1.r.conv1.weight")}, "a HiNet", "nothing here"),
    "discriminator": (
        {"d": names("final_linear.0.weight", "final_conv.0.weight")},
        "discriminator",
        "nothing here",
    ),
    "NVlabs tensors": (names("synthesis.b4.const"), "NVlabs state dict", "pkl"),
    "unknown": (names("weight"), "first names are weight", "as its authors published it"),
    "no mapping": ([1, 2], "no named tensors", "as its authors published it"),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named_with_its_loader(kind, loader, tmp_path) -> None:
    content, title, remedy = KINDS[kind]
    if remedy == loader or (kind == "e4e" and loader != "load_network"):
        pytest.skip("this loader takes it")
    path = tmp_path / "weights.bin"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        LOADERS[loader](path)
    message = str(caught.value)
    assert str(path) in message
    assert title in message
    assert remedy in message


@pytest.mark.parametrize("loader", ["load_encoder", "load_network"])
def test_an_nvlabs_pickle_is_named_with_its_loader(loader) -> None:
    with pytest.raises(CheckpointError, match=r"an NVlabs network pickle.*load_generator"):
        LOADERS[loader](DATA / "nvpkl_ada.pkl")
