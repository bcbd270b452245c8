"""`lreorg train`: usage, presets, exit codes; what it does is tested in tests/training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from lreorg_fast.training import preset, read_config
from lreorg_fast.training.run import Interrupted

Run = Callable[..., Result]


@pytest.mark.parametrize("name", ["paper", "recommended"])
def test_a_printed_configuration_can_be_used(run: Run, name: str, tmp_path: Path) -> None:
    result = run("train", "--print-config", name)
    assert result.exit_code == 0
    (tmp_path / "c.json").write_text(result.stdout)
    assert read_config(tmp_path / "c.json") == preset(name)
    if name == "paper":
        assert run("train", "--print-config").stdout == result.stdout


@pytest.mark.parametrize("given", [(), ("c.json", "--demo"), ("--demo", "--print-config=paper")])
def test_one_thing_at_a_time(run: Run, given: tuple[str, ...]) -> None:
    result = run("train", *given)
    assert result.exit_code == 2
    assert "one of them" in result.stderr


def test_a_folder_is_needed(run: Run) -> None:
    assert "-o FOLDER" in run("train", "--demo").stderr
    assert run("train", "none.json").exit_code == 2


def test_what_is_missing_is_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run("train", tmp_path / "none.json", "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr.startswith("lreorg: cannot read")
    (tmp_path / "c.json").write_text(json.dumps({"generator": "g.pt"}))
    result = run("train", tmp_path / "c.json", "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert "'identity' is missing" in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_interruption_says_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_arguments: object, **_options: object) -> Path:
        raise Interrupted("stopped at 3 of 9 steps, saved in 'run'")

    monkeypatch.setattr("lreorg_fast.training.tool.train", stopped)
    (tmp_path / "c.json").write_text("{}")
    result = run("train", tmp_path / "c.json", "-o", tmp_path / "run")
    assert result.exit_code == 130
    assert "stopped at 3 of 9 steps, saved in 'run'" in result.stderr
