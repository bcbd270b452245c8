"""All that is known of one contender, and what is measured on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lreorg_fast.evaluation.calibration import Calibration
from lreorg_fast.evaluation.contenders import Contender
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.preservation import preservation, recovery
from lreorg_fast.evaluation.protection import protection
from lreorg_fast.evaluation.protocol import Collection, Judges, Observed, Pictures


@dataclass(frozen=True, eq=False)
class Trial:
    """One contender on one collection.

    Attributes:
        collection: the originals.
        judges: who looked.
        originals: what they said of the originals.
        calibration: what their recognizers are worth on the originals.
        contender: whose outputs these are.
        pictures: the outputs.
        outputs: what the judges said of them.
        restored: what they said of the outputs brought back with their keys; None without keys.
    """

    collection: Collection
    judges: Judges
    originals: Observed
    calibration: Calibration
    contender: Contender
    pictures: Pictures
    outputs: Observed
    restored: Observed | None = None


Measure = Callable[[Trial], Iterable[Measured]]


def protected(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.protection.protection`."""
    seen = (trial.originals, trial.outputs, trial.judges)
    return protection(trial.collection, *seen, trial.calibration)


def preserved(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.preservation.preservation`."""
    return preservation(trial.collection, trial.originals, trial.outputs, trial.judges)


def recovered(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.preservation.recovery`; nothing without keys."""
    if trial.restored is None:
        return []
    seen = (trial.originals, trial.restored, trial.judges)
    return recovery(trial.collection, *seen, trial.calibration)


MEASURES: Sequence[Measure] = (protected, preserved, recovered)
