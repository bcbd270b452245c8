"""Measuring protection and usefulness, each figure with n and an interval."""

from __future__ import annotations

from lreorg_fast.evaluation.fid import (
    FeatureStatistics,
    inception_statistics,
    prepare_pictures,
)
from lreorg_fast.evaluation.figures import (
    Figure,
    bootstrap_interval,
    mean_figure,
    share_figure,
    wilson_interval,
)
from lreorg_fast.evaluation.frechet import frechet_distance, frechet_figure
from lreorg_fast.evaluation.metrics import (
    AttributePreservation,
    attribute_preservation,
    cosine_similarity,
    protection_success_rate,
    rank_first_rate,
    rank_last_rate,
    rank_of_original,
    similarity_gap,
    threshold_at_far,
    true_accept_rate,
)
from lreorg_fast.evaluation.report import FeatureSet, write_report

__all__ = [
    "AttributePreservation",
    "FeatureSet",
    "FeatureStatistics",
    "Figure",
    "attribute_preservation",
    "bootstrap_interval",
    "cosine_similarity",
    "frechet_distance",
    "frechet_figure",
    "inception_statistics",
    "mean_figure",
    "prepare_pictures",
    "protection_success_rate",
    "rank_first_rate",
    "rank_last_rate",
    "rank_of_original",
    "share_figure",
    "similarity_gap",
    "threshold_at_far",
    "true_accept_rate",
    "wilson_interval",
    "write_report",
]
