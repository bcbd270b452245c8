"""docs/privacy.md is true: its programs run and print what the page says, its files exist."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from lreorg_fast.privacy import ATTRIBUTE_RULES, MECHANISMS, WindowRandomizedResponse

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", PAGE, re.DOTALL)


def test_every_program_has_its_output():
    assert len(EXAMPLES) == PAGE.count("```python") >= 3


@pytest.mark.parametrize(("program", "printed"), EXAMPLES, ids=["paper", "averaging", "held"])
def test_programs_print_what_the_page_says(program, printed):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(program, "docs/privacy.md", "exec"), {})
    assert output.getvalue() == printed


@pytest.mark.parametrize("epsilon", [0, 1, 2, 4])
def test_table_for_the_steward_is_computed(epsilon):
    row = next(line for line in PAGE.splitlines() if re.match(rf"\| {epsilon}\b", line))
    odds = np.exp(epsilon)
    guess = 100 * odds / (999 + odds)
    table = WindowRandomizedResponse(epsilon, 256, window=(33, 96)).probabilities(range(256))
    assert f"x {odds:.3g}" in row
    assert f"| {guess:.2g}%" in row or f"| {guess:.2f}%" in row
    assert f"| {100 * table[32:96].sum():.0f}% |" in row


def test_every_mechanism_and_rule_is_on_the_page():
    for name in (*MECHANISMS, *ATTRIBUTE_RULES):
        assert f"| `{name}` |" in PAGE


def test_files_named_on_the_page_exist():
    for name in set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE)):
        assert (ROOT / name).is_file()
