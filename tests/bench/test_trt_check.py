"""``python bench/trt_check.py`` without TensorRT: its stages on a CPU, where onnxruntime stands in
for the engines, and what it says on a machine that cannot run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bench_recorder import Recorder
from bundles import toy_bundle
from onnx_runs import session_of
from torch import Tensor

import lreorg_fast as lf
from bench.full_size import full_size_bundle
from bench.gpu.channel import Context, Unavailable
from bench.gpu.command import NO_GPU
from bench.gpu.timing import COLD, WARM
from bench.trt import engine, measure, report, requirements
from bench.trt.networks import INPUTS, Networks
from bench.trt.suite import SECONDS, STAGES
from lreorg_fast.export import trt, trt_runtime
from lreorg_fast.export.trt_identity import Gpu, Identity, write_engine
from lreorg_fast.export.trt_options import BuildOptions, as_profile
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.parts import load_part

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    folder = tmp_path_factory.mktemp("bundle")
    bundle = open_bundle(toy_bundle(folder / "toy"))
    roles = ("encoder", "generator", "cdfnet")
    modules = {role: load_part(bundle, role).eval().requires_grad_(False) for role in roles}
    for parameter in modules["cdfnet"].parameters():
        parameter.mul_(0.3)  # the untrained one amplifies rounding a thousandfold
    return Networks.of(full_size_bundle(folder / "gentle", modules), modules, "cpu")


class Stand:
    """An "engine" that onnxruntime runs, with the interface of TensorRTEngine."""

    scale = 1.0

    def __init__(self, path: Path, graphs: bool = True) -> None:
        self._session = session_of(path.with_suffix(".onnx"))
        self._inputs: dict[str, Tensor] = {}
        self.outputs = ("reorganized" if "cdfnet" in path.name else "made",)

    def buffers(self, faces: int) -> dict[str, Tensor]:
        return self._inputs

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        (made,) = self._session(**inputs).values()
        return {self.outputs[0]: self.scale * torch.from_numpy(made)}


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> type[Stand]:
    def build(bundle: Any, path: Path, *, stage: str, profiles: Any, **settings: Any) -> Any:
        onnx = path.with_suffix(".onnx")
        lf.export.onnx(bundle, onnx, stage=stage, dtype="float32", overwrite=True)
        options = BuildOptions(tuple(map(as_profile, profiles)), settings.get("plugin", "auto"))
        identity = Identity("11.0", Gpu("g", "9.0", 1), "", None, options)
        write_engine(path, b"plan", identity, overwrite=True)
        return SimpleNamespace(path=path, cached=False, identity=identity)

    class Buffered(Stand):
        def buffers(self, faces: int) -> dict[str, Tensor]:
            held: dict[str, Tensor] = {}

            class Filled(dict):  # type: ignore[type-arg]
                def __missing__(self, name: str) -> Any:
                    return SimpleNamespace(copy_=lambda x: held.__setitem__(name, x))

            self._inputs = Filled()
            self._held = held
            return self._inputs

        def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return super().__call__(inputs or self._held)

    monkeypatch.setattr(lf.export, "tensorrt", build)
    monkeypatch.setattr(measure, "_FLUSH_BYTES", 1 << 16)
    monkeypatch.setattr(trt_runtime, "TensorRTEngine", Buffered)
    return Buffered


def context(tmp_path: Path, **fields: Any) -> Context:
    return Context(
        **{"root": ROOT, "work": tmp_path, "seconds": 1.0, "device": "cpu", "quick": True, **fields}
    )


@pytest.mark.parametrize("stage", INPUTS)
def test_a_stage_is_built_compared_and_timed(
    stage: str, networks: Networks, stand: type[Stand], tmp_path: Path
) -> None:
    recorder = Recorder()
    measure.measure(stage, context(tmp_path), recorder.channel, networks)
    assert set(recorder.failures) == {f"{n} faces, onnxruntime float16" for n in measure.FACES}
    engines = {each.name for each in measure.engines(stage)}
    assert set(recorder.data["builds"]) == engines
    assert ("tensorrt float16, no plugin" in engines) == (stage in ("cdfnet", "pipeline"))
    cases = recorder.data["cases"]
    assert [case["faces"] for case in cases] == list(measure.FACES)
    for case in cases:
        assert set(case["variants"]) == engines | {"eager float32", "eager bfloat16"}
        for found in case["variants"].values():
            assert found[WARM]["wall"]
            assert found[COLD]["wall"]
        assert all(case["variants"][name]["rms_error"] < 1e-4 for name in engines)
    record = {
        "complete": True,
        "date": "",
        "seconds": 1.0,
        "quick": True,
        "stages": {
            stage: {
                "title": stage,
                "status": "passed",
                "wrong": False,
                "failed": {},
                "reason": "",
                "seconds": 1.0,
                "data": recorder.data,
            }
        },
    }
    told = report.markdown(record)
    assert f"## {stage}, 8 faces" in told
    assert "| tensorrt float16 | warm |" in told


def test_a_wrong_engine_fails_the_run(
    networks: Networks,
    stand: type[Stand],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for scale, message in ((1.5, "relative RMS error 5.0e-01"), (float("nan"), "error nan")):
        monkeypatch.setattr(stand, "scale", scale)
        recorder = Recorder()
        measure.measure("cdfnet", context(tmp_path), recorder.channel, networks)
        assert message in recorder.failures["1 faces, tensorrt float16"]
        wrong = [m for m in recorder.messages if m.get("wrong")]
        assert len(wrong) == len(measure.FACES) * len(measure.engines("cdfnet"))


def test_the_checks_of_one_engine(
    networks: Networks, stand: type[Stand], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that need no stream or graph; a refit that changes nothing is found."""
    monkeypatch.setattr(engine, "TensorRTEngine", Stand)
    checks = {name: engine.CHECKS[name] for name in ("results", "refit")}
    monkeypatch.setattr(engine, "CHECKS", checks)

    def refit(path: Path, onnx: Path, target: Path, overwrite: bool) -> Any:
        target.with_suffix(".onnx").write_bytes(onnx.read_bytes())
        return SimpleNamespace(path=target)

    monkeypatch.setattr(trt, "refit", refit)
    recorder = Recorder()
    engine.check(context(tmp_path), recorder.channel, networks)
    assert recorder.failures == {}
    assert len(recorder.data["passed"]) == 4

    def nothing(path: Path, onnx: Path, target: Path, overwrite: bool) -> Any:
        return SimpleNamespace(path=path)

    monkeypatch.setattr(trt, "refit", nothing)
    recorder = Recorder()
    engine.check(context(tmp_path), recorder.channel, networks)
    assert all("a refitted engine" in reason for reason in recorder.failures.values())
    assert len(recorder.failures) == 2


