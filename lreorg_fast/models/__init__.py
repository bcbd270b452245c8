"""Network architectures only: no file reading, no training, no privacy logic."""

from __future__ import annotations

from lreorg_fast.models.adaface import AdaFaceConfig, AdaFaceNet
from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.identity_view import arcface_view
from lreorg_fast.models.inception import FidInception
from lreorg_fast.models.iresnet import IResNet, IResNetConfig
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.models.window import WindowBackbone, WindowConfig

__all__ = [
    "AdaFaceConfig",
    "AdaFaceNet",
    "BackboneConfig",
    "E4EConfig",
    "E4EEncoder",
    "FaceBackbone",
    "FidInception",
    "IResNet",
    "IResNetConfig",
    "StyleGAN2Config",
    "StyleGAN2Generator",
    "WindowBackbone",
    "WindowConfig",
    "arcface_view",
]
