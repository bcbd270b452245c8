"""The Triton kernels imported anew, for the interpreter or for the compiler."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

PACKAGE = "lreorg_fast.kernels.triton"


@contextlib.contextmanager
def imported_anew(interpret: bool) -> Iterator[Any]:
    """``launch`` as it is where TRITON_INTERPRET is "1", or "0"; Triton asks when it decorates."""
    pytest.importorskip("triton", reason="triton is not installed: pip install triton")
    before = _removed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1" if interpret else "0")
        yield importlib.import_module(f"{PACKAGE}.launch")
    _removed()
    sys.modules.update(before)


def _removed() -> dict[str, Any]:
    names = [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}
