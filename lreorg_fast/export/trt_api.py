"""The ``tensorrt`` package, 10.9 to 11: what is needed of it, and what it says in our words.

One code for both release lines. Networks are strongly typed (10 needs the flag, 11 has nothing
else and ignores it), so precision comes from the ONNX file alone; nothing here asks for a layer's
or an engine's precision.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import torch

from lreorg_fast.errors import BackendUnavailable, MissingExtra
from lreorg_fast.log import logger

LEAST = (10, 9)

# By the names of TensorRT's severities: its information is detail to a user of this package.
_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.DEBUG,
}
# By the names of TensorRT's data types; no file of this package has others.
TORCH_TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
}


def tensorrt_package() -> Any:
    """The ``tensorrt`` package.

    Raises:
        MissingExtra: it is not installed, or cannot load its libraries.
        BackendUnavailable: it is older than 10.9.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise MissingExtra(
            f"TensorRT cannot be imported ({error}); install it with "
            "pip install 'lreorg_fast[tensorrt]'"
        ) from error
    if version_of(tensorrt) < LEAST:
        raise BackendUnavailable(
            f"TensorRT is {tensorrt.__version__}, but must be {LEAST[0]}.{LEAST[1]} or newer; "
            "update it with pip install -U 'lreorg_fast[tensorrt]'"
        )
    return tensorrt


def version_of(trt: Any) -> tuple[int, int]:
    """(major, minor)."""
    found = re.match(r"(\d+)\.(\d+)", trt.__version__)
    if found is None:
        raise BackendUnavailable(
            f"TensorRT's version is {trt.__version__!r}, which is none; install it again"
        )
    return int(found[1]), int(found[2])


class Messages:
    """What TensorRT says, into this package's log; the last errors are kept to explain a failure.

    Attributes:
        logger: for TensorRT, which must not outlive it.
    """

    def __init__(self, trt: Any) -> None:
        errors: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)  # pybind11 wants it called by name

            def log(self, severity: Any, message: str) -> None:
                level = _LEVELS.get(severity.name, logging.ERROR)
                logger.log(level, "TensorRT: %s", message)
                if level == logging.ERROR:
                    errors.append(message)

        self.logger = Logger()
        self._errors = errors

    def reason(self) -> str:
        """The last error in brackets, or nothing; each is told once."""
        said, self._errors[:] = self._errors[-1:], []
        return f" ({said[0].strip().rstrip('.')})" if said else ""


def gpu(device: torch.device | str | None) -> torch.device:
    """The CUDA device to build for or to run on, with its index.

    Raises:
        BackendUnavailable: there is none, or another kind was named.
    """
    chosen = torch.device("cuda" if device is None else device)
    if chosen.type != "cuda":
        raise BackendUnavailable(
            f"device is '{chosen}', but TensorRT runs on NVIDIA GPUs only; name 'cuda', or use "
            "runtime 'onnx' on this machine"
        )
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "TensorRT needs an NVIDIA GPU, and PyTorch finds none; run this on the machine with "
            "the GPU that shall run the engine (`lreorg doctor` says what is there)"
        )
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if chosen.index is None else chosen.index
    if index >= count:
        raise BackendUnavailable(
            f"device is '{chosen}', but this machine has cuda:0 to cuda:{count - 1}; name one of "
            "them"
        )
    return torch.device("cuda", index)


def made(what: str, make: Any, messages: Messages) -> Any:
    """The object of TensorRT that ``make()`` gives.

    Raises:
        BackendUnavailable: it gives none: pybind11 raises TypeError, or the result is None.
    """
    try:
        result = make()
    except TypeError as error:
        raise BackendUnavailable(
            f"TensorRT cannot make {what}{messages.reason() or f' ({error})'}; check the driver "
            "with `nvidia-smi`"
        ) from error
    if result is None:
        raise BackendUnavailable(
            f"TensorRT cannot make {what}{messages.reason()}; the messages before this one say why"
        )
    return result


def io_tensors(trt: Any, engine: Any) -> Iterator[tuple[str, bool, torch.dtype]]:
    """Name, whether it is an input, and type of an engine's tensors, in its order.

    Raises:
        BackendUnavailable: a tensor has a type that PyTorch or this package does not have.
    """
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name).name
        if kind not in TORCH_TYPES:
            raise BackendUnavailable(
                f"tensor '{name}' of the engine has type {kind}; allowed are "
                f"{', '.join(TORCH_TYPES)}: export the network again"
            )
        yield name, engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT, TORCH_TYPES[kind]


def parser_errors(parser: Any) -> str:
    """What an ONNX parser found, in one line."""
    found = [parser.get_error(i) for i in range(parser.num_errors)]
    return "; ".join(" ".join(str(error.desc()).split()) for error in found)
