"""Building the stand-in for TensorRT and the plugin library, and asking the real bindings."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# Folders of TensorRT's real headers ("include"), and folders that hold tensorrt_bindings: several,
# separated as PATH is.
HEADERS_VARIABLE = "LREORG_TENSORRT_HEADERS"
BINDINGS_VARIABLE = "LREORG_TENSORRT_BINDINGS"

STANDIN_HEADERS = ROOT / "tests" / "native" / "tensorrt"
PLUGIN_SOURCES = (
    *sorted((ROOT / "csrc" / "tensorrt").glob("*.cpp")),
    ROOT / "csrc" / "core" / "program.cpp",
    ROOT / "tests" / "export" / "standin" / "launchers.cpp",
)
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_CUDA_HEADERS = "/usr/local/cuda/include"


def folders_of(variable: str) -> list[Path]:
    return [Path(part) for part in os.environ.get(variable, "").split(os.pathsep) if part]


def compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("c++")
    if found is None:
        pytest.skip("there is no C++ compiler")
    return found


def compile_cpp(*arguments: str | Path) -> str:
    """Run the compiler; returns what it said, which must be nothing."""
    command = [compiler(), "-std=c++20", "-Wall", "-Wextra", "-Wshadow", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def header_flags(headers: Path | None, major: int) -> list[str]:
    """For the real headers, or where there are none for the stand-in's."""
    own = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'kernels'}"]
    if headers is None:
        return [f"-DNV_TENSORRT_MAJOR={major}", f"-I{STANDIN_HEADERS}", *own]
    # 10.9 has no getAllCreatorsRecursive.
    common = (headers / "NvInferRuntimeCommon.h").read_text()
    lacks = [] if "getAllCreatorsRecursive" in common else ["-DLREORG_WITHOUT_RECURSIVE"]
    # The registry of 10 has functions of plugins of version 2.
    lacks.append("-Wno-deprecated-declarations")
    return [*lacks, "-isystem", str(headers), "-isystem", _CUDA_HEADERS, *own]


def build_libraries(folder: Path, headers: Path | None, major: int) -> None:
    """The stand-in under the names that the bindings of a release line ask for."""
    source = ROOT / "tests" / "export" / "standin" / "nvinfer.cpp"
    first = folder / f"lib{_LIBRARIES[0]}.so.{major}"
    shared = ("-O0", "-shared", "-fPIC", "-fvisibility=hidden")
    flags = header_flags(headers, major)
    said = compile_cpp(*shared, *flags, f"-Wl,-soname,{first.name}", source, "-o", first, "-ldl")
    assert said == ""
    for name in _LIBRARIES[1:]:
        library = folder / f"lib{name}.so.{major}"
        # Empty ones: the functions are found in the first.
        compile_cpp(*shared, f"-Wl,-soname,{library.name}", "-x", "c++", "/dev/null", "-o", library)


def build_plugin(folder: Path, headers: Path | None, major: int) -> Path:
    """The plugin library with the link options of csrc/tensorrt/CMakeLists.txt."""
    library = folder / f"liblreorg_tensorrt_{major}.so"
    script = ROOT / "csrc" / "tensorrt" / "exports.map"
    options = ("-O0", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,--no-undefined")
    flags = header_flags(headers, major)
    said = compile_cpp(
        *options, f"-Wl,--version-script={script}", *flags, *PLUGIN_SOURCES, "-ldl", "-o", library
    )
    assert said == ""
    return library


def installed_bindings() -> bool:
    return importlib.util.find_spec("tensorrt_bindings") is not None


def probe(
    folder: Path, bindings: Path | None, plugin: Path | None, **environment: str
) -> dict[str, Any]:
    """What trt_probe.py finds, in a process of its own: a process can load one TensorRT only."""
    orders = {
        "folder": str(folder),
        "bindings": None if bindings is None else str(bindings),
        "plugin": None if plugin is None else str(plugin),
    }
    command = [sys.executable, str(ROOT / "tests" / "trt_probe.py"), json.dumps(orders)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
