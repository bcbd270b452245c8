"""The generator and the encoder made ready for inference on a CPU, and in which precision.

Training and everything that needs a gradient keeps the plain modules.
"""

from __future__ import annotations

from logging import INFO
from typing import Literal, get_args

import torch
from torch import nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.log import once
from lreorg_fast.models.e4e import E4EEncoder
from lreorg_fast.models.prepared_encoder import PreparedEncoder
from lreorg_fast.models.prepared_generator import PreparedGenerator
from lreorg_fast.models.stylegan2 import StyleGAN2Generator

Precision = Literal["auto", "float32", "bfloat16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def network_dtype(precision: str, device: torch.device | str = "cpu") -> torch.dtype:
    """The type of maps and weights that ``precision`` means here; sums are float32 with each.

    Args:
        precision: ``float32``, ``bfloat16`` (CPU only), or ``auto``: bfloat16 on a CPU that
            multiplies it (AVX512-BF16, AMX-BF16), else float32.

    Raises:
        ConfigError: for another name, and for bfloat16 off the CPU.
    """
    on_cpu = torch.device(device).type == "cpu"
    if precision == "auto":
        from lreorg_fast import _native

        chosen = "bfloat16" if on_cpu and _native.multiplies_bfloat16() else "float32"
        once(f"precision {chosen}", f"the networks run in {chosen} (precision='auto')", INFO)
        return _DTYPES[chosen]
    if precision not in _DTYPES:
        raise ConfigError(
            f"precision is {precision!r}, but must be one of {', '.join(get_args(Precision))}"
        )
    if precision == "bfloat16" and not on_cpu:
        raise ConfigError(
            f"precision is 'bfloat16' on {device}, but it is implemented for 'cpu' only; use "
            "'auto' or 'float32'"
        )
    return _DTYPES[precision]


def prepare_generator(
    generator: StyleGAN2Generator, dtype: torch.dtype = torch.float32
) -> PreparedGenerator:
    """Lay out a loaded generator's weights for inference; later changes of it are not seen.

    Args:
        generator: on the CPU.
        dtype: of maps and weights, float32 or bfloat16; pictures are summed in float32.

    Raises:
        ConfigError: another dtype or device.
    """
    _check(generator, dtype)
    return PreparedGenerator(generator, dtype)


def prepare_encoder(encoder: E4EEncoder, dtype: torch.dtype = torch.float32) -> PreparedEncoder:
    """As :func:`prepare_generator`, of an encoder; BatchNorm's running statistics are folded in."""
    _check(encoder, dtype)
    return PreparedEncoder(encoder, dtype)


def _check(module: nn.Module, dtype: torch.dtype) -> None:
    if dtype not in _DTYPES.values():
        raise ConfigError(f"dtype is {dtype}, but a prepared network is float32 or bfloat16")
    devices = {tensor.device.type for tensor in module.state_dict().values()}
    if devices != {"cpu"}:
        raise ConfigError(
            f"the network is on {', '.join(sorted(devices))}, but can be prepared on the CPU only; "
            "call .cpu() first"
        )
