"""A pretended TensorRT and GPU, for tests of what is around a build or a call."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trt_fake

from lreorg_fast.export import trt_identity, trt_runtime

CPU = torch.device("cpu")


@dataclasses.dataclass
class FakeCuda:
    """Streams that a test chooses, on the CPU; a "graph" launches again with what it was given."""

    device: torch.device = CPU
    current: int = 1
    is_capturing: bool = False
    replays: int = 0

    def stream(self) -> int:
        return self.current

    def capturing(self) -> bool:
        return self.is_capturing

    def capture(self, launch: Callable[[int], None]) -> Callable[[], None]:
        launch(99)

        def replay() -> None:
            self.replays += 1
            launch(self.current)

        return replay


@dataclasses.dataclass
class Machine:
    """What the tests may change of the machine.

    Attributes:
        world: of the pretended TensorRT.
        cuda: of the pretended runs.
        gpu: what the GPU says that it is.
        install: makes ``import tensorrt`` give a version, or fail for None.
    """

    world: trt_fake.World
    cuda: FakeCuda
    gpu: SimpleNamespace
    install: Callable[[str | None], None]


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
    assert trt_identity.Gpu.of(CPU).multiprocessors == 132
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
