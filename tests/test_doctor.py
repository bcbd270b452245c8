from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from bundles import toy_bundle

import lreorg_fast
from lreorg_fast import doctor
from lreorg_fast.doctor import OPTIONAL, Diagnosis, examine

if sys.version_info >= (3, 11):
    import tomllib

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = toy_bundle(tmp_path / "demo")
    monkeypatch.setattr("lreorg_fast.weights.bundle._packaged_demo", lambda: root)
    return root


@pytest.fixture
def found(bundle: Path) -> Diagnosis:
    return examine()


def test_a_sound_installation(found: Diagnosis) -> None:
    assert found.healthy
    assert found.problems == ()
    assert found.version == lreorg_fast.__version__
    assert json.loads(json.dumps(found.to_dict()))["healthy"] is True
    assert found.backends == lreorg_fast.available_backends()
    assert found.torch is not None
    assert "cpu" in found.torch["devices"]
    assert found.native is not None
    assert "generic" in found.native["cpu_kernels"]
    assert found.native["cuda"]["built"] in (True, False)
    assert found.bundle is not None
    assert found.bundle["name"] == "toy"
    assert found.bundle["files"] == 7


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_bundle_is_a_problem(bundle: Path, damage: str) -> None:
    weights = bundle / "cdfnet.safetensors"
    if damage == "gone":
        weights.unlink()
    else:
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    found = examine()
    assert not found.healthy
    assert found.bundle is None
    (problem,) = found.problems
    assert problem.startswith("bundle: ")
    assert "cdfnet.safetensors" in problem


def test_a_native_module_of_another_version_is_a_problem(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lreorg_fast, "__version__", "9.9")
    found = examine()
    assert found.native is None
    (problem,) = found.problems
    assert problem.startswith("native: ")
    assert "9.9" in problem
    assert "pip install" in problem


def test_a_broken_torch_does_not_stop_the_doctor(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # import raises ImportError
    found = examine()
    assert found.torch is None
    assert any(problem.startswith("torch: ") for problem in found.problems)
    assert found.optional


def test_optional_packages(found: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {package["name"]: package for package in found.optional}
    assert set(listed) == {entry.distribution for entry in OPTIONAL}
    for entry in OPTIONAL:
        assert listed[entry.distribution]["install"].startswith("pip install ")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for name in [entry.module for entry in OPTIONAL]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert all(package["version"] is None for package in examine().optional)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in Python 3.11")
def test_the_extras_exist_and_bring_what_they_promise() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for entry in OPTIONAL:
        if entry.extra is not None:
            assert any(line.startswith(entry.distribution) for line in extras[entry.extra]), entry


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("model name\t: Some CPU\nflags\t\t: fpu avx2 amx_tile bmi\n\nflags : avx512f\n", ["avx2"]),
        ("Features\t: fp asimd sve\n", ["asimd", "sve"]),
        ("", []),
        (None, None),
    ],
)
def test_instruction_sets(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    features: list[str] | None,
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("lreorg_fast.weights.bundle._packaged_demo", lambda: tmp_path)
    cpu = examine().cpu
    assert cpu["features"] == (features if features != ["avx2"] else ["avx2", "amx_tile"])
    assert cpu["model"]
    assert cpu["usable_cores"] <= (os.cpu_count() or 1)
