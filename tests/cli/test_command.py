"""The command as a whole: help, versions, exit codes, errors and what start-up costs."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import lreorg_fast
from lreorg_fast.cdfnet.engine import DTYPES
from lreorg_fast.cli.app import EXIT_CODES, lreorg
from lreorg_fast.cli.terminal import shown
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import ATTRIBUTE_RULES, DEFAULT_MECHANISM, MECHANISMS
from lreorg_fast.settings import DEFAULT_ATTRIBUTE_RULE

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.fixture(autouse=True)
def _quiet_logger() -> Iterator[None]:
    """--debug turns logging on for the whole process."""
    logger = logging.getLogger("lreorg_fast")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["anonymize", "--help"]])
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from lreorg_fast.cli.app import lreorg; "
        f"lreorg({arguments!r}, standalone_mode=False); "
        "sys.exit(3 if {'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lreorg_fast", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"lreorg, version {lreorg_fast.__version__}\n"


def test_the_module_passes_the_exit_code_on() -> None:
    done = subprocess.run([sys.executable, "-m", "lreorg_fast", "dance"], capture_output=True)
    assert done.returncode == 2


def test_help_names_verbs_and_exit_codes(run) -> None:
    text = run("--help").stdout
    for verb in ("anonymize", "demo", "doctor"):
        assert re.search(rf"^  {verb} ", text, re.MULTILINE)
    for code in ("0", "1", "2", "3", "130"):
        assert re.search(rf"^ +{code} +\S", text, re.MULTILINE)


def test_help_names_every_choice_and_default(run) -> None:
    # Lines are broken at spaces and after hyphens.
    text = " ".join(run("anonymize", "--help").stdout.split()).replace("- ", "-")
    for choice in (*MECHANISMS, *ATTRIBUTE_RULES, *DTYPES):
        assert choice in text
    for default in (DEFAULT_MECHANISM, DEFAULT_ATTRIBUTE_RULE, *DEFAULT_HIDE):
        assert f"[default: {default}]" in text
    assert ",".join(DEFAULT_KEEP) in text
    assert "square" in text


def test_the_page_names_every_option_and_exit_code() -> None:
    page = PAGE.read_text()
    live = page + (PAGE.parent / "live.md").read_text()  # has a page of its own
    for name, verb in lreorg.commands.items():
        assert f"lreorg {name}" in page
        for parameter in verb.params:
            if isinstance(parameter, click.Option):
                for option in parameter.opts:
                    assert f"`{option}" in (live if name == "live" else page), option
    for code in re.findall(r"^  (\d+)", EXIT_CODES, re.MULTILINE):
        assert re.search(rf"^\| {code} \|", page, re.MULTILINE)


def test_draws_cannot_be_seeded_from_the_command_line(run, face: Path, bundle: Path) -> None:
    result = run("anonymize", face, "--seed", 1, "--bundle", bundle)
    assert result.exit_code == 2
    names = {option for p in lreorg.commands["anonymize"].params for option in p.opts}
    assert not any("sampler" in name or "seed" in name for name in names)


@pytest.mark.parametrize("arguments", [[], ["dance"], ["anonymize"], ["--loud"]])
def test_wrong_usage(run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: lreorg" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("it is wrong"), 2), (KeyError("face"), 3), (KeyboardInterrupt(), 130)],
)
@pytest.mark.parametrize("debug", [[], ["before"], ["after"]])
def test_every_error_is_one_sentence_and_a_code(
    run,
    monkeypatch: pytest.MonkeyPatch,
    face: Path,
    error: BaseException,
    code: int,
    debug: list[str],
) -> None:
    def fail(*_args: object, **_settings: object) -> None:
        raise error

    monkeypatch.setattr(Anonymizer, "load", fail)
    before = ["--debug"] if debug == ["before"] else []
    after = ["--debug"] if debug == ["after"] else []
    result = run(*before, "anonymize", face, *after)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("lreorg: ")
    wanted = bool(debug) and code != 130
    assert ("Traceback" in result.stderr) == wanted
    if not wanted:
        assert len(result.stderr.splitlines()) == 1
    assert ("run again with --debug" in result.stderr) == (code == 3)


def test_debug_logs_what_is_chosen(run, face: Path, bundle: Path, caplog) -> None:
    quiet = run("anonymize", face, "--bundle", bundle, "--hide", "identity")
    assert quiet.exit_code == 0
    with caplog.at_level(logging.NOTSET):
        run("anonymize", face, "--bundle", "nowhere", "--debug")
        assert logging.getLogger("lreorg_fast").level == logging.DEBUG


@pytest.mark.parametrize(
    ("text", "safe"),
    [("plain ä.png", "plain ä.png"), ("\x1b[31mred", "\ufffd[31mred"), ("\udcff", "\ufffd")],
)
def test_nothing_reaches_the_terminal_that_it_would_obey(text: str, safe: str) -> None:
    assert shown(text) == safe
