"""Identity networks from files as their authors' code writes them."""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import published
import pytest
import torch
from golden import arrays, difference, fill, keys_of
from torch import Tensor, nn

from lreorg_fast.errors import CheckpointError
from lreorg_fast.models import (
    AdaFaceConfig,
    AdaFaceNet,
    BackboneConfig,
    E4EConfig,
    E4EEncoder,
    FaceBackbone,
    IResNet,
    IResNetConfig,
)
from lreorg_fast.weights.identity import load_identity
from lreorg_fast.weights.networks import write_network
from lreorg_fast.weights.tensors import write_tensors
from tolerances import tolerance

GATE = tolerance("published network", "float32")
State = dict[str, Tensor]
SMALL = {"input_size": 32, "stem": 4, "widths": (4, 6, 8, 8), "units": (1, 2, 1, 1), "outputs": 5}


@pytest.fixture
def file(tmp_path) -> Iterator[Path]:
    """A name that says nothing; the file, up to 180 MB, does not outlive its test."""
    path = tmp_path / "weights.bin"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return torch.from_numpy(published.image("input.face.x", 2, 112, 112))


@pytest.fixture(scope="module")
def small_state() -> State:
    """AdaFace's IR-18: the smallest network that is published, here in half precision."""
    net = fill(AdaFaceNet(AdaFaceConfig(units=(2, 2, 2, 2))))
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def lightning(state: State) -> dict[str, Any]:
    """As AdaFace's training writes it."""
    head = {"head.kernel": torch.zeros(512, 10), "head.t": torch.zeros(1)}
    return {
        "epoch": 25,
        "global_step": 7,
        "pytorch-lightning_version": "1.4.4",
        "state_dict": OrderedDict(prefixed("model.", state) | head),
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": Namespace(arch="ir_18", lr=0.1),
    }


def arcface_torch(state: State) -> dict[str, Any]:
    """As insightface's training writes ``checkpoint_gpu_0.pt``."""
    softmax = {"weight": torch.zeros(10, 512)}
    return {"epoch": 3, "state_dict_backbone": state, "state_dict_softmax_fc": softmax}


GOLDENS: dict[str, tuple[Callable[[], nn.Module], Callable[[State], Any], bool]] = {
    "irse50_treb1en": (lambda: FaceBackbone(BackboneConfig()), OrderedDict, True),
    "insightface_iresnet50": (
        lambda: IResNet(IResNetConfig()),
        lambda state: arcface_torch(prefixed("module.", state)),
        True,
    ),
    "adaface_ir_18": (lambda: AdaFaceNet(AdaFaceConfig(units=(2, 2, 2, 2))), lightning, True),
    "adaface_ir_50": (lambda: AdaFaceNet(AdaFaceConfig()), OrderedDict, False),
    "adaface_ir_se_50": (
        lambda: AdaFaceNet(AdaFaceConfig(squeeze_excite=True)),
        lambda state: {"state_dict": state},
        True,
    ),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_files_of_every_family_give_what_the_published_code_gives(name, file, faces) -> None:
    make, wrap, as_zip = GOLDENS[name]
    made = fill(make())
    torch.save(wrap(made.state_dict()), file, _use_new_zipfile_serialization=as_zip)
    config = made.config
    del made
    net = load_identity(file)
    assert net.config == config
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    x = faces.flip(1) if isinstance(net, AdaFaceNet) else faces
    found = net.raw(x) if isinstance(net, IResNet) else net(x)
    assert difference(found, arrays(name)["feat"]) < GATE


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": dict,
    "state_dict": lambda state: {"state_dict": state},
    "model": lambda state: {"model": state, "epoch": 1},
    "backbone": lambda state: {"backbone": state},
    "DataParallel": lambda state: {"state_dict": prefixed("module.", state)},
    "classifier": lambda state: prefixed("module.backbone.", state) | {"head.w": torch.zeros(2)},
    "Lightning": lightning,
    "arcface_torch": arcface_torch,
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_every_wrapping_holds_the_same_network(wrap, file, small_state) -> None:
    torch.save(wrap(small_state), file)
    net = load_identity(file)
    assert isinstance(net, AdaFaceNet)
    state = net.state_dict()
    assert list(state) == list(small_state)
    for name, value in small_state.items():
        assert state[name].dtype == (torch.float32 if value.is_floating_point() else value.dtype)
        assert torch.equal(state[name], value.to(state[name].dtype))


def zeros(make: Callable[[], nn.Module]) -> State:
    """A half-precision state dict of a network's shapes."""
    return {
        name: torch.zeros(shape, dtype=torch.float16 if dtype == "float32" else torch.int64)
        for name, shape, dtype in keys_of(make)
    }


DEPTHS: dict[str, Callable[[], nn.Module]] = {
    "iresnet18": lambda: IResNet(IResNetConfig(units=(2, 2, 2, 2))),
    "iresnet34": lambda: IResNet(IResNetConfig(units=(3, 4, 6, 3))),
    "iresnet100": lambda: IResNet(IResNetConfig(units=(3, 13, 30, 3))),
    "iresnet200": lambda: IResNet(IResNetConfig(units=(6, 26, 60, 6))),
    "AdaFace IR-34": lambda: AdaFaceNet(AdaFaceConfig(units=(3, 4, 6, 3))),
    "AdaFace IR-101": lambda: AdaFaceNet(AdaFaceConfig(units=(3, 13, 30, 3))),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_follows_from_the_file(name, file) -> None:
    torch.save(zeros(DEPTHS[name]), file)
    with torch.device("meta"):
        wanted = DEPTHS[name]().config
    assert load_identity(file).config == wanted


def test_safetensors_of_public_names_load(file, small_state) -> None:
    write_tensors(file, small_state)
    assert isinstance(load_identity(file), AdaFaceNet)


def test_files_without_counters_load_and_say_so(file, small_state, caplog) -> None:
    torch.save({k: v for k, v in small_state.items() if "num_batches" not in k}, file)
    with caplog.at_level("INFO", logger="lreorg_fast"):
        net = load_identity(file)
    assert "num_batches_tracked" in caplog.text
    counters = [v for k, v in net.state_dict().items() if "num_batches" in k]
    assert counters
    assert not any(counter.any() for counter in counters)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FaceBackbone(BackboneConfig(**SMALL)),
        lambda: IResNet(IResNetConfig(**SMALL)),
        lambda: AdaFaceNet(AdaFaceConfig(**SMALL, squeeze_excite=True)),
    ],
)
def test_own_files_load_at_any_shape(make, file) -> None:
    net = fill(make())
    write_network(file, net)
    again = load_identity(file)
    assert type(again) is type(net)
    assert again.config == net.config
    x = torch.from_numpy(published.image("input.small.x", 2, 32, 32))
    assert torch.equal(again(x), net(x))


