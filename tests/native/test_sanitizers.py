"""The C++ tests, built and run under the compiler's sanitizers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 600  # on a machine that does much else; it takes about half a minute
# By kind: the sanitizer, what is left out of the build to save half of its time (threads share work
# alike whatever the kernels), and what native_test is asked for.
SANITIZERS = {
    "memory": ("address;undefined", [], []),
    "races": ("thread", ["-DLREORG_COMPILER_AVX512_BF16=OFF"], ["--concurrent"]),
}


def program(name: str) -> str:
    """A build program, that of this environment before the system's."""
    here = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # ThreadSanitizer ends a child of fork() that starts threads, unless told that this is meant.
    settings = {"TSAN_OPTIONS": "die_after_fork=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run(
        command,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def launcher(sanitizer: str, folder: Path) -> list[str]:
    """What to put before a program so that the sanitizer's runtime starts, or a skip.

    ThreadSanitizer refuses some kernels' randomized addresses, which setarch switches off.
    """
    source, probe = folder / "probe.cpp", folder / "probe"
    source.write_text("int main() {}")
    flags = f"-fsanitize={sanitizer.replace(';', ',')}"
    built = run([os.environ.get("CXX", program("c++")), flags, str(source), "-o", str(probe)])
    if built.returncode != 0:
        pytest.skip(f"this compiler has no runtime for {flags}")
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    for before in ([], fixed):
        if run([*before, str(probe)]).returncode == 0:
            return before
    pytest.skip(f"programs built with {flags} do not start on this machine")


@pytest.mark.parametrize("kind", SANITIZERS)
def test_the_native_tests_pass_under_sanitizers(kind: str, tmp_path: Path) -> None:
    sanitizer, left_out, arguments = SANITIZERS[kind]
    before = launcher(sanitizer, tmp_path)
    build = tmp_path / "build"
    configure = [
        program("cmake"),
        *("-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={program('ninja')}",
        "-DCMAKE_BUILD_TYPE=Debug",
        "-DCMAKE_CXX_FLAGS_DEBUG=-O1",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        "-DLREORG_BUILD_CUDA=0",
        "-DLREORG_TENSORRT_INCLUDE=",
        "-DLREORG_BUILD_TESTS=ON",
        f"-DLREORG_SANITIZE={sanitizer}",
        *left_out,
    ]
    compile_all = [program("cmake"), "--build", str(build), "--target", "native_test"]
    test = [*before, str(build / "tests" / "native" / "native_test"), *arguments]
    for command in (configure, compile_all, test):
        done = run(command)
        assert done.returncode == 0, done.stdout[-8000:]
        assert "warning: " not in done.stdout, done.stdout[-8000:]
    assert "tests passed" in done.stdout
