"""docs/privacy.md is true: its programs run and print what the page says, its files exist."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from lreorg_fast.audit import false_claims, honest_claims
from lreorg_fast.audit.report import LAYER_NAMES
from lreorg_fast.privacy import ATTRIBUTE_RULES, MECHANISMS, WindowRandomizedResponse

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
AUDIT = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
STEWARD = (ROOT / "docs" / "data_protection.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
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


def test_files_named_on_the_pages_exist():
    for page in (PAGE, AUDIT, STEWARD, SECURITY):
        named = re.findall(r"`(tests/[\w/]+\.(?:py|cpp))`", page)
        tried = [name for line in re.findall(r"`pytest ([^`]+)`", page) for name in line.split()]
        for name in {*named, *(name for name in tried if name.startswith("tests/"))}:
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/audit.md", "docs/data_protection.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)", text):
        assert ((ROOT / page).parent / link).exists(), link


def test_the_audit_page_has_every_claim_and_layer():
    for claim in (*honest_claims(256, 1.0), *false_claims(256)):
        assert f"| {claim.name} | {claim.epsilon:g} |" in AUDIT
    for layer, title in LAYER_NAMES.items():
        assert f"### Layer {layer}. {title}" in AUDIT


@pytest.mark.parametrize(("epsilon", "in_a_thousand"), [(1, "2.7"), (4, "52")])
def test_chances_for_the_steward_are_computed(epsilon, in_a_thousand):
    odds = np.exp(epsilon)
    assert f"{1000 * odds / (999 + odds):.2g}" == in_a_thousand
    assert in_a_thousand in STEWARD
