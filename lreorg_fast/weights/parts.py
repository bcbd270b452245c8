"""From a bundle's part to a network that runs: architectures by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import BundleError, LReorgError
from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.weights.bundle import Bundle
from lreorg_fast.weights.tensors import load_into

LATENT_AVERAGE = "latent_avg"

ARCHITECTURES: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "stylegan2": lambda config: StyleGAN2Generator(StyleGAN2Config(**config)),
    "e4e": lambda config: E4EEncoder(E4EConfig(**config)),
    "face-backbone": lambda config: FaceBackbone(BackboneConfig(**config)),
    "cdfnet": lambda config: CDFNet(CDFNetConfig.from_dict(config)),
}


def load_part(bundle: Bundle, role: str) -> nn.Module:
    """The network of a bundle's part, float32 on the CPU, frozen, in evaluation mode.

    ``latent_avg`` lies beside the state dict, as in the public files; it is broadcast into the
    network's buffer of that name.

    Raises:
        BundleError: no such part, an unknown architecture, or weights that do not fit it.
    """
    part = bundle.part(role)
    if part.architecture not in ARCHITECTURES:
        raise BundleError(
            f"part '{role}' has architecture '{part.architecture}', but this version builds "
            f"{', '.join(ARCHITECTURES)}; update lreorg_fast"
        )
    try:
        module = ARCHITECTURES[part.architecture](part.config)
    except (TypeError, LReorgError) as error:
        raise BundleError(f"the config of part '{role}' does not fit: {error}") from error
    tensors = bundle.tensors(role)
    average = tensors.pop(LATENT_AVERAGE, None)
    try:
        load_into(module, tensors, bundle.root / part.file)
    except LReorgError as error:
        raise BundleError(str(error)) from error
    if average is not None:
        _set_average(module, average, role)
    return module.requires_grad_(False).eval()


def _set_average(module: nn.Module, average: torch.Tensor, role: str) -> None:
    buffer = getattr(module, LATENT_AVERAGE, None)
    fits = isinstance(buffer, torch.Tensor) and average.shape == buffer.shape[-average.dim() :]
    if not fits or not torch.isfinite(average).all():
        raise BundleError(f"part '{role}' has a latent_avg that does not fit; rebuild the bundle")
    assert isinstance(buffer, torch.Tensor)
    buffer.copy_(average.expand_as(buffer))
