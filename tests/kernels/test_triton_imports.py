"""What the tests of the Triton kernels leave behind for those after them: nothing."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import pytest
from triton_imports import PACKAGE, PARENT, imported_anew

import lreorg_fast as lf


def seen() -> tuple[Any, ...]:
    """What other tests can see of the kernels."""
    modules = {name: module for name, module in sys.modules.items() if name.startswith(PACKAGE)}
    attribute = vars(importlib.import_module(PARENT)).get("triton")
    return os.environ.get("TRITON_INTERPRET"), modules, attribute, lf.available_backends()


@pytest.mark.parametrize("interpret", [False, True])
def test_nothing_stays(interpret: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    lf.available_backends()  # imports the package
    before = seen()
    with imported_anew(interpret) as launch:
        assert launch.INTERPRETED is interpret
        importlib.import_module(f"{PACKAGE}.generator")
        assert seen() != before
    assert seen() == before


def test_nothing_stays_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    lf.available_backends()
    before = seen()
    with pytest.raises(RuntimeError, match="in a test"), imported_anew(interpret=True):
        raise RuntimeError("in a test")
    assert seen() == before


def test_what_was_never_imported_stays_so() -> None:
    with imported_anew(interpret=False):  # puts back what is there now, after the test
        for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
            del sys.modules[name]
        del vars(importlib.import_module(PARENT))["triton"]
        with imported_anew(interpret=True):
            pass
        assert not [name for name in sys.modules if name.startswith(PACKAGE)]
        assert "triton" not in vars(importlib.import_module(PARENT))
