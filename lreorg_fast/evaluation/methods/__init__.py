"""The methods that are compared: those made here, on one protocol with folders of others'."""

from __future__ import annotations

from lreorg_fast.evaluation.methods.keeping import keep_outputs, write_outputs
from lreorg_fast.evaluation.methods.registry import (
    METHODS,
    NOT_RECOVERED,
    PAPER_RULE,
    MethodInfo,
    method_info,
)
from lreorg_fast.evaluation.methods.running import Method, make_method

__all__ = [
    "METHODS",
    "NOT_RECOVERED",
    "PAPER_RULE",
    "Method",
    "MethodInfo",
    "keep_outputs",
    "make_method",
    "method_info",
    "write_outputs",
]
