"""The plugin library ``lreorg_tensorrt_MAJOR`` (csrc/tensorrt): whether to use it; loading it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

from lreorg_fast.errors import BackendUnavailable, CheckpointError, ConfigError
from lreorg_fast.export.trt_api import version_of
from lreorg_fast.log import once

# Path of the library, before the one beside this package.
VARIABLE = "LREORG_TENSORRT_PLUGIN"
NAME, VERSION, NAMESPACE = "LreorgReorganize", "1", "lreorg"
PLUGINS = ("auto", "always", "never")

_PACKAGE = Path(__file__).resolve().parents[1]


def library_path(trt: Any) -> Path:
    """Where the library should be: as :data:`VARIABLE` says, or beside this package."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    return _PACKAGE / f"liblreorg_tensorrt_{version_of(trt)[0]}.so"


def has_node(onnx: Path) -> bool:
    """Whether an ONNX file has the node that the plugin runs: its name is in the file as it is.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with (
            open(onnx, "rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(NAME.encode()) >= 0
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise CheckpointError(f"cannot read '{onnx}' ({error}); name an ONNX file") from error


def choose(trt: Any, choice: str, onnx: Path) -> Path | None:
    """The library to use for a file, or None.

    Args:
        choice: "always", "never", or "auto": where there is a library. Without one the function
            that the file carries beside the node runs instead, which is logged once.

    Raises:
        ConfigError: the choice is "always" and the file has no such node.
        BackendUnavailable: the choice is "always" and there is no library.
    """
    if choice == "never":
        return None
    if not has_node(onnx):
        if choice == "always":
            raise ConfigError(
                f"plugin is 'always', but '{onnx}' has no {NAME} node; export it with "
                "form='plugin', or leave plugin out"
            )
        return None
    library = library_path(trt)
    if library.is_file():
        return library
    reason = (
        f"there is no plugin library '{library}'; build the package with LREORG_TENSORRT_INCLUDE "
        f"set (docs/tensorrt.md), or name the library in {VARIABLE}"
    )
    if choice == "always":
        raise BackendUnavailable(f"plugin is 'always', but {reason}")
    once("tensorrt-plugin", f"the reorganization runs as ordinary operators: {reason}")
    return None


def load(library: Path, registry: Any) -> None:
    """Register a library's plugin with the registry of a builder or a runtime.

    Raises:
        BackendUnavailable: TensorRT does not take it.
    """
    refused = BackendUnavailable(
        f"TensorRT cannot load the plugin library '{library}'; it must be built for this "
        "TensorRT's release line, see docs/tensorrt.md"
    )
    try:
        handle = registry.load_library(str(library.resolve()))
    except (RuntimeError, TypeError, ValueError) as error:
        raise refused from error
    if handle is None or registry.get_creator(NAME, VERSION, NAMESPACE) is None:
        raise refused