def test_an_attribute_network_is_no_identity_network(file) -> None:
    write_network(file, fill(FaceBackbone(BackboneConfig(**SMALL, normalize=False))))
    with pytest.raises(CheckpointError, match="attribute classifier"):
        load_identity(file)


def test_own_file_of_an_encoder_is_refused_with_its_loader(file) -> None:
    small = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1)}
    write_network(file, E4EEncoder(E4EConfig(32, 8, 16, 8, **small)))
    with pytest.raises(CheckpointError, match="load_encoder"):
        load_identity(file)


def changed(state: State, drop: str = "\n", add: State | None = None) -> State:
    kept = {name: value for name, value in state.items() if not name.startswith(drop)}
    return kept | (add or {})


LINEAR = "output_layer.3.weight"
WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "unit missing": (lambda s: changed(s, "body.7."), r"units; known are IR-18"),
    "keys missing": (
        lambda s: changed(s, "body.7.res_layer.5."),
        r"missing: body\.7\.res_layer\.5\.weight, .*running_var",
    ),
    "key extra": (lambda s: changed(s, add={"logits.weight": torch.zeros(3)}), "extra: logits"),
    "other shape": (
        lambda s: changed(s, add={"input_layer.1.bias": torch.zeros(63)}),
        r"input_layer\.1\.bias is \[63\]",
    ),
    "other picture size": (
        lambda s: changed(s, add={LINEAR: torch.zeros(512, 100352, dtype=torch.float16)}),
        "for pictures of 224 pixels",
    ),
    "other feature length": (
        lambda s: changed(s, add={LINEAR: torch.zeros(256, 25088, dtype=torch.float16)}),
        "features of 256 numbers",
    ),
    "not a number": (
        lambda s: changed(s, add={"input_layer.1.bias": torch.full((64,), torch.nan)}),
        "NaN or infinity",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_fit_are_refused_by_what_is_wrong(name, file, small_state) -> None:
    wrong, message = WRONG[name]
    torch.save(wrong(small_state), file)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_identity(file)
    assert str(file) in str(caught.value)


def test_two_networks_in_one_file_are_refused(file, small_state) -> None:
    torch.save({"student": prefixed("module.", small_state), "teacher": small_state}, file)
    with pytest.raises(CheckpointError, match=r"'student\.module\.', 'teacher\.'"):
        load_identity(file)


OTHER_KINDS: dict[str, tuple[Any, str]] = {
    "e4e": (
        {
            "state_dict": {
                "encoder.body.0.res_layer.5.fc1.weight": torch.zeros(4, 64, 1, 1),
                "encoder.styles.0.linear.weight": torch.zeros(512, 512),
                "decoder.input.input": torch.zeros(1, 512, 4, 4),
            },
            "opts": {},
        },
        "load_encoder",
    ),
    "generator": (
        {
            "g_ema": {
                "input.input": torch.zeros(1, 512, 4, 4),
                "conv1.conv.weight": torch.zeros(1, 8, 8, 3, 3),
            },
            "latent_avg": torch.zeros(512),
        },
        "load_generator",
    ),
    "nothing known": ({"weight": torch.zeros(3)}, "identity network"),
    "e4e encoder": (
        {
            "body.0.res_layer.5.fc1.weight": torch.zeros(4, 64, 1, 1),
            "styles.0.linear.weight": torch.zeros(512, 512),
            "latlayer1.weight": torch.zeros(512, 256, 1, 1),
        },
        "load_encoder",
    ),
    "list": ([1, 2], "identity network"),
}


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_other_kinds_of_files_are_refused_with_the_loader_that_takes_them(name, file) -> None:
    content, message = OTHER_KINDS[name]
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=message):
        load_identity(file)
