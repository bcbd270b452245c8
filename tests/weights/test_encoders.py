"""e4e encoders from checkpoints as their authors' code writes them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import published
import pytest
import torch
from golden import arrays, difference, fill
from torch import Tensor

from lreorg_fast.errors import CheckpointError
from lreorg_fast.models import E4EConfig, E4EEncoder
from lreorg_fast.weights import encoders
from lreorg_fast.weights.encoders import load_encoder
from lreorg_fast.weights.networks import write_network
from tolerances import tolerance

GATE = tolerance("published network", "float32")
State = dict[str, Tensor]
OPTIONS = {
    "stylegan_size": 256,
    "encoder_type": "Encoder4Editing",
    "start_from_latent_avg": True,
    "input_nc": 3,
}


@pytest.fixture
def file(tmp_path) -> Iterator[Path]:
    """The file, up to 900 MB, does not outlive its test."""
    path = tmp_path / "weights.bin"
    yield path
    path.unlink(missing_ok=True)


def slim(num_ws: int) -> E4EConfig:
    """The published names with few channels: the real network has 800 MB."""
    return E4EConfig(32, num_ws, 512, 4, 4, (4, 4, 8, 8), (3, 4, 14, 3))


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(encoders, "E4EConfig", slim)


def empty(rows: int) -> State:
    return E4EEncoder(slim(rows)).state_dict()


def e4e(state: State, options: Any = None, **more: Any) -> dict[str, Any]:
    """As e4e's coach.py writes it."""
    decoder = {"decoder.input.input": torch.zeros(1, 512, 4, 4)}
    return {
        "state_dict": {f"encoder.{name}": value for name, value in state.items()} | decoder,
        "opts": OPTIONS if options is None else options,
        "global_step": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(9)}}, "param_groups": []},
        **more,
    }


def test_a_checkpoint_gives_what_the_published_code_gives(file) -> None:
    data = arrays("e4e_256")
    average = torch.from_numpy(published.value("latent_avg", (14, 512), set()))
    made = fill(E4EEncoder(E4EConfig(num_ws=14)), "e4e")
    torch.save(e4e(made.state_dict(), latent_avg=average), file)
    del made
    net = load_encoder(file)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    x = torch.from_numpy(published.image("input.e4e.x", 2, 256, 256))
    assert difference(net(x), data["final_plus_latent_avg"]) < GATE
    net.latent_avg = torch.zeros_like(average)
    assert difference(net(x), data["final"]) < GATE


AVERAGES: dict[str, tuple[Callable[[State, Tensor], Any], bool]] = {
    "option set": (lambda s, a: e4e(s, latent_avg=a), True),
    "one row": (lambda s, a: e4e(s, latent_avg=a[0].clone()), True),
    "Namespace": (lambda s, a: e4e(s, Namespace(**OPTIONS), latent_avg=a), True),
    "option not set": (
        lambda s, a: e4e(s, OPTIONS | {"start_from_latent_avg": False}, latent_avg=a),
        False,
    ),
    "encoder only": (lambda s, a: {"state_dict": s, "latent_avg": a}, True),
    "bare": (lambda s, a: s, False),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", AVERAGES)
def test_the_average_is_added_as_the_file_says(name, file) -> None:
    wrap, added = AVERAGES[name]
    average = torch.arange(512.0).repeat(14, 1)
    torch.save(wrap(empty(14), average), file)
    net = load_encoder(file)
    assert torch.equal(net.latent_avg, average if added else torch.zeros(14, 512))


def without(state: State, begin: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(begin)}


AVERAGE = {"latent_avg": torch.zeros(14, 512)}
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "size too small": (
        lambda: e4e(empty(18), OPTIONS, latent_avg=torch.zeros(18, 512)),
        r"stylegan_size = 256, which has 14 latent rows, but the file has 18 \(extra: styles.14",
    ),
    "size too large": (
        lambda: e4e(empty(14), OPTIONS | {"stylegan_size": 1024}, **AVERAGE),
        "missing: styles.14",
    ),
    "impossible size": (lambda: e4e(empty(14), OPTIONS | {"stylegan_size": 300}), "power of two"),
    "gap": (lambda: e4e(without(empty(14), "styles.5."), **AVERAGE), "gaps"),
    "no average": (lambda: e4e(empty(14)), "start_from_latent_avg, but has no 'latent_avg'"),
    "average of another length": (
        lambda: e4e(empty(14), latent_avg=torch.zeros(18, 512)),
        r"'latent_avg' of shape \[18, 512\]",
    ),
    "average is no tensor": (lambda: e4e(empty(14), latent_avg=3), "no tensor"),
    "another encoder": (
        lambda: e4e(empty(14), OPTIONS | {"encoder_type": "GradualStyleEncoder"}, **AVERAGE),
        "encoder_type = 'GradualStyleEncoder'",
    ),
    "more channels": (lambda: e4e(empty(14), OPTIONS | {"input_nc": 4}, **AVERAGE), "input_nc"),
    "options of another type": (lambda: e4e(empty(14), [1]), "neither a dict nor a Namespace"),
    "unit missing": (
        lambda: e4e(without(empty(14), "body.7."), **AVERAGE),
        r"missing: body\.7\.",
    ),
    "shape": (
        lambda: e4e(empty(14) | {"latlayer1.bias": torch.zeros(3)}, **AVERAGE),
        r"latlayer1.bias is \[3\]",
    ),
    "pSp": (
        lambda: {"state_dict": {"encoder.styles.0.convs.0.weight": torch.zeros(2)}},
        "pSp encoder",
    ),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_fit_are_refused_by_what_is_wrong(name, file) -> None:
    wrong, message = WRONG[name]
    torch.save(wrong(), file)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_encoder(file)
    assert str(file) in str(caught.value)


def test_own_files_load_at_any_shape(file) -> None:
    shape = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1)}
    made = fill(E4EEncoder(E4EConfig(32, 8, 16, 8, **shape)), "e4e")
    made.latent_avg = torch.randn(8, 16)
    write_network(file, made)
    net = load_encoder(file)
    x = torch.from_numpy(published.image("input.small.x", 2, 32, 32))
    assert net.config == made.config
    assert torch.equal(net(x), made(x))
