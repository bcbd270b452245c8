"""How well people are protected from recognizers that know nothing of the method.

The naive attacker enrols originals and probes with an output, the reverse attacker enrols outputs
and probes with an original. A face is always compared with **another** picture of its person.

PSR and similarity are about outputs in which the detector finds a face: a missed detection is no
protection. Who names people (ranks, and all attacks) is not stopped by a detector of ours and is
shown every output that was released and that the recognizer gives an embedding for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lreorg_fast.evaluation.calibration import (
    FARS,
    NO_OTHER_PICTURE,
    Calibration,
    Threshold,
    calibrate,
)
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.identification import Identified, identify
from lreorg_fast.evaluation.measured import Measured, unavailable
from lreorg_fast.evaluation.observations import Found, Observations, mean_per_picture, measure
from lreorg_fast.evaluation.pairs import genuine_pairs, paired_cosines, seen, stranger_means
from lreorg_fast.evaluation.protocol import Collection, Judges, Labels, Observed

_RANKS = ("rank_1", "rank_5", "psr_closed_set", "rank_last")
_NO_FINDER = "no detector was given; name one"


def protection(
    collection: Collection,
    originals: Observed,
    outputs: Observed,
    judges: Judges,
    calibration: Calibration | None = None,
) -> list[Measured]:
    """All figures of :func:`protection_found`.

    Args:
        collection: of N originals.
        originals, outputs: what the judges said of them and of the method's outputs for them.
        judges: whose recognizers are asked.
        calibration: of :func:`calibrate` on the originals, made here if None.
    """
    found = protection_found(collection, originals, outputs, judges, calibration)
    return measure(found, collection.subjects)


def protection_found(
    collection: Collection,
    originals: Observed,
    outputs: Observed,
    judges: Judges,
    calibration: Calibration | None = None,
) -> Iterator[Found]:
    """Values per picture behind :func:`protection`."""
    known = calibration or calibrate(collection.subjects, originals, judges)
    yield from _release(outputs, judges)
    for recognizer in judges.recognizers:
        name = recognizer.name
        faces = _Faces(collection, originals, outputs, name)
        for far in FARS:
            yield faces.psr(far, known.thresholds[name, far])
        yield from faces.similarity()
        yield from faces.ranks()
        yield faces.reverse()


def _release(outputs: Observed, judges: Judges) -> Iterator[Found]:
    every = np.arange(len(outputs.released))
    yield Observations("released", {}, every, outputs.released.astype(np.float64))
    if judges.finder is None:
        yield from unavailable(["detection"], judges.missing.get("finder", _NO_FINDER))
        return
    found = outputs.found & outputs.released
    yield Observations("detection", {}, every, found.astype(np.float64), "of all outputs")


class _Faces:
    """One recognizer's view of one method's outputs."""

    def __init__(
        self, collection: Collection, originals: Observed, outputs: Observed, name: str
    ) -> None:
        self.subjects = collection.subjects
        self.where = {"recognizer": name}
        self.originals: Floats = originals.embeddings[name]
        self.outputs: Floats = outputs.embeddings[name]
        self.known: Labels = seen(self.originals)
        self.usable: Labels = judged_faces(outputs, self.outputs)
        self.left_out = left_out_note(outputs, self.usable)
        self.shown: Labels = shown_pictures(outputs, self.outputs)
        self.not_shown = not_shown_note(self.shown)
        face, other = genuine_pairs(self.subjects, both_ways=True)
        both = self.usable[face] & self.known[other]
        self.face, self.other = face[both], other[both]
        self.own = paired_cosines(self.outputs, self.originals, self.face, self.other)

    @property
    def refusal(self) -> str | None:
        """Why no face can be compared with another picture."""
        if not self.usable.any():
            return "no face was detected in any output, so protection cannot be measured"
        return None if len(self.face) else NO_OTHER_PICTURE

    def psr(self, far: str, threshold: Threshold) -> Found:
        """Share that is not accepted, over the other pictures of each face."""
        where = {**self.where, "far": far}
        reason = threshold.refusal or self.refusal
        if reason is not None or threshold.value is None:
            return Measured("psr", None, where, reason)
        pictures, values = mean_per_picture(
            self.face, self.own <= threshold.value, len(self.subjects)
        )
        note = f"not above {threshold.value:.4g}, from {threshold.basis}; {self.left_out}"
        return Observations("psr", where, pictures, values, note)

    def similarity(self) -> Iterator[Found]:
        """To the person, and that minus the similarity to strangers."""
        if self.refusal is not None:
            yield from unavailable(["similarity", "similarity_gap"], self.refusal, **self.where)
            return
        pictures, own = mean_per_picture(self.face, self.own, len(self.subjects))
        yield Observations("similarity", self.where, pictures, own, self.left_out)
        strangers = stranger_means(self.outputs, self.originals, pictures, self.subjects)
        if np.isnan(strangers).any():
            reason = "there is only one person, so there are no strangers; add people"
            yield from unavailable(["similarity_gap"], reason, **self.where)
            return
        note = f"to {len(np.unique(self.subjects)):,} people; {self.left_out}"
        yield Observations("similarity_gap", self.where, pictures, own - strangers, note)

    def ranks(self) -> Iterator[Found]:
        """The naive attacker's."""
        found = identify(self.outputs, self.originals, self.subjects, self.shown, self.known)
        if found is None:
            reason = self._nobody
            yield from unavailable(_RANKS, reason, **self.where)
            return
        first = found.standing.within(1)
        size = found.standing.size
        values = {
            "rank_1": (first, f"chance {1 / size:.4g}"),
            "psr_closed_set": (1 - first, f"chance {1 - 1 / size:.4g}"),
            "rank_last": (found.standing.last(), f"chance {1 / size:.4g}"),
        }
        if size > 5:
            values["rank_5"] = (found.standing.within(5), f"chance {5 / size:.4g}")
        else:
            reason = f"the gallery holds {size} people, of whom 5 are nearly all; add people"
            yield from unavailable(["rank_5"], reason, **self.where)
        for metric, (shares, chance) in values.items():
            note = f"gallery of {size:,} people's originals, {chance}; {self.not_shown}"
            yield Observations(metric, self.where, found.pictures, shares, note)

    def reverse(self) -> Found:
        """The reverse attacker's: people whose enrolled output is missing are left out."""
        found = identify(self.originals, self.outputs, self.subjects, self.known, self.shown)
        where = self.where
        if found is None:
            return Measured("reverse_rank_1", None, where, self._nobody)
        return rank_1_of("reverse_rank_1", where, found, f"people's outputs; {self.not_shown}")

    @property
    def _nobody(self) -> str:
        """Why nobody can be named."""
        if not self.shown.any():
            return "nothing was released that the recognizer gives an embedding for"
        if not len(genuine_pairs(self.subjects, both_ways=False)[0]):
            return NO_OTHER_PICTURE
        return "there are not two people of whom both an original and an output can be compared"


