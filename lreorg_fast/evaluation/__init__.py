"""Measuring protection and usefulness, each figure with n and an interval.

What compares whole methods is loaded on first use (PEP 562), so that figures cost no more to
import than numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from lreorg_fast.evaluation.answers import Answers as Answers
    from lreorg_fast.evaluation.clips import evaluate_videos as evaluate_videos
    from lreorg_fast.evaluation.clips import track_pairs as track_pairs
    from lreorg_fast.evaluation.contenders import FolderContender as FolderContender
    from lreorg_fast.evaluation.contenders import MethodContender as MethodContender
    from lreorg_fast.evaluation.folders import open_collection as open_collection
    from lreorg_fast.evaluation.judges import JudgeChoices as JudgeChoices
    from lreorg_fast.evaluation.judges import photograph_judges as photograph_judges
    from lreorg_fast.evaluation.observing import Observer as Observer
    from lreorg_fast.evaluation.run import Evaluated as Evaluated
    from lreorg_fast.evaluation.run import evaluate as evaluate
    from lreorg_fast.evaluation.settings import EvaluationSettings as EvaluationSettings

_LATER = {
    "Answers": "answers",
    "Evaluated": "run",
    "EvaluationSettings": "settings",
    "FolderContender": "contenders",
    "JudgeChoices": "judges",
    "MethodContender": "contenders",
    "Observer": "observing",
    "evaluate": "run",
    "evaluate_videos": "clips",
    "open_collection": "folders",
    "photograph_judges": "judges",
    "track_pairs": "clips",
}

__all__ = [
    "Answers",
    "AttributePreservation",
    "Evaluated",
    "EvaluationSettings",
    "FeatureSet",
    "FeatureStatistics",
    "Figure",
    "FolderContender",
    "JudgeChoices",
    "MethodContender",
    "Observer",
    "attribute_preservation",
    "bootstrap_interval",
    "cosine_similarity",
    "evaluate",
    "evaluate_videos",
    "frechet_distance",
    "frechet_figure",
    "inception_statistics",
    "mean_figure",
    "open_collection",
    "photograph_judges",
    "prepare_pictures",
    "protection_success_rate",
    "rank_first_rate",
    "rank_last_rate",
    "rank_of_original",
    "share_figure",
    "similarity_gap",
    "threshold_at_far",
    "track_pairs",
    "true_accept_rate",
    "wilson_interval",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'lreorg_fast.evaluation' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lreorg_fast.evaluation.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
