"""The invertible network that splits a latent into a key feature and a residual, and its engine.

The names below load on first use (PEP 562): :class:`CDFNetConfig` and :func:`plan` need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_ATTRIBUTES = {
    "CDFNet": "reference",
    "CDFNetConfig": "config",
    "Engine": "engine",
    "Plan": "schedule",
    "available_backends": "engine",
    "compile": "engine",
    "plan": "schedule",
}

if TYPE_CHECKING:
    from lreorg_fast.cdfnet.config import CDFNetConfig as CDFNetConfig
    from lreorg_fast.cdfnet.engine import Engine as Engine
    from lreorg_fast.cdfnet.engine import available_backends as available_backends
    from lreorg_fast.cdfnet.engine import compile as compile
    from lreorg_fast.cdfnet.reference import CDFNet as CDFNet
    from lreorg_fast.cdfnet.schedule import Plan as Plan
    from lreorg_fast.cdfnet.schedule import plan as plan

__all__ = sorted(_ATTRIBUTES)


def __getattr__(name: str) -> Any:
    if name not in _ATTRIBUTES:
        raise AttributeError(f"module 'lreorg_fast.cdfnet' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lreorg_fast.cdfnet.{_ATTRIBUTES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_ATTRIBUTES)
