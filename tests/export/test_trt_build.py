"""Building engines: what is asked of TensorRT, the files, the cache, and every refusal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lreorg_fast as lf
from lreorg_fast import log
from lreorg_fast.errors import (
    BackendUnavailable,
    CheckpointError,
    ConfigError,
    MissingExtra,
    OutputError,
)
from lreorg_fast.export import trt_identity
from lreorg_fast.export.trt import Built, refit, tensorrt
from lreorg_fast.export.trt_api import tensorrt_package
from lreorg_fast.export.trt_identity import Gpu, Identity, read_identity, sidecar
from lreorg_fast.export.trt_options import BuildOptions, Profile, as_profile
from lreorg_fast.weights.bundle import Bundle

Write = Callable[..., Path]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin library, where the environment says."""
    path = tmp_path / "plugin.so"
    path.write_bytes(b"a library")
    monkeypatch.setenv("LREORG_TENSORRT_PLUGIN", str(path))
    return path


def plan_of(built: Built) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(built.path.read_bytes())
    return found


@pytest.mark.parametrize("version", ["10.9.0.34", "10.16.1.11", "11.0.0.114", "11.4.0.106"])
def test_one_code_builds_with_both_release_lines(
    machine: Any, onnx_file: Write, tmp_path: Path, version: str
) -> None:
    machine.install(version)
    built = lf.export.tensorrt(
        onnx_file(),
        tmp_path / "e.engine",
        profiles=[(1, 2, 4), 8],
        workspace=2**25,
        optimization_level=5,
        refit=True,
    )
    assert machine.world.settings == {
        "flags": 2,  # strongly typed
        "WORKSPACE": 2**25,
        "optimization_level": 5,
    }
    plan = plan_of(built)
    assert plan["profiles"] == [
        {"x": [[1, 2, 3], [2, 2, 3], [4, 2, 3]]},
        {"x": [[8, 2, 3]] * 3},
    ]
    assert plan["refittable"]
    assert read_identity(built.path) == built.identity
    assert built.identity.tensorrt == version
    assert built.identity.gpu == Gpu("NVIDIA Pretended", "9.0", 132)


def test_a_fixed_number_of_faces_needs_no_profile(
    machine: Any, onnx_file: Write, tmp_path: Path
) -> None:
    built = tensorrt(onnx_file(batch=3), tmp_path / "e.engine")
    assert plan_of(built)["profiles"] == []
    with pytest.raises(ConfigError, match="fixed number of faces"):
        tensorrt(onnx_file(batch=3), tmp_path / "f.engine", profiles=[1, 3])


def test_only_the_number_of_faces_may_be_open(
    machine: Any, onnx_file: Write, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="only the first dimension"):
        tensorrt(onnx_file(open_rows=True), tmp_path / "e.engine")


# ---- cache


