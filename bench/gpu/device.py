"""Stage ``device``: what the machine is and which tools it has."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.gpu.channel import Channel, Context, Unavailable

PACKAGES = ("torch", "triton", "numpy", "pybind11", "cmake", "ninja", "pytest", "setuptools")
PROGRAMS: dict[str, tuple[str, ...]] = {
    "nvcc": ("nvcc", "--version"),
    "c++": ("c++", "--version"),
    "cmake": ("cmake", "--version"),
    "ninja": ("ninja", "--version"),
    "make": ("make", "--version"),
    "compute-sanitizer": ("compute-sanitizer", "--version"),
}
# Read only: a lent card's settings are left alone.
STATE = (
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.draw",
    "power.limit",
    "temperature.gpu",
    "pstate",
    "mig.mode.current",
)
SOURCES = ("kernels", "csrc", "lreorg_fast", "bench")
_SECONDS = 20


def describe(context: Context, channel: Channel) -> None:
    """Keep everything about machine, tools and sources; fails where there is no GPU."""
    with channel.step("machine", _SECONDS):
        channel.keep("machine", value=machine.describe())
        channel.keep("sources", value=digest(context.root))
        channel.keep("programs", value={name: version(line) for name, line in PROGRAMS.items()})
        channel.keep("packages", value={name: package(name) for name in PACKAGES})
    if context.device == "cuda":
        channel.keep("gpu", value=gpu())
        channel.keep("state", value=state())


def gpu() -> dict[str, Any]:
    """Of the first visible GPU: name, architecture, sizes; bytes.

    Raises:
        Unavailable: there is none that PyTorch can use.
    """
    try:
        import torch
    except ImportError as error:
        raise Unavailable(f"no GPU can be checked: PyTorch does not load ({error}).") from None
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            f"PyTorch {torch.__version__} finds no CUDA device"
            if built
            else f"PyTorch {torch.__version__} was built without CUDA"
        )
        raise Unavailable(
            f"no GPU can be checked: {why}; run this on a machine with an NVIDIA GPU."
        )
    properties = torch.cuda.get_device_properties(0)
    capability = (properties.major, properties.minor)
    return {
        "name": properties.name,
        "capability": list(capability),
        "architecture": architecture(*capability),
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "shared_bytes_per_block": getattr(properties, "shared_memory_per_block_optin", None),
        "torch_cuda": torch.version.cuda,
        "torch_architectures": torch.cuda.get_arch_list(),
        "count": torch.cuda.device_count(),
    }


def architecture(major: int, minor: int) -> str:
    """As LREORG_CUDA_ARCHS names it; Hopper's own instructions need the "a"."""
    return f"{major}{minor}{'a' if (major, minor) == (9, 0) else ''}"


def state() -> dict[str, str | None]:
    """Driver, clocks, power and temperature as they are now, by the names of nvidia-smi."""
    fields = ",".join(STATE)
    line = output(["nvidia-smi", "-i", "0", f"--query-gpu={fields}", "--format=csv,noheader"])
    values = line.split(", ") if line else []
    return dict(zip(STATE, values, strict=True)) if len(values) == len(STATE) else {"query": line}


def version(command: Sequence[str]) -> str | None:
    """The line of a program's own words that names its version; None where it is missing."""
    text = output(command)
    if text is None:
        return None
    lines = [line.strip() for line in text.splitlines() if any(map(str.isdigit, line))]
    telling = [line for line in lines if "release" in line or "ersion" in line]
    return next(iter(telling or lines), None)


def package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def output(command: Sequence[str]) -> str | None:
    """What a program prints; None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def digest(root: Path) -> str:
    """Of all sources: the commit is not known where only the working tree has travelled."""
    found = hashlib.sha256(platform.machine().encode())
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in {".py", ".h", ".cpp", ".cu", ".txt", ".cmake"}:
                found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]
