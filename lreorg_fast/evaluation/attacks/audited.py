"""Layers 4 and 5 of the audit as figures: what pictures prove that the draws leak at least."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from lreorg_fast.audit import AuditSettings, Finding, run_audit
from lreorg_fast.audit.claims import FEW_DRAWS
from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.evaluation.figures import Figure
from lreorg_fast.evaluation.measured import Measured, unavailable
from lreorg_fast.pipeline import Anonymizer

LAYERS = {4: "end to end", 5: "one run"}


def audited(
    anonymizer: Anonymizer,
    settings: AuditSettings,
    progress: Callable[[int, int], None] | None = None,
) -> list[Measured]:
    """``audit_epsilon`` of the honest mechanisms that a bundle allows.

    Args:
        anonymizer: with the bundle.
        settings: with layers 4, 5 or both; 1 to 3 are of ``lreorg audit``.
        progress: see :func:`lreorg_fast.audit.run_audit`.

    Returns:
        Lower bounds with the claimed epsilon as the upper limit, where that is finite and not
        refuted; the reason for none where the bundle is not for avatars or scipy is missing.

    Raises:
        ConfigError: settings with other layers.
    """
    if not set(settings.layers) <= set(LAYERS):
        raise ConfigError(
            f"layers are {tuple(settings.layers)}, but the evaluation audits pictures, which are "
            "4 and 5; run lreorg audit for the others"
        )
    try:
        report = run_audit(anonymizer, settings, progress)
    except (ConfigError, MissingExtra) as error:
        return unavailable(["audit_epsilon"], str(error))
    return list(_figures(report.findings, settings.people))


def _figures(findings: tuple[Finding, ...], people: int) -> Iterator[Measured]:
    for finding in findings:
        if not finding.honest:
            continue
        where = {"mechanism": finding.name, "convention": LAYERS[finding.layer]}
        if not math.isfinite(finding.measured):
            reason = "the bound is infinite: the mechanism is refuted"
            yield Measured("audit_epsilon", None, where, reason)
            continue
        high = max(finding.measured, finding.claimed)
        words = "REFUTED: " if finding.measured > finding.claimed else ""
        note = f"{words}at least this much is proved, {finding.claimed:g} is claimed; "
        n = FEW_DRAWS if finding.layer == 4 else people
        figure = Figure(finding.measured, n, finding.measured, high, note + finding.sample)
        yield Measured("audit_epsilon", figure, where)
