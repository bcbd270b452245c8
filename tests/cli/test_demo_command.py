"""``lreorg demo``: what it passes on and what it prints. What it measures is tested elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lreorg_fast.demo

REPORT: dict[str, Any] = {
    "figures": [
        {"name": "PSR", "value": 0.5, "n": 12, "low": 0.25, "high": 0.75, "note": "[of avatars]"}
    ],
    "statement": "This is not a guarantee for the picture.",
    "paths": ["somewhere/contact_sheet.png"],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Arguments of every call of run_demo, which does nothing here."""
    calls: list[tuple[Any, ...]] = []

    def run_demo(folder: Path, faces: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
        calls.append((folder, faces, seed))
        say("loading")
        return REPORT

    monkeypatch.setattr(lreorg_fast.demo, "run_demo", run_demo)
    return calls


def test_options_reach_the_demo(run, asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert run("demo", "-o", tmp_path / "made", "--faces", 30, "--seed", 7).exit_code == 0
    assert asked == [(tmp_path / "made", 30, 7)]


def test_results_to_stdout_and_progress_to_stderr(
    run, asked: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    result = run("demo", "-o", tmp_path / "made")
    assert result.stderr == "loading\n"
    assert "PSR" in result.stdout
    assert "0.500  0.250  0.750  12  [of avatars]" in result.stdout
    assert REPORT["statement"] in result.stdout
    assert REPORT["paths"][0] in result.stdout
    assert len(asked) == 1


def test_json(run, asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert json.loads(run("demo", "-o", tmp_path / "made", "--json").stdout) == REPORT
    assert len(asked) == 1


def test_a_folder_with_something_in_it_needs_force(
    run, asked: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    refused = run("demo", "-o", tmp_path)
    assert refused.exit_code == 2
    assert "not empty" in refused.stderr
    assert run("demo", "-o", tmp_path / "mine.txt", "--force").exit_code == 2
    assert asked == []
    assert run("demo", "-o", tmp_path, "--force").exit_code == 0
    (tmp_path / "empty").mkdir()
    assert run("demo", "-o", tmp_path / "empty").exit_code == 0
    assert len(asked) == 2


@pytest.mark.parametrize("options", [["--faces", "0"], ["--seed", "-1"]])
def test_wrong_numbers(run, asked: list[tuple[Any, ...]], options: list[str]) -> None:
    assert run("demo", *options).exit_code == 2
    assert asked == []
