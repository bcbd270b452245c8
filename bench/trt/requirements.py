"""Stage ``tensorrt``: whether TensorRT is here, what it is, and which peers can run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.gpu.build import TENSORRT_VARIABLE
from bench.gpu.channel import Channel, Context, Unavailable

# Where NVIDIA's packages and containers put the headers.
_PLACES = ("/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/include")
CUDA_PROVIDER = "CUDAExecutionProvider"


def describe(context: Context, channel: Channel) -> None:
    """Keep versions and what is missing for the plugin.

    Raises:
        Unavailable: there is no TensorRT, or one before 10.9.
    """
    from lreorg_fast.errors import LReorgError
    from lreorg_fast.export.trt_api import tensorrt_package

    try:
        trt = tensorrt_package()
    except LReorgError as error:
        raise Unavailable(f"TensorRT cannot be checked: {error}.") from None
    channel.keep("version", value=trt.__version__)
    channel.keep("plugin", value=headers_note())
    channel.keep("onnxruntime", value=onnxruntime_facts())


def headers_note() -> str:
    """Where the headers come from that the build stage uses, or how to name them."""
    given = os.environ.get(TENSORRT_VARIABLE)
    if given:
        return f"built from {given}"
    found = [place for place in _PLACES if (Path(place) / "NvInferRuntime.h").is_file()]
    hint = found[0] if found else "the folder of NvInferRuntime.h"
    return f"not built: set {TENSORRT_VARIABLE} to {hint}"


def onnxruntime_facts() -> dict[str, Any]:
    try:
        import onnxruntime
    except ImportError as error:
        return {"missing": str(error)}
    return {
        "version": onnxruntime.__version__,
        "cuda": CUDA_PROVIDER in onnxruntime.get_available_providers(),
    }
