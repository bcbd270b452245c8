"""What a stranger gets: the wheel and the source distribution, built and installed elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "CMakeLists.txt",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "csrc",
    "kernels",
    "lreorg_fast",
    "pyproject.toml",
    "setup.py",
)
GENERATED = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
PROBE = """
import importlib.resources, json
import lreorg_fast, lreorg_fast.kernels
from lreorg_fast import _native
files = importlib.resources.files("lreorg_fast")
print(json.dumps({
    "package": lreorg_fast.__file__,
    "kernels": lreorg_fast.kernels.__file__,
    "native": _native.build_config(),
    "typed": (files / "py.typed").is_file() and (files / "_native.pyi").is_file(),
    "backends": lreorg_fast.available_backends(),
}))
"""

pytestmark = pytest.mark.packaging


def run(*command: str, cwd: Path, **environment: str) -> str:
    # One compiler at a time: other workers of the test run have the other cores.
    settings = {
        "LREORG_BUILD_CUDA": "0",
        "LREORG_TENSORRT_INCLUDE": "",
        "CMAKE_BUILD_PARALLEL_LEVEL": "1",
    } | environment
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is in version control, so that builds leave the work tree alone."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=GENERATED)
        else:
            shutil.copy(source, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "-w", str(folder))
    run(sys.executable, "-m", "pip", "wheel", ".", *options, cwd=checkout)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [n for n in names if n.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"lreorg_fast"}
    assert "lreorg_fast/kernels/__init__.py" in names
    assert "lreorg_fast/py.typed" in names
    assert any(name.startswith("lreorg_fast/_native.") and name.endswith(".so") for name in names)
    assert not [name for name in names if name.endswith((".cpp", ".cu", ".h", ".pyc"))]
    assert "License-Expression: Apache-2.0" in text
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_holds_all_data(wheel: Path) -> None:
    data = ROOT / "lreorg_fast" / "data"
    expected = {p.relative_to(ROOT).as_posix() for p in data.rglob("*") if p.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("lreorg_fast/data/")}
    assert held == expected


def test_the_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    options = ("--no-deps", "--no-index", "--target", str(site))
    run(sys.executable, "-m", "pip", "install", *options, str(wheel), cwd=tmp_path)
    shown = json.loads(run(sys.executable, "-c", PROBE, cwd=empty, PYTHONPATH=str(site)))
    assert Path(shown["package"]).is_relative_to(site)
    assert Path(shown["kernels"]).is_relative_to(site / "lreorg_fast" / "kernels")
    assert shown["typed"]
    assert shown["native"]["version"] in wheel.name
    assert shown["backends"]["cpu"] is True
    assert shown["backends"]["cuda"].startswith("built without CUDA (LREORG_BUILD_CUDA=0")


def test_the_source_distribution_is_complete(checkout: Path, tmp_path: Path) -> None:
    script = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", script, str(tmp_path), cwd=checkout)
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        path.relative_to(checkout).as_posix()
        for folder in ("csrc", "kernels", "lreorg_fast")
        for path in (checkout / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources | {"CMakeLists.txt", "setup.py", "pyproject.toml", "LICENSE"} <= held
    assert not [name for name in held if name.endswith((".so", ".pyc"))]
