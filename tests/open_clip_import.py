"""Import open_clip where torchvision's own library cannot be loaded.

The build of torch for CPUs has a fitting torchvision on PyTorch's own package index only. The one
from PyPI is linked against CUDA libraries: its operators are missing, and its import fails while
it describes them ("operator torchvision::nms does not exist"). open_clip needs torchvision's
transforms and none of its operators, so the tests declare the operators' names and import again.
Only tests do this; the package asks for a torchvision that fits.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

_MISSING = "operator torchvision::"
_declared: list[Any] = []  # the declarations live as long as this object


def _described_operators() -> list[str]:
    """Names of the operators that torchvision describes while it is imported."""
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("_meta_registrations.py").read_text()
    return sorted(set(re.findall(r'register_fake\("torchvision::(\w+)"\)', source)))


def import_open_clip() -> Any:
    """The module; skips the test where it is not installed at all."""
    import torch

    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        pytest.skip(f"open_clip is not installed: {error}")
    except RuntimeError as error:
        if _MISSING not in str(error) or _declared:
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _described_operators():
        library.define(f"{name}(Tensor x) -> Tensor")
    _declared.append(library)
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("torchvision", "open_clip")
    ]:
        del sys.modules[name]
    return importlib.import_module("open_clip")
