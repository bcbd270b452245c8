"""Network architectures only: no file reading, no training, no privacy logic."""

from __future__ import annotations

from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator

__all__ = [
    "BackboneConfig",
    "E4EConfig",
    "E4EEncoder",
    "FaceBackbone",
    "StyleGAN2Config",
    "StyleGAN2Generator",
]
