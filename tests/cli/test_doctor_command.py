"""``lreorg doctor``: what it prints and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lreorg_fast
from lreorg_fast.doctor import OPTIONAL


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    """The toy bundle in the place of the packaged one."""
    monkeypatch.setattr("lreorg_fast.weights.bundle._packaged_demo", lambda: bundle)


@pytest.mark.usefixtures("installed")
def test_a_table(run) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert result.stderr == ""
    for text in (lreorg_fast.__version__, "torch", "backend reference", "demo bundle", "SHA-256"):
        assert text in result.stdout
    for package in OPTIONAL:
        assert f"optional {package.distribution}" in result.stdout


@pytest.mark.usefixtures("installed")
def test_json(run) -> None:
    content = json.loads(run("doctor", "--json").stdout)
    assert content["healthy"] is True
    assert content["backends"]["reference"] is True


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_is_broken_is_said_and_is_an_error(
    run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str]
) -> None:
    monkeypatch.setattr("lreorg_fast.weights.bundle._packaged_demo", lambda: tmp_path / "nothing")
    result = run("doctor", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("lreorg: bundle: ")
    assert len(result.stderr.splitlines()) == 1