def test_goals_are_read_from_the_record() -> None:
    def case(faces: int, **medians: float) -> dict[str, Any]:
        variants = {
            name.replace("_", " "): {WARM: {"wall": [seconds]}} for name, seconds in medians.items()
        }
        return {"faces": faces, "variants": variants}

    found = {
        "pipeline": {
            "cases": [
                case(1, tensorrt_float16=3e-3, tensorrt_bfloat16=2e-3, compile_bfloat16=4e-3),
                case(8, tensorrt_float16=12e-3, compile_bfloat16=9e-3),
            ]
        }
    }
    values = [goal.measure(lambda stage: found.get(stage, {})) for goal in report.GOALS]
    assert values == pytest.approx([2.0, 12.0, 0.75])
    met = [goal.is_met(value) for goal, value in zip(report.GOALS, values, strict=True) if value]
    assert met == [True, False, False]
    assert [goal.measure(lambda stage: {}) for goal in report.GOALS] == [None] * 3


def test_without_tensorrt_the_stage_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(Unavailable, match=r"cannot be checked: .*lreorg_fast\[tensorrt\]"):
        requirements.describe(context(tmp_path), Recorder().channel)


def test_the_stages_are_what_they_name() -> None:
    assert sum(stage.seconds for stage in STAGES) == SECONDS
    assert [stage.name for stage in STAGES if stage.grows] == ["pipeline"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_script_itself_exits_with_one_sentence(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "bench" / "trt_check.py"), "--work", str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == NO_GPU
    assert done.stderr.startswith("error: no GPU can be checked: PyTorch ")
    assert len(done.stderr.splitlines()) == 1