def test_the_cache_answers_for_the_same_and_only_for_it(
    machine: Any, onnx_file: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "engines"

    def build(name: str, file: Path, **settings: Any) -> bool:
        return tensorrt(file, tmp_path / name, cache=folder, **settings).cached

    file = onnx_file()
    assert not build("1.engine", file)
    assert build("2.engine", file)
    assert (tmp_path / "1.engine").read_bytes() == (tmp_path / "2.engine").read_bytes()
    assert not build("3.engine", onnx_file("other.onnx", weight=3.0))
    assert not build("4.engine", file, profiles=[2])
    assert not build("5.engine", file, refit=True)
    assert not build("6.engine", file, workspace=2**24)
    machine.gpu.name = "NVIDIA Other"
    assert not build("7.engine", file)
    machine.install("11.0.0.114")
    assert not build("8.engine", file)
    assert build("9.engine", file)
    assert machine.world.built == 7


def test_the_cache_can_be_left_out(machine: Any, onnx_file: Write, tmp_path: Path) -> None:
    for name in ("1.engine", "2.engine"):
        assert not tensorrt(onnx_file(), tmp_path / name, cache=False).cached
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("which", ["engine", "description"])
def test_a_damaged_cache_is_built_again(
    machine: Any, onnx_file: Write, tmp_path: Path, which: str
) -> None:
    first = tensorrt(onnx_file(), tmp_path / "1.engine", cache=tmp_path / "c")
    (kept,) = (tmp_path / "c").glob("*.engine")
    (kept if which == "engine" else sidecar(kept)).write_bytes(b"{}")
    again = tensorrt(onnx_file(), tmp_path / "2.engine", cache=tmp_path / "c")
    assert not again.cached
    assert again.path.read_bytes() == first.path.read_bytes()
    assert tensorrt(onnx_file(), tmp_path / "3.engine", cache=tmp_path / "c").cached


@given(st.data())
def test_keys_differ_with_everything_that_they_are_of(data: st.DataObject) -> None:
    text = st.text(max_size=4)
    identities = st.builds(
        Identity,
        tensorrt=text,
        gpu=st.builds(Gpu, text, text, st.integers(0, 9)),
        onnx=text,
        plugin=st.none() | text,
        options=st.builds(BuildOptions, refit=st.booleans()),
    )
    one, other = data.draw(identities), data.draw(identities)
    assert (one.key == other.key) == (one == other)


# ---- the plugin


def test_without_the_library_the_function_runs_which_is_said_once(
    machine: Any,
    onnx_file: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(log, "_said", set())
    for name in ("1.engine", "2.engine"):
        built = tensorrt(onnx_file(node=True), tmp_path / name, cache=False)
        assert not plan_of(built)["needs_plugin"]
        assert built.identity.plugin is None
    said = [r.message for r in caplog.records if "ordinary operators" in r.message]
    assert len(said) == 1
    assert "LREORG_TENSORRT_INCLUDE" in said[0]


def test_the_plugin_runs_the_node(
    machine: Any, onnx_file: Write, tmp_path: Path, library: Path
) -> None:
    built = tensorrt(onnx_file(node=True), tmp_path / "1.engine", plugin="always")
    assert plan_of(built)["needs_plugin"]
    # Another library is another engine.
    library.write_bytes(b"a newer library")
    newer = tensorrt(onnx_file(node=True), tmp_path / "2.engine")
    assert not newer.cached
    assert newer.identity.plugin != built.identity.plugin
    never = tensorrt(onnx_file(node=True), tmp_path / "3.engine", plugin="never")
    assert not plan_of(never)["needs_plugin"]
    # A file without the node does not need it.
    assert tensorrt(onnx_file(), tmp_path / "4.engine").identity.plugin is None


def test_what_the_plugin_is_refused_for(
    machine: Any, onnx_file: Write, tmp_path: Path, library: Path
) -> None:
    def build(node: bool = True, plugin: str = "always") -> None:
        tensorrt(onnx_file(node=node), tmp_path / "e.engine", plugin=plugin, cache=False)

    with pytest.raises(ConfigError, match=r"has no LreorgReorganize node.*form='plugin'"):
        build(node=False)
    machine.world.expands = True
    with pytest.raises(BackendUnavailable, match="does not use the plugin"):
        build()
    machine.world.expands = False
    library.write_bytes(b"wrong release line")
    with pytest.raises(BackendUnavailable, match="cannot load the plugin library"):
        build()
    library.unlink()
    with pytest.raises(BackendUnavailable, match=r"plugin is 'always', but there is no plugin"):
        build()
    machine.world.loaded_by_others = True
    with pytest.raises(ConfigError, match="found a plugin"):
        build(plugin="never")
    assert not (tmp_path / "e.engine").exists()


# ---- refit


def test_refit_changes_the_weights_only(machine: Any, onnx_file: Write, tmp_path: Path) -> None:
    first = tensorrt(onnx_file(), tmp_path / "1.engine", refit=True)
    other = onnx_file("other.onnx", weight=5.0)
    second = refit(first.path, other, tmp_path / "2.engine")
    assert plan_of(second) == plan_of(first) | {"weight": 5.0}
    assert second.identity.onnx != first.identity.onnx
    assert read_identity(second.path) == second.identity
    assert machine.world.built == 1
    with pytest.raises(OutputError, match="exists already"):
        refit(first.path, other, tmp_path / "2.engine")


def test_what_refit_refuses(machine: Any, onnx_file: Write, tmp_path: Path) -> None:
    plain = tensorrt(onnx_file(), tmp_path / "1.engine")
    with pytest.raises(ConfigError, match="refit=True"):
        refit(plain.path, onnx_file(), tmp_path / "2.engine")
    able = tensorrt(onnx_file(), tmp_path / "3.engine", refit=True)
    for step, message in (
        ("refit_parse", "does not fit the engine: no such operator"),
        ("missing", "lacks weights of the engine .w."),
        ("refit", "lacks weights"),
    ):
        machine.world.fail = {step}
        with pytest.raises(CheckpointError, match=message):
            refit(able.path, onnx_file(), tmp_path / "2.engine")
    machine.world.fail = set()
    machine.gpu.name = "NVIDIA Other"
    with pytest.raises(BackendUnavailable, match="was built for NVIDIA Pretended"):
        refit(able.path, onnx_file(), tmp_path / "2.engine")
    assert not (tmp_path / "2.engine").exists()


# ---- timing cache


def test_the_timing_cache_is_read_and_written(
    machine: Any, onnx_file: Write, tmp_path: Path
) -> None:
    timings = tmp_path / "timings"
    for seen in (b"", b"measured"):
        tensorrt(
            onnx_file(), tmp_path / "e.engine", timing_cache=timings, cache=False, overwrite=True
        )
        assert machine.world.settings["timing_cache"] == seen
    assert timings.read_bytes() == b"measuredmeasured"
    machine.world.fail = {"timing_cache"}
    with pytest.raises(CheckpointError, match="of another GPU or version"):
        tensorrt(onnx_file(), tmp_path / "f.engine", timing_cache=timings, cache=False)


# ---- refusals


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ("builder", BackendUnavailable, r"cannot make a builder \(pretended failure of builder\)"),
        ("parse", CheckpointError, r"cannot read '.*network.onnx': no such operator; export it"),
        ("profile", ConfigError, "refuses the profile"),
        ("build", BackendUnavailable, r"cannot build an engine from .*\(pretended failure"),
    ],
)
def test_failures_of_tensorrt_are_sentences(
    machine: Any,
    onnx_file: Write,
    tmp_path: Path,
    step: str,
    error: type[Exception],
    message: str,
) -> None:
    machine.world.fail = {step}
    with pytest.raises(error, match=message):
        tensorrt(onnx_file(), tmp_path / "e.engine")
    assert list(tmp_path.glob("*.engine*")) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"profiles": []}, "profiles is empty"),
        ({"profiles": [(1, 0, 2)]}, "in order"),
        ({"profiles": [(1, 2)]}, "least, best, most"),
        ({"profiles": [5000]}, "1 to 4096"),
        ({"profiles": [True]}, "profile"),
        ({"plugin": "yes"}, "plugin is 'yes'; allowed are auto, always, never"),
        ({"workspace": 1}, "workspace is 1"),
        ({"optimization_level": 6}, "optimization_level is 6"),
        ({"dtype": "float16"}, "dtype has no effect on a file"),
        ({"fp16": True}, "there is no setting 'fp16'"),
    ],
)
def test_settings_are_checked_before_anything_else(
    onnx_file: Write, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    """Without TensorRT and a GPU: neither is asked for."""
    with pytest.raises(ConfigError, match=message):
        tensorrt(onnx_file(), tmp_path / "e.engine", **settings)


def test_targets_are_checked_first(onnx_file: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.engine"):
        tensorrt(onnx_file(), tmp_path / "e.plan")
    with pytest.raises(OutputError, match="does not exist"):
        tensorrt(onnx_file(), tmp_path / "none" / "e.engine")
    (tmp_path / "e.engine").write_bytes(b"")
    with pytest.raises(OutputError, match="exists already"):
        tensorrt(onnx_file(), tmp_path / "e.engine")


def test_a_machine_without_what_it_takes(
    machine: Any, onnx_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(**settings: Any) -> None:
        tensorrt(onnx_file(), tmp_path / "e.engine", **settings)

    with pytest.raises(BackendUnavailable, match="NVIDIA GPUs only"):
        build(device="cpu")
    with pytest.raises(BackendUnavailable, match="has cuda:0 to cuda:1"):
        build(device="cuda:2")
    machine.install("10.8.0.43")
    with pytest.raises(BackendUnavailable, match=r"10\.8\.0\.43, but must be 10\.9 or newer"):
        build()
    machine.install("11")
    with pytest.raises(BackendUnavailable, match="version is '11'"):
        build()
    machine.install(None)
    with pytest.raises(MissingExtra, match=r"lreorg_fast\[tensorrt\]"):
        build()
    machine.install("11.4.0.106")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="needs an NVIDIA GPU"):
        build()


def test_an_unreadable_file_is_named(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("empty.onnx", "none.onnx"):
        with pytest.raises(CheckpointError, match=f"{name}.*name an ONNX file"):
            tensorrt(tmp_path / name, tmp_path / "e.engine")


# ---- descriptions


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"format": "lreorg-engine", "version": 2}',
        b'{"format": "lreorg-engine", "version": 1, "sha256": "", "identity": {"gpu": {}}}',
    ],
)
def test_a_damaged_description_is_refused(
    machine: Any, onnx_file: Write, tmp_path: Path, content: bytes
) -> None:
    built = tensorrt(onnx_file(), tmp_path / "e.engine")
    sidecar(built.path).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"e\.engine\.json' does not describe an engine"):
        read_identity(built.path)


