"""Weights in and out: published files read without trust, the registry, and the bundle format.

Every name is loaded on first use (PEP 562), so that the registry can be listed without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lreorg_fast.weights.bundle import Bundle as Bundle
    from lreorg_fast.weights.bundle import open_bundle as open_bundle
    from lreorg_fast.weights.bundle import write_bundle as write_bundle
    from lreorg_fast.weights.cache import cached as cached
    from lreorg_fast.weights.cdfnet import load_cdfnet as load_cdfnet
    from lreorg_fast.weights.clip import Clip as Clip
    from lreorg_fast.weights.clip import load_clip as load_clip
    from lreorg_fast.weights.encoders import load_encoder as load_encoder
    from lreorg_fast.weights.fetching import add as add
    from lreorg_fast.weights.fetching import fetch as fetch
    from lreorg_fast.weights.generators import load_generator as load_generator
    from lreorg_fast.weights.identity import load_identity as load_identity
    from lreorg_fast.weights.inception import load_inception as load_inception
    from lreorg_fast.weights.manifest import BundleFile as BundleFile
    from lreorg_fast.weights.manifest import BundleManifest as BundleManifest
    from lreorg_fast.weights.manifest import Domain as Domain
    from lreorg_fast.weights.manifest import Part as Part
    from lreorg_fast.weights.tensors import load_into as load_into
    from lreorg_fast.weights.tensors import read_tensors as read_tensors
    from lreorg_fast.weights.tensors import write_tensors as write_tensors
    from lreorg_fast.weights.vgg_face import load_vgg_face as load_vgg_face

_MODULES = {
    "bundle": ("Bundle", "open_bundle", "write_bundle"),
    "cache": ("cached",),
    "cdfnet": ("load_cdfnet",),
    "clip": ("Clip", "load_clip"),
    "encoders": ("load_encoder",),
    "fetching": ("add", "fetch"),
    "generators": ("load_generator",),
    "identity": ("load_identity",),
    "inception": ("load_inception",),
    "manifest": ("BundleFile", "BundleManifest", "Domain", "Part"),
    "tensors": ("load_into", "read_tensors", "write_tensors"),
    "vgg_face": ("load_vgg_face",),
}
_ATTRIBUTES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_ATTRIBUTES)


def __getattr__(name: str) -> Any:
    if name not in _ATTRIBUTES:
        raise AttributeError(f"module 'lreorg_fast.weights' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lreorg_fast.weights.{_ATTRIBUTES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
