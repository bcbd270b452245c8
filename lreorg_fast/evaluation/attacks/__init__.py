"""Attackers who know the method: they train on it, run it backwards, and compare its outputs.

One module per attack. ``audited`` brings torch, all others import it when they run.
"""

from __future__ import annotations

from lreorg_fast.evaluation.attacks.learning import FineTuned, Learner, Projected, TrainingSet
from lreorg_fast.evaluation.attacks.trained import Target

__all__ = ["FineTuned", "Learner", "Projected", "Target", "TrainingSet"]
