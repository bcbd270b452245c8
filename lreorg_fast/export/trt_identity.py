"""What an engine was built from and for: its identity, the file beside it, and the cache by it.

TensorRT's engine files say nothing that can be read before they are loaded, and run only on the
kind of GPU and with the version that made them. So a JSON file lies beside each engine, and a
wrong one is refused with a reason instead of TensorRT's error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from lreorg_fast.errors import BackendUnavailable, CheckpointError
from lreorg_fast.export.trt_options import BuildOptions, Profile
from lreorg_fast.files import atomic_file, parse_json
from lreorg_fast.weights.cache import sha256_of

SUFFIX = ".engine"
FORMAT, FORMAT_VERSION = "lreorg-engine", 1
_MOST_BYTES = 2**20  # of the JSON file


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What an engine is bound to.

    Attributes:
        name: such as "NVIDIA H200".
        capability: compute capability, such as "9.0".
        multiprocessors: GPUs of one name differ in them where a part is set aside (MIG).
    """

    name: str
    capability: str
    multiprocessors: int

    @classmethod
    def of(cls, device: torch.device) -> Gpu:
        found = torch.cuda.get_device_properties(device)
        return cls(found.name, f"{found.major}.{found.minor}", found.multi_processor_count)

    def __str__(self) -> str:
        return f"{self.name} ({self.capability}, {self.multiprocessors} multiprocessors)"


@dataclasses.dataclass(frozen=True)
class Identity:
    """Two engines of the same identity do the same, so one can stand for the other.

    Attributes:
        tensorrt: its full version.
        gpu: for which it was tuned.
        onnx: SHA-256 of the ONNX file.
        plugin: SHA-256 of the plugin library that it needs; None where it needs none.
        options: how it was built.
    """

    tensorrt: str
    gpu: Gpu
    onnx: str
    plugin: str | None
    options: BuildOptions

    @property
    def key(self) -> str:
        """A name for the cache, 64 hexadecimal digits."""
        content = json.dumps(dataclasses.asdict(self), sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()

    def check(self, path: Path, tensorrt: str, gpu: Gpu) -> None:
        """Refuse to load where it cannot run.

        Raises:
            BackendUnavailable: built for another GPU or by another version.
        """
        remedy = "build it here with lf.export.tensorrt or `lreorg export tensorrt`"
        if tensorrt != self.tensorrt:
            raise BackendUnavailable(
                f"engine '{path}' was built by TensorRT {self.tensorrt} and this is {tensorrt}; "
                f"{remedy}"
            )
        if gpu != self.gpu:
            raise BackendUnavailable(
                f"engine '{path}' was built for {self.gpu} and this is {gpu}; {remedy}"
            )


def sidecar(engine: Path) -> Path:
    """The JSON file beside an engine."""
    return engine.with_name(engine.name + ".json")


def write_engine(path: Path, plan: bytes, identity: Identity, overwrite: bool) -> None:
    """Write the engine, then what it is: an engine without a description is never half of two."""
    described = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "sha256": hashlib.sha256(plan).hexdigest(),
        "identity": dataclasses.asdict(identity),
    }
    with atomic_file(path, overwrite) as stream:
        stream.write(plan)
    with atomic_file(sidecar(path), overwrite=True) as stream:
        stream.write(json.dumps(described, indent=1).encode() + b"\n")


def read_identity(path: Path) -> Identity:
    """What the file beside an engine says; the engine must be the one that it describes.

    Raises:
        CheckpointError: a file is missing, damaged, or does not belong to the other.
    """
    beside = sidecar(path)
    remedy = "build the engine again"
    for file in (path, beside):
        if not file.is_file():
            raise CheckpointError(f"there is no file '{file}'; {remedy}")
    if beside.stat().st_size > _MOST_BYTES:
        raise CheckpointError(f"'{beside}' is too large to describe an engine; {remedy}")
    try:
        described = parse_json(beside.read_bytes())
        if (described["format"], described["version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError("it is of another kind or version")
        identity = _identity(described["identity"])
        expected = described["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{beside}' does not describe an engine ({error}); {remedy}"
        ) from None
    if sha256_of(path) != expected:
        raise CheckpointError(f"'{path}' is damaged or not the engine of '{beside}'; {remedy}")
    return identity


def _identity(fields: dict[str, Any]) -> Identity:
    options = dict(fields["options"])
    options["profiles"] = tuple(Profile(**profile) for profile in options["profiles"])
    return Identity(**{**fields, "gpu": Gpu(**fields["gpu"]), "options": BuildOptions(**options)})


class EngineCache:
    """A folder of engines by identity; None is no cache."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, identity: Identity) -> bytes | None:
        """The engine of this identity, if it is there and undamaged."""
        if self._folder is None:
            return None
        path = self._path(identity)
        try:
            if read_identity(path) != identity:
                return None
            return path.read_bytes()
        except (CheckpointError, OSError):
            return None  # it is built again, and then replaced

    def add(self, identity: Identity, plan: bytes) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_engine(self._path(identity), plan, identity, overwrite=True)

    def _path(self, identity: Identity) -> Path:
        assert self._folder is not None
        return self._folder / f"{identity.key}{SUFFIX}"
