"""The pipeline for other runtimes: ``onnx`` and ``tensorrt`` write it; ``runtime`` and
``TensorRTEngine`` run it.

The names load on first use (PEP 562), and the packages that they need inside of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_ATTRIBUTES = {
    "onnx": "onnx_files",
    "tensorrt": "trt",
    "refit": "trt",
    "TensorRTEngine": "trt_runtime",
}

if TYPE_CHECKING:
    from lreorg_fast.export.onnx_files import onnx as onnx
    from lreorg_fast.export.trt import refit as refit
    from lreorg_fast.export.trt import tensorrt as tensorrt
    from lreorg_fast.export.trt_runtime import TensorRTEngine as TensorRTEngine

__all__ = sorted(_ATTRIBUTES)


def __getattr__(name: str) -> Any:
    if name not in _ATTRIBUTES:
        raise AttributeError(f"module 'lreorg_fast.export' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lreorg_fast.export.{_ATTRIBUTES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_ATTRIBUTES)
