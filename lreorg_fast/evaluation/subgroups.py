"""The main figures by group: a mean can hide that some are protected or preserved less."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lreorg_fast.evaluation.calibration import LEAST_TAR, NO_OTHER_PICTURE, Calibration, calibrate
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.observations import Found, Observations, mean_per_picture
from lreorg_fast.evaluation.pairs import genuine_pairs, paired_cosines, seen
from lreorg_fast.evaluation.preservation import attributes_found
from lreorg_fast.evaluation.protection import protection_found
from lreorg_fast.evaluation.protocol import Collection, Judges, Labels, Observed

FEWEST_PEOPLE = 20
"""A share of fewer people has an interval wider than .4, and says something of single persons."""
FAR = "1e-3"
MAIN = ("released", "detection", "psr", "rank_1", "similarity_gap", "apr_mean")


def subgroups(
    collection: Collection,
    originals: Observed,
    outputs: Observed,
    judges: Judges,
    calibration: Calibration | None = None,
) -> list[Measured]:
    """:data:`MAIN` figures, and TAR on originals, for every label of every division.

    Thresholds and galleries are those of all people: what is asked is what one attacker, who does
    not choose the group, finds in each. TAR tells whether the recognizer works in the group as
    well; where it accepts less than half of the originals there, PSR is refused.

    Args:
        collection: with ``groups``; an empty label is not known and in no group.
        originals, outputs, judges, calibration: as for :func:`protection`.

    Returns:
        Figures with ``group`` such as "gender: female"; reasons for groups of fewer than 20 people.
    """
    if not collection.groups:
        return []
    known = calibration or calibrate(collection.subjects, originals, judges)
    found = [
        entry
        for entry in (
            *_accepted(collection, originals, known),
            *protection_found(collection, originals, outputs, judges, known),
            *attributes_found(collection, originals, outputs, judges),
        )
        if entry.metric in (*MAIN, "tar") and entry.where.get("far", FAR) == FAR
    ]
    return [
        measured
        for group, chosen in _groups(collection)
        for measured in _refused(list(_of_group(collection, found, group, chosen)))
    ]


def _groups(collection: Collection) -> Iterator[tuple[str, Labels]]:
    for division, labels in collection.groups.items():
        every = np.asarray(labels)
        for label in sorted(set(labels) - {""}):
            yield f"{division}: {label}", every == label


def _of_group(
    collection: Collection, found: list[Found], group: str, chosen: Labels
) -> Iterator[Measured]:
    people = len(np.unique(collection.subjects[chosen]))
    for entry in found:
        where = {**entry.where, "group": group}
        if people < FEWEST_PEOPLE:
            reason = f"the group has {people} people and is shown from {FEWEST_PEOPLE} on"
            yield Measured(entry.metric, None, where, reason)
        elif isinstance(entry, Observations):
            inside = entry.among(chosen, group)
            measured_people = len(np.unique(collection.subjects[inside.pictures]))
            if measured_people < FEWEST_PEOPLE:
                reason = (
                    f"only {measured_people} of the group's {people} people can be measured, and "
                    f"it is shown from {FEWEST_PEOPLE} on"
                )
                yield Measured(entry.metric, None, where, reason)
            else:
                yield inside.measured(collection.subjects)
        else:
            yield Measured(entry.metric, entry.figure, where, entry.reason)


def _refused(entries: list[Measured]) -> Iterator[Measured]:
    """PSR of one group is refused by recognizers that do not know the group's originals."""
    unknown = {
        entry.where["recognizer"]: entry.figure.value
        for entry in entries
        if entry.metric == "tar" and entry.figure and entry.figure.value < LEAST_TAR
    }
    for entry in entries:
        if entry.metric == "psr" and entry.where["recognizer"] in unknown:
            share = unknown[entry.where["recognizer"]]
            reason = (
                f"the recognizer accepts {share:.1%} of the group's originals, so what it does "
                f"not recognise means nothing; a figure needs at least {LEAST_TAR:.0%}"
            )
            yield Measured(entry.metric, None, entry.where, reason)
        else:
            yield entry


def _accepted(
    collection: Collection, originals: Observed, calibration: Calibration
) -> Iterator[Found]:
    """TAR as values per picture."""
    first, second = genuine_pairs(collection.subjects, both_ways=True)
    for (name, far), threshold in calibration.thresholds.items():
        where = {"recognizer": name, "far": far}
        rows = originals.embeddings[name]
        both = seen(rows)[first] & seen(rows)[second]
        if threshold.value is None or not both.any():
            reason = threshold.reason or NO_OTHER_PICTURE
            yield Measured("tar", None, where, reason)
            continue
        scores = paired_cosines(rows, rows, first[both], second[both])
        count = len(collection.subjects)
        pictures, values = mean_per_picture(first[both], scores > threshold.value, count)
        yield Observations("tar", where, pictures, values, f"above {threshold.value:.4g}")
