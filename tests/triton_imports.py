"""The Triton kernels imported anew, for the interpreter or for the compiler."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

PARENT = "lreorg_fast.kernels"
PACKAGE = f"{PARENT}.triton"


@contextlib.contextmanager
def imported_anew(interpret: bool) -> Iterator[Any]:
    """``launch`` as it is where TRITON_INTERPRET is "1", or "0"; Triton asks when it decorates."""
    pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    before = _removed()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1" if interpret else "0")
            yield importlib.import_module(f"{PACKAGE}.launch")
    finally:
        _removed()
        sys.modules.update(before)
        if PACKAGE in before:
            vars(importlib.import_module(PARENT))["triton"] = before[PACKAGE]


def _removed() -> dict[str, Any]:
    # An import leaves the module in its package too, where "from package import module" looks.
    vars(importlib.import_module(PARENT)).pop("triton", None)
    names = [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}
