"""The report of an evaluation: one page, Markdown and JSON (docs/evaluation_report.md)."""

from __future__ import annotations

from lreorg_fast.evaluation.report.projection import FeatureSet
from lreorg_fast.evaluation.report.writing import check_report, write_report

__all__ = ["FeatureSet", "check_report", "write_report"]
