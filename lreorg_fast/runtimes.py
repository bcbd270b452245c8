"""What runs the networks of a pipeline: PyTorch with this package's kernels, or onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet, Engine
from lreorg_fast.cdfnet import compile as compile_engine
from lreorg_fast.errors import ConfigError
from lreorg_fast.models import E4EEncoder, StyleGAN2Generator
from lreorg_fast.models.inference import inference_generator, network_dtype, prepare_encoder
from lreorg_fast.weights.bundle import Bundle
from lreorg_fast.weights.parts import load_part


@dataclass(frozen=True)
class Request:
    """What the networks are made from; :meth:`lreorg_fast.Anonymizer.load` describes the fields.

    ``features`` are those of the keywords, on the device.
    """

    bundle: Bundle
    features: Mapping[str, Tensor]
    device: torch.device
    backend: str
    dtype: str
    precision: str


@dataclass(frozen=True)
class Running:
    """Encoder (pictures to latents), generator (``.synthesis``), engine.

    ``precision`` is that of the generator, on a CPU of the encoder too.
    """

    encoder: Any
    generator: Any
    engine: Engine
    precision: str


def _torch(request: Request) -> Running:
    def part(role: str) -> torch.nn.Module:
        return load_part(request.bundle, role).to(request.device)

    dtype = network_dtype(request.precision, request.device)
    generator = inference_generator(cast(StyleGAN2Generator, part("generator")), dtype)
    encoder: Any = part("encoder")
    if request.device.type == "cpu":
        encoder = prepare_encoder(cast(E4EEncoder, encoder), dtype)
    net = cast(CDFNet, part("cdfnet"))
    engine = compile_engine(net, request.features, backend=request.backend, dtype=request.dtype)
    return Running(encoder, generator, engine, str(dtype).removeprefix("torch."))


def _onnx(request: Request) -> Running:
    from lreorg_fast.export.onnx_stages import Networks
    from lreorg_fast.export.runtime import OnnxEncoder, OnnxGenerator, onnx_dtype, onnx_engine

    if request.device.type != "cpu":
        raise ConfigError(
            f"device is '{request.device}', but runtime 'onnx' runs on the CPU; leave device out, "
            "or use runtime 'torch'"
        )
    if request.backend != "auto":
        raise ConfigError(
            f"backend {request.backend!r} has no effect with runtime 'onnx'; leave it out, or use "
            "runtime 'torch'"
        )
    precision = onnx_dtype(request.precision)
    networks = Networks(request.bundle)
    return Running(
        OnnxEncoder(networks, precision),
        OnnxGenerator(networks, precision),
        onnx_engine(networks, request.features, request.dtype),
        precision,
    )


RUNTIMES: Mapping[str, Callable[[Request], Running]] = {"torch": _torch, "onnx": _onnx}


def start(runtime: str, request: Request) -> Running:
    """The networks of a bundle, ready to run.

    Raises:
        ConfigError: an unknown runtime, or what it does not offer.
        BackendUnavailable, BundleError, MissingExtra: it cannot be had here.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime is {runtime!r}, but must be one of {', '.join(RUNTIMES)}")
    return RUNTIMES[runtime](request)
