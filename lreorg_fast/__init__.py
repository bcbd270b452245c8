"""lreorg_fast: faces anonymized by reorganizing a StyleGAN latent with an invertible network.

``import lreorg_fast as lf`` is cheap: every name below is loaded on first use (PEP 562), so a
script that only needs the privacy mechanisms never pays for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ATTRIBUTES = {
    "CDFNetConfig": "lreorg_fast.cdfnet",
    "CDFNet": "lreorg_fast.cdfnet",
    "compile": "lreorg_fast.cdfnet",
    "available_backends": "lreorg_fast.cdfnet",
    "plan": "lreorg_fast.cdfnet",
    "Anonymizer": "lreorg_fast.pipeline",
    "SceneAnonymizer": "lreorg_fast.scene",
    "SceneSettings": "lreorg_fast.scene",
    "load_detector": "lreorg_fast.faces",
    "KEYWORDS": "lreorg_fast.keywords",
}
_SUBMODULES = (
    "audit",
    "avatars",
    "cdfnet",
    "errors",
    "evaluation",
    "export",
    "faces",
    "keywords",
    "live",
    "media",
    "models",
    "pipeline",
    "privacy",
    "scene",
    "training",
    "video",
    "weights",
)

if TYPE_CHECKING:
    from lreorg_fast.cdfnet import CDFNet as CDFNet
    from lreorg_fast.cdfnet import CDFNetConfig as CDFNetConfig
    from lreorg_fast.cdfnet import available_backends as available_backends
    from lreorg_fast.cdfnet import compile as compile
    from lreorg_fast.cdfnet import plan as plan
    from lreorg_fast.faces import load_detector as load_detector
    from lreorg_fast.keywords import KEYWORDS as KEYWORDS
    from lreorg_fast.pipeline import Anonymizer as Anonymizer
    from lreorg_fast.scene import SceneAnonymizer as SceneAnonymizer
    from lreorg_fast.scene import SceneSettings as SceneSettings

__all__ = ["__version__", *sorted(_ATTRIBUTES), *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _ATTRIBUTES:
        value = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f"lreorg_fast.{name}")
    raise AttributeError(f"module 'lreorg_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
