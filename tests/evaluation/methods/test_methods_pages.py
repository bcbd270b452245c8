"""docs/methods: complete, linked, and with code that is Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lreorg_fast.evaluation.methods import METHODS

FOLDER = Path(__file__).parents[3] / "docs" / "methods"
INDEX = FOLDER / "README.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def test_the_index_names_every_method_that_runs_here_and_every_page() -> None:
    text = INDEX.read_text()
    for name, info in METHODS.items():
        shown = name
        if info.family == "joint":  # one line stands for the rules and recoveries of each
            shown = "+" + name.split("+")[1].split("-")[0]
            shown = "lreorg+gender" if shown == "+gender" else shown
        elif info.family == "alone":
            shown = "hide-"
        assert f"`{shown}" in text, name
    linked = set(re.findall(r"\]\((\w+\.md)\)", text))
    assert linked == {page.name for page in PAGES}
    for link in re.findall(r"\]\((\.\./\w+\.md)\)", text):
        assert (FOLDER / link).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_says_what_a_user_must_know(page: Path) -> None:
    text = page.read_text()
    assert "on 28 November 2026" in text
    for row in ("| repository |", "| code"):
        assert row in text
    assert "## Traps" in text or "## What it does not guarantee" in text
    assert "lreorg evaluate" in text
    if page.stem != "identitydp":
        assert re.search(r"read at [0-9a-f]{7} ", text)
        assert re.search(r"https://github\.com/[\w.-]+/[\w.-]+", text)
        assert "| weights |" in text
        assert "| allows |" in text
        assert "git clone" in text or "pip install git+" in text
    assert "| PSR ArcFace |" in text or "Not in the paper's table" in text


@pytest.mark.parametrize("page", [INDEX, *PAGES], ids=lambda page: page.stem)
def test_python_on_the_pages_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)
