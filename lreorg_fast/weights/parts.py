"""From a bundle's part to a network that runs: architectures by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import BundleError, LReorgError
from lreorg_fast.models.adaface import AdaFaceConfig, AdaFaceNet
from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.iresnet import IResNet, IResNetConfig
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.models.window import WindowBackbone, WindowConfig
from lreorg_fast.weights.bundle import Bundle
from lreorg_fast.weights.tensors import load_into

LATENT_AVERAGE = "latent_avg"


@dataclass(frozen=True)
class Architecture:
    """A class of networks, and how its config is read from JSON data."""

    network: type[nn.Module]
    read_config: Callable[[Mapping[str, Any]], Any]

    def __call__(self, config: Mapping[str, Any]) -> nn.Module:
        """The network of this config, with random weights.

        Raises:
            TypeError, ConfigError: the config has unknown fields or impossible values.
        """
        return self.network(self.read_config(config))


ARCHITECTURES: Mapping[str, Architecture] = {
    "stylegan2": Architecture(StyleGAN2Generator, lambda c: StyleGAN2Config(**c)),
    "e4e": Architecture(E4EEncoder, lambda c: E4EConfig(**c)),
    "face-backbone": Architecture(FaceBackbone, lambda c: BackboneConfig(**c)),
    "window-backbone": Architecture(WindowBackbone, WindowConfig.from_dict),
    "iresnet": Architecture(IResNet, lambda c: IResNetConfig(**c)),
    "adaface": Architecture(AdaFaceNet, lambda c: AdaFaceConfig(**c)),
    "cdfnet": Architecture(CDFNet, CDFNetConfig.from_dict),
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
