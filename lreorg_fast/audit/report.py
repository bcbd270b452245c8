"""What an audit found, for programs (JSON) and for people (Markdown)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lreorg_fast
from lreorg_fast.audit.statistics import ALPHA
from lreorg_fast.privacy import json_epsilon, picture_statement

LAYER_NAMES = {
    1: "White box: the exact tables",
    2: "The sampler against its table",
    3: "Black box: draws alone",
    4: "End to end, the rest of the face held fixed",
    5: "One run: a coin for each person",
}


@dataclass(frozen=True)
class Finding:
    """One measurement of one claim.

    Attributes:
        layer: 1 to 5.
        name: what was audited.
        claimed: epsilon that is claimed for it.
        honest: the claim is true; a false one is a control that must be refuted.
        measured: the number, infinity where a ratio is.
        what: what the number is.
        sample: how much it rests on.
        as_expected: honest claims passed, false ones were refuted; None where the number is
            published and judged by nobody.
        note: what else belongs to it.
    """

    layer: int
    name: str
    claimed: float
    honest: bool
    measured: float
    what: str
    sample: str
    as_expected: bool | None
    note: str = ""

    @property
    def verdict(self) -> str:
        """A word or two for a table."""
        if self.as_expected is None:
            return "published"
        if self.honest:
            return "passes" if self.as_expected else "REFUTED"
        return "refuted, as it must be" if self.as_expected else "NOT REFUTED"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return vars(self) | {
            "claimed": json_epsilon(self.claimed),
            "measured": json_epsilon(self.measured),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class AuditReport:
    """All findings and what they were made with."""

    bundle: str
    settings: Mapping[str, Any]
    findings: tuple[Finding, ...]
    people: str | None = None
    """Whose pictures layers 4 and 5 looked at."""

    @property
    def passed(self) -> bool:
        """Every honest claim passed and every control was refuted."""
        return all(finding.as_expected is not False for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "package_version": lreorg_fast.__version__,
            "bundle": self.bundle,
            "settings": dict(self.settings),
            "alpha": ALPHA,
            "passed": self.passed,
            "findings": [finding.to_dict() for finding in self.findings],
            "people": self.people,
            "statement": STATEMENT,
        }

    def to_markdown(self) -> str:
        """One table for each layer."""
        lines = [
            f"# Audit of the bundle `{self.bundle}`",
            "",
            f"lreorg_fast {lreorg_fast.__version__}; "
            + ", ".join(f"{name} {value}" for name, value in self.settings.items())
            + f". Each bound holds with probability 1 - {ALPHA:g}. "
            + ("Everything is as it must be." if self.passed else "**NOT everything passed.**"),
            "",
            STATEMENT,
            *(() if self.people is None else ("", self.people)),
        ]
        for layer, title in LAYER_NAMES.items():
            found = [finding for finding in self.findings if finding.layer == layer]
            if found:
                lines += ["", f"## Layer {layer}. {title}", "", *_table(found)]
        return "\n".join(lines) + "\n"


STATEMENT = "Epsilon is about the replaced key feature. " + picture_statement(
    "see lreorg demo and the figures of the bundle"
)


def _table(found: list[Finding]) -> list[str]:
    rows = ["| audited | claims | measured | of | verdict |", "|---|---|---|---|---|"]
    for finding in found:
        number = "infinite" if math.isinf(finding.measured) else f"{finding.measured:.3g}"
        rows.append(
            f"| {finding.name} | {finding.claimed:g} | {finding.what}: **{number}** | "
            f"{finding.sample} | {finding.verdict} |"
        )
    notes = dict.fromkeys(finding.note for finding in found if finding.note)
    return [*rows, *(line for note in notes for line in ("", note))]