def test_an_engine_is_the_one_that_is_described(
    machine: Any, onnx_file: Write, tmp_path: Path
) -> None:
    built = tensorrt(onnx_file(), tmp_path / "e.engine")
    built.path.write_bytes(built.path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="damaged or not the engine"):
        read_identity(built.path)
    sidecar(built.path).write_bytes(b" " * (trt_identity._MOST_BYTES + 1))
    with pytest.raises(CheckpointError, match="too large"):
        read_identity(built.path)
    sidecar(built.path).unlink()
    with pytest.raises(CheckpointError, match="there is no file"):
        read_identity(built.path)


def test_profiles_are_read_from_numbers() -> None:
    assert as_profile(4) == as_profile((4, 4, 4)) == as_profile(Profile(4, 4, 4))
    assert dataclasses.astuple(as_profile([1, 2, 3])) == (1, 2, 3)  # type: ignore[arg-type]


def test_the_package_is_the_pretended_one(machine: Any) -> None:
    assert tensorrt_package().__version__ == "11.4.0.106"


# ---- bundles


@pytest.mark.parametrize(
    ("stage", "needs_plugin"),
    [("cdfnet", True), ("generator", False), ("pipeline", True), ("analysis", True)],
)
def test_a_bundle_is_exported_first(
    machine: Any, toy: Bundle, tmp_path: Path, library: Path, stage: str, needs_plugin: bool
) -> None:
    built = tensorrt(toy, tmp_path / "e.engine", stage=stage, profiles=[(1, 2, 4)])
    plan = plan_of(built)
    assert plan["needs_plugin"] == needs_plugin
    faces = {tuple(shape[0] for shape in shapes) for shapes in plan["profiles"][0].values()}
    assert faces == {(1, 2, 4)}
    assert all(shape[0] == -1 for _, shape in plan["inputs"])
    # Files come out the same, so the cache knows what was exported again.
    assert tensorrt(toy, tmp_path / "f.engine", stage=stage, profiles=[(1, 2, 4)]).cached
    assert not tensorrt(
        toy, tmp_path / "g.engine", stage=stage, profiles=[(1, 2, 4)], dtype="float16"
    ).cached
    with pytest.raises(ConfigError, match="stage"):
        tensorrt(toy, tmp_path / "h.engine", stage="none")


def test_networks_that_judge_are_float32(machine: Any, toy: Bundle, tmp_path: Path) -> None:
    assert tensorrt(toy, tmp_path / "e.engine", stage="recognizer").identity.plugin is None
    with pytest.raises(ConfigError, match="dtype"):
        tensorrt(toy, tmp_path / "f.engine", stage="recognizer", dtype="bfloat16")
