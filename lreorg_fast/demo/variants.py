"""Variants of the demo's CDFNet that differ from it in one setting of its training, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lreorg_fast.training.keyword_swap import LossWeights, SwapTrainingConfig

FULL = "full"
# Changes to the recipe's SwapTrainingConfig; LossWeights() are the paper's own weights.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    FULL: {},
    "without L_r": {"weights": {"information": 0.0}},
    "without L_f": {"weights": {"latent": 0.0}},
    "without L_p": {"weights": {"perceptual": 0.0}},
    "without contents kept": {"weights": {"contents_kept": 0.0}},
    "without reversal": {"weights": {"reversal": 0.0, "identity_back": 0.0}},
    "without the plan": {"recurrence_every": 0},
    "without the floor": {"identity_floor": None},
    "the paper's setting": {
        "weights": dataclasses.asdict(LossWeights()),
        "recurrence_every": 0,
        "identity_floor": None,
    },
}


def changed(training: SwapTrainingConfig, steps: int, name: str) -> SwapTrainingConfig:
    """The recipe's training with so many steps and the changes of one of :data:`VARIANTS`."""
    changes = dict(VARIANTS[name])
    weights = dataclasses.replace(training.weights, **changes.pop("weights", {}))
    return dataclasses.replace(training, steps=steps, weights=weights, **changes)


def different(training: SwapTrainingConfig, steps: int) -> dict[str, SwapTrainingConfig]:
    """Every variant that is not the full setting itself, and that one first."""
    full = changed(training, steps, FULL)
    all_variants = {name: changed(training, steps, name) for name in VARIANTS}
    return {n: config for n, config in all_variants.items() if n == FULL or config != full}
