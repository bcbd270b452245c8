"""Builds the native module by driving CMake; everything else is declared in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
# Settings of a build that travel from the environment to CMake under the same name.
BUILD_SETTINGS = ("LREORG_BUILD_CUDA", "LREORG_CUDA_ARCHS", "LREORG_TENSORRT_INCLUDE")


def tool(package: str, folder_attribute: str, program: str) -> str:
    """Path of a build program: the one inside the build environment before the system's."""
    try:
        module = __import__(package)
    except ImportError:
        found = shutil.which(program)
    else:
        found = shutil.which(program, path=getattr(module, folder_attribute))
        found = found or shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} was not found; install it with 'pip install {package}'.")
    return found


class CMakeExtension(Extension):
    """An extension whose sources CMakeLists.txt lists."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Configures and builds with Ninja, and leaves the module where setuptools expects it."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / ext.name
        cmake = tool("cmake", "CMAKE_BIN_DIR", "cmake")
        configure = [
            cmake,
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={tool('ninja', 'BIN_DIR', 'ninja')}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DLREORG_VERSION={self.distribution.get_version()}",
        ]
        configure += [
            f"-D{name}={os.environ[name]}" for name in BUILD_SETTINGS if name in os.environ
        ]
        # A cache that was made in another place or environment (build isolation) names paths
        # that no longer exist.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        try:
            subprocess.run(configure, check=True)
            targets = ["_native"]
            if os.environ.get("LREORG_TENSORRT_INCLUDE"):
                targets.append("lreorg_tensorrt")
            subprocess.run([cmake, "--build", str(build), "--target", *targets], check=True)
        except subprocess.CalledProcessError:
            # CMake has said above what is wrong; a traceback would only push it out of sight.
            raise SystemExit("building lreorg_fast._native failed; see CMake's output.") from None


def packages() -> tuple[list[str], dict[str, str]]:
    """Package names, and the mapping that installs kernels/ inside lreorg_fast."""
    kernels = ["lreorg_fast.kernels"]
    kernels += [f"lreorg_fast.kernels.{name}" for name in find_packages(str(ROOT / "kernels"))]
    own = find_packages(str(ROOT), include=["lreorg_fast", "lreorg_fast.*"])
    return own + kernels, {"lreorg_fast.kernels": "kernels"}


names, folders = packages()
setup(
    packages=names,
    package_dir=folders,
    ext_modules=[CMakeExtension("lreorg_fast._native")],
    cmdclass={"build_ext": CMakeBuild},
)
