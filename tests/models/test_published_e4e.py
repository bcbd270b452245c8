"""The e4e encoder against its authors' own code, on parameters made from names."""

from __future__ import annotations

import numpy as np
import published
import pytest
import torch
from golden import arrays, difference, fill, keys_of, published_keys
from torch import Tensor

from lreorg_fast.errors import ConfigError
from lreorg_fast.models import E4EConfig, E4EEncoder
from lreorg_fast.models.inference import prepare_encoder
from tolerances import tolerance

GATE = tolerance("published network", "float32")
STAGES = {"W": 0} | {f"Delta{row}": row for row in (1, 2, 3, 6, 7, 12, 13)}
PLACES = {
    "stem": "input_layer",
    "b0": "body.0",
    "b2": "body.2",
    "b3": "body.3",
    "c1": "body.6",
    "c2": "body.20",
    "c3": "body.23",
}


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return arrays("e4e_256")


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.from_numpy(published.image("input.e4e.x", 2, 256, 256))


@pytest.fixture(scope="module")
def encoder() -> E4EEncoder:
    return fill(E4EEncoder(E4EConfig(num_ws=14)), "e4e")


@pytest.mark.parametrize(("name", "rows"), [("256", 14), ("1024", 18)])
def test_state_dict_is_the_published_one(name, rows) -> None:
    assert keys_of(lambda: E4EEncoder(E4EConfig(num_ws=rows))) == published_keys(
        f"e4e_encoder_{name}"
    )


def test_e4e_equals_the_published_code(encoder, x, data) -> None:
    maps: dict[str, Tensor] = {}
    hooks = [
        encoder.get_submodule(place).register_forward_hook(
            lambda _module, _inputs, output, name=name: maps.__setitem__(name, output)
        )
        for name, place in PLACES.items()
    ]
    codes = encoder(x)
    for hook in hooks:
        hook.remove()
    assert difference(codes, data["final"]) < GATE
    for name, found in maps.items():
        first = found[:1]
        assert difference(first[:, :4, :8, :8], data[f"{name}_head"]) < GATE, name
        whole = first.double()
        moments = torch.stack([whole.mean(), whole.std(correction=0)])
        assert difference(moments, data[f"{name}_meanstd"]) < GATE, name


@pytest.mark.parametrize("stage", STAGES)
def test_training_stages_equal_the_published_code(encoder, x, data, stage) -> None:
    codes = encoder(x[:1], stage=STAGES[stage])
    assert difference(codes, data[f"stage_{stage}Training"]) < GATE
    rest = codes[:, STAGES[stage] + 1 :]
    assert torch.equal(rest, codes[:, :1].expand_as(rest))


def test_first_rows_of_18_are_those_of_14(x, data) -> None:
    encoder = fill(E4EEncoder(E4EConfig(num_ws=18)), "e4e")
    codes = encoder(x[:1])
    assert codes.shape == (1, 18, 512)
    assert difference(codes[:, :14], data["final"][:1]) < GATE


def test_average_and_prepared_encoder_equal_the_published_code(
    encoder, x, data, monkeypatch
) -> None:
    average = torch.from_numpy(published.value("latent_avg", (14, 512), set()))
    assert np.array_equal(average, data["latent_avg"])
    monkeypatch.setattr(encoder, "latent_avg", average)
    wanted = data["final_plus_latent_avg"]
    assert difference(encoder(x), wanted) < GATE
    assert difference(prepare_encoder(encoder)(x), wanted) < GATE


@pytest.mark.parametrize("wrong", [{"input_size": 100}, {"units": (1, 2)}, {"num_ws": 0}])
def test_impossible_shapes_are_refused(wrong) -> None:
    with pytest.raises(ConfigError):
        E4EConfig(**wrong)


def test_pictures_of_another_size_are_refused() -> None:
    small = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1)}
    encoder = E4EEncoder(E4EConfig(32, 8, 16, 8, **small))
    with pytest.raises(ConfigError, match="pictures"):
        encoder(torch.randn(1, 3, 64, 64))
