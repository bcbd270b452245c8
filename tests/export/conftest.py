"""Bundles and sessions that the export's tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bundles import toy_bundle
from onnx_runs import Run, session_of

from lreorg_fast.export.onnx_options import OnnxOptions
from lreorg_fast.export.onnx_stages import Networks, stage_model
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.bundle import Bundle


@pytest.fixture(scope="session")
def demo() -> Networks:
    return Networks(open_bundle("demo"))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(toy_bundle(tmp_path_factory.mktemp("bundle") / "toy"))


@pytest.fixture(scope="session")
def toys(toy: Bundle) -> Networks:
    return Networks(toy)


@pytest.fixture(scope="session")
def exported() -> Callable[..., Run]:
    """``exported(networks, stage=..., ...)``: a session of a stage, made once for all tests."""
    made: dict[Any, Run] = {}

    def session(networks: Networks, **options: Any) -> Run:
        key = (id(networks), repr(sorted(options.items())))
        if key not in made:
            made[key] = session_of(stage_model(networks, OnnxOptions(**options)))
        return made[key]

    return session
