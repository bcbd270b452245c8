"""Stage ``build``: the package and the probes for exactly this GPU, without network or pip.

The package is built by CMake itself, as setup.py does it, because an image's setuptools may be too
old for pyproject.toml. It goes to ``Context.site`` with a copy of the Python sources.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from bench.gpu.channel import Channel, Context, WrongResult

NATIVE = Path("bench") / "native"
PROBES = ("exchange", "stream")
CHECKER = "memory_check"

# Folder of TensorRT's headers: the plugin is built as well.
TENSORRT_VARIABLE = "LREORG_TENSORRT_INCLUDE"

_BUILD_SECONDS = 300.0
_PROBE_SECONDS = 60.0


class BuildFailed(Exception):
    """A tool is missing or has failed; the message says which and what to do."""


@dataclasses.dataclass(frozen=True)
class Tools:
    """The programs of a build, with paths.

    Attributes:
        make: CMake's name of what runs the compilers, and its program.
        pybind11: the folder of its CMake files.
    """

    cmake: str
    nvcc: str
    make: tuple[str, str]
    pybind11: str

    @classmethod
    def find(cls) -> Tools:
        """Raises BuildFailed with a statement for each that is missing."""
        nvcc, cmake = find_nvcc(), _program("cmake")
        make = _make()
        problems = [
            problem
            for present, problem in (
                (nvcc, "nvcc is missing: install the CUDA toolkit or name it in CUDACXX"),
                (shutil.which("c++"), "a C++ compiler (c++) is missing: install g++"),
                (cmake, "cmake is missing: bring it as the wheel 'cmake'"),
                (make, "ninja and make are missing: bring ninja as the wheel 'ninja'"),
                (_has("pybind11"), "pybind11 is missing: bring it as the wheel 'pybind11'"),
                (
                    (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file(),
                    "Python.h is missing: install python3-dev",
                ),
            )
            if not present
        ]
        if problems:
            raise BuildFailed("; ".join(problems))
        assert nvcc is not None
        assert cmake is not None
        assert make is not None
        import pybind11

        return cls(cmake, nvcc, make, pybind11.get_cmake_dir())


def build(context: Context, channel: Channel) -> None:
    """Build everything; keeps the architecture and the build's facts."""
    architecture = context.earlier["device"]["gpu"]["architecture"]
    channel.keep("architecture", value=architecture)
    tools = Tools.find()
    with channel.step("package", min(_BUILD_SECONDS, context.left)):
        package(context, tools, architecture)
        channel.keep("config", value=facts(context, architecture))
    for name in PROBES:
        with channel.step(name, _PROBE_SECONDS):
            probe(context, tools, architecture, name)
    with channel.step(CHECKER, _PROBE_SECONDS):
        probe(context, tools, architecture, CHECKER, [kernels_library(context)])


def package(context: Context, tools: Tools, architecture: str) -> None:
    """The module and the Python files, as ``pip install --target`` would leave them."""
    folder, target = context.work / "cmake", context.site / "lreorg_fast"
    # A cache that was made on another machine names paths that do not exist here.
    (folder / "CMakeCache.txt").unlink(missing_ok=True)
    call(configure(context.root, folder, target, tools, architecture))
    targets = ["_native", *(["lreorg_tensorrt"] if os.environ.get(TENSORRT_VARIABLE) else [])]
    call([tools.cmake, "--build", str(folder), "--target", *targets, "--parallel", str(cores())])
    copy_sources(context.root, target)


def configure(root: Path, folder: Path, target: Path, tools: Tools, architecture: str) -> list[str]:
    """CMake's arguments."""
    return [
        tools.cmake,
        "-S",
        str(root),
        "-B",
        str(folder),
        "-G",
        tools.make[0],
        f"-DCMAKE_MAKE_PROGRAM={tools.make[1]}",
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_CUDA_COMPILER={tools.nvcc}",
        "-DCMAKE_CUDA_FLAGS=-lineinfo",  # compute-sanitizer then names lines
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={tools.pybind11}",
        "-DLREORG_BUILD_CUDA=1",
        f"-DLREORG_CUDA_ARCHS={architecture}",
        "-DLREORG_VERSION=gpu_check",
    ]


def copy_sources(root: Path, target: Path) -> None:
    """The Python packages beside the built module; setup.py maps kernels/ in the same way."""
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for source, place in ((root / "lreorg_fast", target), (root / "kernels", target / "kernels")):
        shutil.copytree(source, place, ignore=ignore, dirs_exist_ok=True)


def facts(context: Context, architecture: str) -> dict[str, object]:
    """What the new module says of itself, in a process of its own.

    Raises:
        WrongResult: it does not load, or is another one.
    """
    code = "import json; from lreorg_fast import _native as n; print(json.dumps(n.build_config()))"
    path = [str(context.site), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=context.work,
        env=environment,
    )
    if done.returncode != 0:
        raise WrongResult(f"the module does not load: {done.stderr.strip().splitlines()[-1]}")
    config: dict[str, object] = json.loads(done.stdout)
    if config["cuda_architectures"] != architecture:
        raise WrongResult(f"the module is for {config['cuda_architectures'] or 'no GPU'}")
    return config


def probe(
    context: Context, tools: Tools, architecture: str, name: str, libraries: Sequence[Path] = ()
) -> None:
    """Compile bench/native/NAME.cu for one architecture."""
    call(probe_command(context, tools.nvcc, architecture, name, libraries))


def probe_command(
    context: Context, nvcc: str, architecture: str, name: str, libraries: Sequence[Path] = ()
) -> list[str]:
    code = f"arch=compute_{architecture},code=sm_{architecture}"
    return [
        nvcc,
        "-std=c++20",
        "-O3",
        "-lineinfo",
        "-gencode",
        code,
        "-I",
        str(context.root / "kernels"),
        str(context.root / NATIVE / f"{name}.cu"),
        *map(str, libraries),
        "-o",
        str(context.work / name),
    ]


def kernels_library(context: Context) -> Path:
    """The static library that the package's build has made."""
    found = sorted((context.work / "cmake").rglob("liblreorg_cuda_kernels.a"))
    if not found:
        raise BuildFailed("the build left no liblreorg_cuda_kernels.a")
    return found[0]


def find_nvcc() -> str | None:
    return os.environ.get("CUDACXX") or cuda_program("nvcc")


def cuda_program(name: str) -> str | None:
    """On the path, or where the CUDA toolkit is installed by default."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")


def cores() -> int:
    return len(os.sched_getaffinity(0))


def call(command: Sequence[str]) -> None:
    """Run a program; its output goes to the log.

    Raises:
        BuildFailed: it ended with an error.
    """
    print("+", shlex.join(command), flush=True)
    done = subprocess.run(command)
    if done.returncode != 0:
        raise BuildFailed(f"{Path(command[0]).name} ended with code {done.returncode}; see the log")


def _make() -> tuple[str, str] | None:
    """(CMake's generator, the program that it drives)."""
    for generator, name in (("Ninja", "ninja"), ("Unix Makefiles", "make")):
        program = _program(name)
        if program is not None:
            return generator, program
    return None


def _program(name: str) -> str | None:
    """On the path, or beside this Python, where wheels put programs."""
    beside = Path(sys.executable).parent
    return shutil.which(name) or shutil.which(name, path=str(beside))


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
