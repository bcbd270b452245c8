"""The generator and the encoder made ready for inference, and in which precision.

Both on a CPU; the generator also on a CUDA device, by Triton. Training and everything that needs a
gradient keeps the plain modules.
"""

from __future__ import annotations

from importlib.util import find_spec
from logging import INFO
from typing import Literal, get_args

import torch
from torch import nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.log import once
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.e4e import E4EEncoder
from lreorg_fast.models.prepared_backbone import PreparedBackbone
from lreorg_fast.models.prepared_encoder import PreparedEncoder
from lreorg_fast.models.prepared_generator import PreparedGenerator, Steps
from lreorg_fast.models.prepared_generator_cpu import CpuSteps
from lreorg_fast.models.stylegan2 import StyleGAN2Generator

Precision = Literal["auto", "float32", "bfloat16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Of CUDA devices; older ones do not multiply bfloat16.
_LEAST_CAPABILITY = (8, 0)


def network_dtype(precision: str, device: torch.device | str = "cpu") -> torch.dtype:
    """The type of maps and weights that ``precision`` means here; sums are float32 with each.

    On a CUDA device this is the generator's; the encoder runs there as the plain module.

    Args:
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 on a CPU that multiplies it
            (AVX512-BF16, AMX-BF16) and on a CUDA device for which the generator can be prepared,
            else float32.

    Raises:
        ConfigError: for another name, and for bfloat16 where it cannot be, with the reason.
    """
    device = torch.device(device)
    if precision == "auto":
        chosen = "bfloat16" if _prefers_bfloat16(device) else "float32"
        runs = "the networks run" if device.type == "cpu" else f"on {device} the generator runs"
        key = f"precision {device.type} {chosen}"
        once(key, f"{runs} in {chosen} (precision='auto')", INFO)
        return _DTYPES[chosen]
    if precision not in _DTYPES:
        raise ConfigError(
            f"precision is {precision!r}, but must be one of {', '.join(get_args(Precision))}"
        )
    reason = unprepared_reason(device)
    if precision == "bfloat16" and reason is not None:
        raise ConfigError(
            f"precision is 'bfloat16' on {device}, but {reason}; use 'auto' or 'float32'"
        )
    return _DTYPES[precision]


def unprepared_reason(device: torch.device | str) -> str | None:
    """Why a generator cannot be prepared on ``device``; None where it can."""
    device = torch.device(device)
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return "generators are prepared for 'cpu' and 'cuda' only"
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if find_spec("triton") is None:
        return "triton is not installed (pip install triton)"
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        found, needed = (".".join(map(str, pair)) for pair in (capability, _LEAST_CAPABILITY))
        return f"its compute capability is {found} and bfloat16 needs {needed}"
    return None


def prepare_generator(
    generator: StyleGAN2Generator, dtype: torch.dtype = torch.float32
) -> PreparedGenerator:
    """Lay out a loaded generator's weights for inference; later changes of it are not seen.

    Args:
        generator: on the CPU or on one CUDA device, where the prepared one will run.
        dtype: of maps and weights, float32 or bfloat16; pictures are summed in float32.

    Raises:
        ConfigError: another dtype, or a device for which :func:`unprepared_reason` gives one.
    """
    device = _checked_device(generator, dtype)
    reason = unprepared_reason(device)
    if reason is not None:
        raise ConfigError(
            f"the generator on {device} cannot be prepared: {reason}; call .cpu() first, or use "
            "it as it is"
        )
    return PreparedGenerator(generator, dtype, _steps(device))


def inference_generator(
    generator: StyleGAN2Generator, dtype: torch.dtype
) -> PreparedGenerator | StyleGAN2Generator:
    """:func:`prepare_generator` where that is possible, else the generator itself, logged once.

    Args:
        dtype: as :func:`network_dtype` chose it for the generator's device.
    """
    device = generator.latent_avg.device
    reason = unprepared_reason(device)
    if reason is None:
        return prepare_generator(generator, dtype)
    once(f"plain generator {reason}", f"the generator on {device} runs unprepared: {reason}")
    return generator


def prepare_encoder(encoder: E4EEncoder, dtype: torch.dtype = torch.float32) -> PreparedEncoder:
    """As :func:`prepare_generator`, of an encoder on the CPU; BatchNorm is folded in.

    Raises:
        ConfigError: another dtype or device.
    """
    device = _checked_device(encoder, dtype)
    if device.type != "cpu":
        raise ConfigError(
            f"the encoder is on {device}, but can be prepared on the CPU only; call .cpu() first"
        )
    return PreparedEncoder(encoder, dtype)


def inference_backbone(network: nn.Module) -> PreparedBackbone | nn.Module:
    """A recognizer or classifier laid out for inference on a CPU; others as they are.

    Prepared are frozen networks of the class :class:`FaceBackbone`: the demo's and IR-SE50. Those
    of insightface and AdaFace place BatchNorm differently and run as plain modules.
    """
    if type(network) is FaceBackbone and next(network.parameters()).device.type == "cpu":
        return PreparedBackbone(network)
    return network


def _prefers_bfloat16(device: torch.device) -> bool:
    from lreorg_fast import _native

    if device.type == "cpu":
        return _native.multiplies_bfloat16()
    return unprepared_reason(device) is None


def _steps(device: torch.device) -> Steps:
    if device.type == "cpu":
        return CpuSteps()
    from lreorg_fast.models.prepared_generator_gpu import GpuSteps

    return GpuSteps()


def _checked_device(module: nn.Module, dtype: torch.dtype) -> torch.device:
    if dtype not in _DTYPES.values():
        raise ConfigError(f"dtype is {dtype}, but a prepared network is float32 or bfloat16")
    devices: set[torch.device] = {tensor.device for tensor in module.state_dict().values()}
    if len(devices) != 1:
        raise ConfigError(
            f"the network is on {', '.join(sorted(map(str, devices)))}, but must be on one device"
        )
    return devices.pop()
