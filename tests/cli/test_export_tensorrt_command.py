"""`lreorg export tensorrt`: options arrive, and errors are sentences with an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from lreorg_fast.export import trt
from lreorg_fast.weights.bundle import Bundle

Run = Callable[..., Result]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path, dict[str, Any]]]:
    """What the command asks for, without building it."""
    calls: list[tuple[Any, Path, dict[str, Any]]] = []

    def build(source: Any, path: Path, **settings: Any) -> SimpleNamespace:
        calls.append((source, path, settings))
        return SimpleNamespace(path=path, cached=True, identity=SimpleNamespace(key="k"))

    monkeypatch.setattr(trt, "tensorrt", build)
    return calls


def test_nothing_is_asked_for_that_was_not_given(
    run: Run, asked: list[tuple[Any, Path, dict[str, Any]]]
) -> None:
    result = run("export", "tensorrt", "a.onnx", "-o", "a.engine")
    assert (result.exit_code, result.stdout) == (0, "a.engine (from the cache)\n"), result.stderr
    assert asked == [("a.onnx", Path("a.engine"), {"cache": True, "overwrite": False})]


def test_options_arrive(
    run: Run, bundle: Path, asked: list[tuple[Any, Path, dict[str, Any]]]
) -> None:
    options = (
        *("--profile", "1,2,8", "--profile", "16", "--plugin", "never", "--refit"),
        *("--workspace", "1073741824", "--optimization-level", "5", "--timing-cache", "t"),
        *("--no-cache", "--device", "cuda:1", "--stage", "cdfnet", "--dtype", "float16"),
        *("--hide", "identity", "--keep", "none", "--force", "--json"),
    )
    result = run("export", "tensorrt", bundle, "-o", "a.engine", *options)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"path": "a.engine", "cached": True, "key": "k"}
    ((source, _, settings),) = asked
    assert isinstance(source, Bundle)
    assert settings == {
        "profiles": [(1, 2, 8), (16, 16, 16)],
        "plugin": "never",
        "refit": True,
        "workspace": 2**30,
        "optimization_level": 5,
        "timing_cache": Path("t"),
        "cache": False,
        "device": "cuda:1",
        "stage": "cdfnet",
        "dtype": "float16",
        "hide": ("identity",),
        "keep": (),
        "overwrite": True,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--profile", "1,2"), "neither LEAST,BEST,MOST nor one number"),
        (("--profile", "many"), "neither LEAST,BEST,MOST nor one number"),
        (("--bake", "identity=1"), "--bake is of a bundle"),
        (("--cache", "c", "--no-cache"), "exclude each other"),
    ],
)
def test_wrong_options(
    run: Run,
    asked: list[tuple[Any, Path, dict[str, Any]]],
    options: tuple[str, ...],
    message: str,
) -> None:
    result = run("export", "tensorrt", "a.onnx", "-o", "a.engine", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert asked == []


def test_errors_are_sentences(run: Run, bundle: Path, tmp_path: Path) -> None:
    result = run("export", "tensorrt", bundle, "-o", tmp_path / "a.plan")
    assert result.exit_code != 0
    assert "must be a file that ends in .engine" in result.stderr
    assert "Traceback" not in result.stderr
