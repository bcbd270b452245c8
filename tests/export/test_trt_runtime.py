"""Running engines: addresses, graphs, streams, shapes, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trt_fake
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast.errors import BackendUnavailable, CheckpointError, ConfigError
from lreorg_fast.export.trt import refit, tensorrt
from lreorg_fast.export.trt_runtime import TensorRTEngine

Write = Callable[..., Path]


@pytest.fixture
def engine_file(machine: Any, onnx_file: Write, tmp_path: Path) -> Callable[..., Path]:
    def build(profiles: Any = ((1, 1, 4),), **network: Any) -> Path:
        return tensorrt(
            onnx_file(**network),
            tmp_path / "e.engine",
            profiles=profiles,
            cache=False,
            overwrite=True,
        ).path

    return build


def numbers(faces: int, seed: int = 0) -> Tensor:
    return torch.rand(faces, 2, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("graphs", [True, False])
def test_results_are_those_of_the_network(
    machine: Any, engine_file: Callable[..., Path], graphs: bool
) -> None:
    engine = TensorRTEngine(engine_file(), graphs=graphs)
    for seed, faces in enumerate((1, 4, 2, 1, 4)):
        x = numbers(faces, seed)
        assert torch.equal(engine({"x": x})["y"], 2 * x)
        # Neither contiguous nor where TensorRT may read.
        other = numbers(faces + 1, seed).transpose(1, 2).contiguous().transpose(1, 2)[1:]
        assert torch.equal(engine({"x": other})["y"], 2 * other)
    assert machine.world.contexts == 3  # one for each number of faces
    assert machine.cuda.replays == (10 if graphs else 0)


def test_inputs_in_the_buffers_are_not_copied(
    machine: Any, engine_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TensorRTEngine(engine_file())
    x = engine.buffers(2)["x"]
    x.copy_(numbers(2))
    copies: list[Tensor] = []
    original = Tensor.copy_

    def counted(self: Tensor, other: Tensor) -> Tensor:
        copies.append(other)
        return original(self, other)

    monkeypatch.setattr(Tensor, "copy_", counted)
    result = engine({"x": x})["y"]
    assert copies == []
    assert torch.equal(result, 2 * x)
    engine({"x": numbers(2, 1)})
    assert len(copies) == 1


def test_without_graphs_inputs_are_read_where_they_are(
    machine: Any, engine_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TensorRTEngine(engine_file(), graphs=False)
    engine.buffers(2)

    def refuse(self: Tensor, other: Tensor) -> Tensor:
        raise AssertionError("copied")

    storage = torch.zeros(2 * 2 * 3 + 128)
    first = -(storage.data_ptr() % -256) // 4 if storage.data_ptr() % 256 else 0
    x = storage[first : first + 12].view(2, 2, 3)
    x[:] = numbers(2)
    assert x.data_ptr() % 256 == 0
    monkeypatch.setattr(Tensor, "copy_", refuse)
    assert torch.equal(engine({"x": x})["y"], 2 * x)


def test_streams_have_buffers_of_their_own(machine: Any, engine_file: Callable[..., Path]) -> None:
    engine = TensorRTEngine(engine_file())
    first = engine({"x": numbers(1, 1)})["y"]
    machine.cuda.current = 2
    second = engine({"x": numbers(1, 2)})["y"]
    assert torch.equal(first, 2 * numbers(1, 1))
    assert torch.equal(second, 2 * numbers(1, 2))
    assert machine.world.launches[-1] == 2
    # The same stream writes the same buffer again.
    assert engine({"x": numbers(1, 3)})["y"].data_ptr() == second.data_ptr()


def test_the_least_recently_used_is_given_up(
    machine: Any, engine_file: Callable[..., Path]
) -> None:
    engine = TensorRTEngine(engine_file(), most_prepared=2)
    for faces in (1, 2, 1, 3, 1, 2):
        engine({"x": numbers(faces)})
    assert machine.world.contexts == 4  # 1, 2, 3 for 2, and 2 again


def test_the_nearest_profile_is_used(machine: Any, engine_file: Callable[..., Path]) -> None:
    engine = TensorRTEngine(engine_file(profiles=[(1, 1, 8), (1, 8, 8)]))
    for faces in (1, 4, 5, 8):
        engine({"x": numbers(faces)})
    profiles = {faces: each._context._profile for (_, faces), each in engine._prepared.items()}
    assert profiles == {1: 0, 4: 0, 5: 1, 8: 1}


def test_a_fixed_number_of_faces(machine: Any, engine_file: Callable[..., Path]) -> None:
    engine = TensorRTEngine(engine_file(batch=3))
    assert engine.profiles == ()
    assert engine.buffers()["x"].shape == (3, 2, 3)
    assert torch.equal(engine({"x": numbers(3)})["y"], 2 * numbers(3))
    with pytest.raises(ConfigError, match=r"must be \(3, 2, 3\)"):
        engine({"x": numbers(2)})


def test_a_capture_of_the_caller_records_the_call_itself(
    machine: Any, engine_file: Callable[..., Path]
) -> None:
    engine = TensorRTEngine(engine_file())
    machine.cuda.is_capturing = True
    with pytest.raises(ConfigError, match="make it once before the capture"):
        engine({"x": numbers(1)})
    machine.cuda.is_capturing = False
    engine({"x": numbers(1)})
    replays = machine.cuda.replays
    machine.cuda.is_capturing = True
    assert torch.equal(engine({"x": numbers(1, 5)})["y"], 2 * numbers(1, 5))
    assert machine.cuda.replays == replays


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs are none, but must be x"),
        ({"z": numbers(1)}, "inputs are z, but must be x"),
        ({"x": numbers(5)}, "5 faces, but the engine was built for 1 to 4"),
        ({"x": numbers(0)}, "0 faces"),
        ({"x": numbers(1)[:, :1]}, r"is \(1, 1, 3\) torch.float32, but must be \(1, 2, 3\)"),
        ({"x": numbers(1).double()}, "torch.float64, but must be"),
        ({"x": torch.tensor(1.0)}, "no dimensions"),
        ({"x": numbers(1).to("meta")}, r"is on meta, but .* move it with \.to\('cpu'\)"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_runs(
    machine: Any, engine_file: Callable[..., Path], inputs: dict[str, Tensor], message: str
) -> None:
    engine = TensorRTEngine(engine_file())
    with pytest.raises(ConfigError, match=message):
        engine(inputs)
    assert machine.world.launches == []


def test_all_inputs_have_the_same_number_of_faces(
    machine: Any, engine_file: Callable[..., Path]
) -> None:
    engine = TensorRTEngine(engine_file(names=("x", "z")))
    assert list(engine.inputs) == ["x", "z"]
    with pytest.raises(ConfigError, match="different numbers of faces"):
        engine({"x": numbers(1), "z": numbers(2)})
    found = engine({"z": numbers(2, 2), "x": numbers(2, 1)})["y"]
    assert torch.equal(found, 2 * (numbers(2, 1) + numbers(2, 2)))


@pytest.mark.parametrize(("step", "message"), [("context", "a context"), ("launch", "the call")])
def test_failures_of_tensorrt_are_sentences(
    machine: Any, engine_file: Callable[..., Path], step: str, message: str
) -> None:
    engine = TensorRTEngine(engine_file())
    machine.world.fail = {step}
    with pytest.raises(BackendUnavailable, match=message):
        engine({"x": numbers(1)})
    machine.world.fail = set()
    assert torch.equal(engine({"x": numbers(1)})["y"], 2 * numbers(1))


def test_a_type_that_torch_has_not(machine: Any, engine_file: Callable[..., Path]) -> None:
    machine.world.output_type = trt_fake.DataType.INT8
    with pytest.raises(BackendUnavailable, match="tensor 'y' of the engine has type INT8"):
        TensorRTEngine(engine_file())


def test_engines_of_elsewhere_are_refused(machine: Any, engine_file: Callable[..., Path]) -> None:
    path = engine_file()
    machine.gpu.multi_processor_count = 60
    with pytest.raises(
        BackendUnavailable, match=r"132 multiprocessors\) and this is .*60 multiprocessors"
    ):
        TensorRTEngine(path)
    machine.gpu.multi_processor_count = 132
    machine.install("11.0.0.114")
    with pytest.raises(BackendUnavailable, match=r"built by TensorRT 11\.4\.0\.106 and this is 11"):
        TensorRTEngine(path)
    machine.install("11.4.0.106")
    path.write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="damaged"):
        TensorRTEngine(path)
    with pytest.raises(CheckpointError, match="there is no file"):
        TensorRTEngine(path.with_name("other.engine"))


def test_the_plugin_must_be_the_one_of_the_build(
    machine: Any,
    engine_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = tmp_path / "plugin.so"
    library.write_bytes(b"a library")
    monkeypatch.setenv("LREORG_TENSORRT_PLUGIN", str(library))
    path = engine_file(node=True)
    assert torch.equal(TensorRTEngine(path)({"x": numbers(1)})["y"], 2 * numbers(1))
    library.write_bytes(b"another library")
    with pytest.raises(BackendUnavailable, match="another plugin library"):
        TensorRTEngine(path)
    library.unlink()
    with pytest.raises(BackendUnavailable, match="needs the plugin library"):
        TensorRTEngine(path)


def test_the_public_names() -> None:
    assert lf.export.TensorRTEngine is TensorRTEngine
    assert lf.export.tensorrt is tensorrt
    assert lf.export.refit is refit
    assert {"TensorRTEngine", "onnx", "refit", "tensorrt"} == set(dir(lf.export))


def test_settings_are_checked(engine_file: Callable[..., Path]) -> None:
    for wrong in (0, True, 1.5):
        with pytest.raises(ConfigError, match="most_prepared"):
            TensorRTEngine(engine_file(), most_prepared=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="faces is None"):
        TensorRTEngine(engine_file()).buffers()
