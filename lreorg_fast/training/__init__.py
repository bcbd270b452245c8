"""Keyword swap training: ``lf.training.train(config, folder)`` and the parts it is made of.

Every name is loaded on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lreorg_fast.training.config import TrainConfig as TrainConfig
    from lreorg_fast.training.config import preset as preset
    from lreorg_fast.training.config import read_config as read_config
    from lreorg_fast.training.judges import LatentsConfig as LatentsConfig
    from lreorg_fast.training.judges import WeightsJudges as WeightsJudges
    from lreorg_fast.training.keyword_swap import Judges as Judges
    from lreorg_fast.training.keyword_swap import KeywordSwap as KeywordSwap
    from lreorg_fast.training.keyword_swap import LossWeights as LossWeights
    from lreorg_fast.training.keyword_swap import SwapTrainingConfig as SwapTrainingConfig
    from lreorg_fast.training.leakage import SwapFigures as SwapFigures
    from lreorg_fast.training.leakage import swap_figures as swap_figures
    from lreorg_fast.training.tool import train as train
    from lreorg_fast.training.trainer import train_cdfnet as train_cdfnet

_MODULES = {
    "config": ("TrainConfig", "preset", "read_config"),
    "judges": ("LatentsConfig", "WeightsJudges"),
    "keyword_swap": ("Judges", "KeywordSwap", "LossWeights", "SwapTrainingConfig"),
    "leakage": ("SwapFigures", "swap_figures"),
    "tool": ("train",),
    "trainer": ("train_cdfnet",),
}
_ATTRIBUTES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_ATTRIBUTES)


def __getattr__(name: str) -> Any:
    if name not in _ATTRIBUTES:
        raise AttributeError(f"module 'lreorg_fast.training' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lreorg_fast.training.{_ATTRIBUTES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
