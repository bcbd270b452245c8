"""Faults for the pipeline: each breaks one thing on the way of a face, for every face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lreorg_fast as lf
from lreorg_fast.privacy import Ledger

Fault = Callable[[lf.Anonymizer, pytest.MonkeyPatch], None]


def raising(error: Exception | type[Exception]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def not_a_number(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a, **k: function(*a, **k) * float("nan")


def _at(way: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Fault:
    """A fault at an attribute of the anonymizer, as ``engine.reorganize``."""

    def fault(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
        owner: Any = anonymizer
        *path, name = way.split(".")
        for step in path:
            owner = getattr(owner, step)
        monkeypatch.setattr(owner, name, change(getattr(owner, name)))

    return fault


def _poor(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymizer, "ledger", Ledger(budget=0.5))


def _no_entropy(_: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbelow", raising(OSError("no entropy")))


FAULTS: dict[str, Fault] = {
    "encoder: out of memory": _at("encoder.forward", lambda _: raising(MemoryError())),
    "encoder: NaN": _at("encoder.forward", not_a_number),
    "disentangling: error": _at("engine.disentangle", lambda _: raising(RuntimeError("x"))),
    "reorganization: time-out": _at("engine.reorganize", lambda _: raising(TimeoutError())),
    "reorganization: NaN": _at("engine.reorganize", not_a_number),
    "generator: error": _at("generator.synthesis", lambda _: raising(RuntimeError("CUDA error"))),
    "generator: NaN": _at("generator.synthesis", not_a_number),
    "recognizer: error": _at("verification.recognizer.forward", lambda _: raising(ValueError("x"))),
    "recognizer: NaN": _at("verification.recognizer.forward", not_a_number),
    "detector: error": _at(
        "verification.evidence.detector.forward", lambda _: raising(KeyError("gone"))
    ),
    "detector: NaN": _at("verification.evidence.detector.forward", not_a_number),
    "ledger: refuses": _poor,
    "random generator: fails": _no_entropy,
}
