from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.cdfnet import CDFNetConfig
from lreorg_fast.errors import ConfigError

COUNTS = st.integers(1, 65_536)


def test_defaults_are_the_base_size() -> None:
    assert CDFNetConfig().to_dict() == {
        "dim": 512,
        "cond_dim": 512,
        "num_blocks": 16,
        "growth": 32,
        "clamp": 2.0,
    }


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.floats(1e-3, 1e3))
def test_survives_json(dim: int, cond: int, blocks: int, growth: int, clamp: float) -> None:
    config = CDFNetConfig(dim, cond, blocks, growth, clamp)
    assert CDFNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("field", ["dim", "cond_dim", "num_blocks", "growth"])
@pytest.mark.parametrize("value", [0, -1, 65_537, 2.0, True, "8", None])
def test_refuses_a_count(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        CDFNetConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -2.0, float("nan"), float("inf"), "2", True])
def test_refuses_a_clamp(value: object) -> None:
    with pytest.raises(ConfigError, match="clamp"):
        CDFNetConfig(clamp=value)  # type: ignore[arg-type]


def test_refuses_unknown_fields() -> None:
    with pytest.raises(ConfigError, match=r"'depth'.*num_blocks"):
        CDFNetConfig.from_dict({"dim": 8, "depth": 3})


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CDFNetConfig().dim = 3  # type: ignore[misc]
