"""The audit: does a mechanism keep the epsilon that it claims, from its table to the pictures.

Five layers (docs/audit.md). Each of them also audits claims that are known to be false and must
refute them; an audit that finds nothing anywhere would prove nothing. Needs the extra
``evaluate``.
"""

from __future__ import annotations

from lreorg_fast.audit.claims import Claim, false_claims, honest_claims
from lreorg_fast.audit.report import AuditReport, Finding
from lreorg_fast.audit.run import LAYERS, AuditSettings, run_audit

__all__ = [
    "LAYERS",
    "AuditReport",
    "AuditSettings",
    "Claim",
    "Finding",
    "false_claims",
    "honest_claims",
    "run_audit",
]
