"""What a recognizer is worth on originals: thresholds at fixed false accept rates, and TAR.

No figure of protection is given by a recognizer that does not know the originals themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lreorg_fast.evaluation.figures import Figure, Floats
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.metrics import (
    MIN_ACCEPTED_IMPOSTORS,
    threshold_at_far,
    true_accept_rate,
)
from lreorg_fast.evaluation.pairs import Impostors, genuine_pairs, impostors, paired_cosines, seen
from lreorg_fast.evaluation.protocol import Indices, Judges, Observed

FARS: Mapping[str, float] = {"1e-3": 1e-3, "1e-4": 1e-4}
LEAST_TAR = 0.5
NO_OTHER_PICTURE = (
    "nobody has two pictures in which the recognizer sees a face, and a face is compared with "
    "another picture of its person; add second pictures"
)


@dataclass(frozen=True)
class Threshold:
    """Of one recognizer at one false accept rate.

    Attributes:
        value: a pair is accepted above it; None where it cannot be had.
        tar: share of genuine pairs of originals that it accepts; None where there are none.
        reason: why there is no value or no tar.
        basis: the impostor pairs in words.
    """

    value: float | None
    tar: Figure | None
    reason: str | None
    basis: str

    @property
    def refusal(self) -> str | None:
        """Why nothing about protection may be said with it."""
        if self.tar is None:
            return self.reason
        if self.tar.value < LEAST_TAR:
            return (
                f"the recognizer accepts {self.tar.value:.1%} of the pairs of originals "
                f"(n = {self.tar.n:,}), so what it does not recognise means nothing; a figure "
                f"needs at least {LEAST_TAR:.0%}"
            )
        return None


@dataclass(frozen=True)
class Calibration:
    """``thresholds``: by recognizer and by the key of :data:`FARS`."""

    thresholds: Mapping[tuple[str, str], Threshold]

    def measured(self) -> list[Measured]:
        """``tar`` of every recognizer at every rate: the figures of the originals themselves."""
        return [
            Measured(
                "tar",
                threshold.tar,
                {"recognizer": name, "far": far},
                threshold.reason if threshold.tar is None else None,
            )
            for (name, far), threshold in self.thresholds.items()
        ]


def calibrate(subjects: Indices, originals: Observed, judges: Judges) -> Calibration:
    """Thresholds and TAR of all recognizers on the originals.

    Args:
        subjects: (N,) of the collection.
        originals: what the judges said of its pictures.
        judges: whose recognizers are calibrated.
    """
    thresholds: dict[tuple[str, str], Threshold] = {}
    for recognizer in judges.recognizers:
        found = calibrate_embeddings(originals.embeddings[recognizer.name], subjects)
        thresholds |= {(recognizer.name, far): threshold for far, threshold in found.items()}
    return Calibration(thresholds)


def calibrate_embeddings(embeddings: Floats, subjects: Indices) -> dict[str, Threshold]:
    """The same of one recognizer's embeddings (N, D), by the key of :data:`FARS`."""
    strangers = impostors(embeddings, subjects)
    first, second = genuine_pairs(subjects, both_ways=False)
    usable = seen(embeddings)
    both = usable[first] & usable[second]
    genuine = paired_cosines(embeddings, embeddings, first[both], second[both])
    people = subjects[first[both]]
    return {far: _threshold(strangers, genuine, people, rate) for far, rate in FARS.items()}


def _threshold(strangers: Impostors, genuine: Floats, people: Indices, rate: float) -> Threshold:
    pairs = len(strangers.scores)
    if pairs < MIN_ACCEPTED_IMPOSTORS / rate - 1e-9:
        possible = f"{MIN_ACCEPTED_IMPOSTORS / pairs:.1e}" if pairs else "none"
        reason = (
            f"a false accept rate of {rate:g} needs {MIN_ACCEPTED_IMPOSTORS / rate:,.0f} impostor "
            f"pairs and the originals give {pairs:,}; the lowest rate that they allow is {possible}"
        )
        return Threshold(None, None, reason, str(strangers))
    value = threshold_at_far(strangers.scores, rate)
    if not len(genuine):
        return Threshold(value, None, NO_OTHER_PICTURE, str(strangers))
    tar = true_accept_rate(np.asarray(genuine), value, people)
    return Threshold(value, tar, None, str(strangers))