def rank_1_of(metric: str, where: dict[str, str], found: Identified, gallery: str) -> Observations:
    """A rank-1 attack's values with the gallery and its chance in the note."""
    size = found.standing.size
    note = f"gallery of {size:,} {gallery}; chance {1 / size:.4g}"
    return Observations(metric, where, found.pictures, found.standing.within(1), note)


def judged_faces(outputs: Observed, embeddings: Floats) -> Labels:
    """(N,) outputs that count: released, a face detected, and seen by the recognizer."""
    return outputs.released & outputs.found & seen(embeddings)


def shown_pictures(outputs: Observed, embeddings: Floats) -> Labels:
    """(N,) outputs that an attacker can compare: released, and embedded by the recognizer."""
    return outputs.released & seen(embeddings)


def not_shown_note(shown: Labels) -> str:
    """How many outputs an attacker cannot compare."""
    return f"{int((~shown).sum())} of {len(shown)} outputs not released or not embedded: left out"


def left_out_note(outputs: Observed, usable: Labels) -> str:
    """How many outputs do not count, and why."""
    filled = int((~outputs.released).sum())
    missed = int((outputs.released & ~usable).sum())
    return (
        f"left out and no protection: {missed} of {len(usable)} outputs without a detected face, "
        f"{filled} not released"
    )
