"""Bundles, sessions and a pretended TensorRT that the export's tests share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trt_fake
from bundles import toy_bundle
from onnx_runs import Run, session_of
from trt_machine import CPU, FakeCuda, Machine

from lreorg_fast.export import trt_runtime
from lreorg_fast.export.onnx_options import OnnxOptions
from lreorg_fast.export.onnx_stages import Networks, stage_model
from lreorg_fast.export.trt_identity import Gpu
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


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    world, cuda = trt_fake.World(), FakeCuda()
    gpu = SimpleNamespace(name="NVIDIA Pretended", major=9, minor=0, multi_processor_count=132)

    def install(version: str | None) -> None:
        module: Any = None if version is None else trt_fake.package(world, version)
        monkeypatch.setitem(sys.modules, "tensorrt", module)

    install("11.4.0.106")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(trt_runtime, "TorchCuda", lambda device: cuda)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LREORG_TENSORRT_PLUGIN", str(tmp_path / "none.so"))
    assert Gpu.of(CPU).multiprocessors == 132
    return Machine(world, cuda, gpu, install)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes y = w x for x (N, 2, 3), N open or not; ``node``: as the plugin's node."""

    def write(
        name: str = "network.onnx",
        weight: float = 2.0,
        batch: int | None = None,
        node: bool = False,
        names: tuple[str, ...] = ("x",),
        open_rows: bool = False,
    ) -> Path:
        from onnx import TensorProto, helper, save

        shape = [batch or "N", "T" if open_rows else 2, 3]
        infos = [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each in names]
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
        kind, domain = (trt_fake.NODE, "lreorg") if node else ("Mul", "")
        made = helper.make_node(kind, [names[0], "w"], ["y"], domain=domain)
        w = helper.make_tensor("w", TensorProto.FLOAT, [1], [weight])
        graph = helper.make_graph([made], "g", infos, [out], [w])
        path = tmp_path / name
        save(helper.make_model(graph), path)
        return path

    return write
