"""Naming the person behind a picture from a gallery with one picture of everybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.metrics import Standing, standing
from lreorg_fast.evaluation.pairs import blocks, by_person
from lreorg_fast.evaluation.protocol import Indices, Labels

# Similarities are float32 sums; equal pictures must tie, however the sum was ordered.
_DECIMALS = 5


@dataclass(frozen=True)
class Trial:
    """Probes against one gallery.

    Attributes:
        probes: (n,) pictures.
        gallery: (g,) pictures, one of each person.
        own: (n,) column of each probe's person.
    """

    probes: Indices
    gallery: Indices
    own: Indices


def enrol(subjects: Indices, may_probe: Labels, may_enrol: Labels) -> Iterator[Trial]:
    """Every picture becomes a probe once, against **another** picture of its person.

    Everybody is enrolled with their first picture. For the probes that are this picture itself
    there is a second gallery, in which everybody is enrolled with their second one, or their only
    one. A person with a single picture is a stranger to others and no probe.

    Args:
        subjects: (N,).
        may_probe: (N,) pictures that can be probes.
        may_enrol: (N,) pictures that can be in a gallery.
    """
    enrolled = np.flatnonzero(may_enrol)
    if not len(enrolled):
        return
    order, start, count, place = by_person(subjects[enrolled])
    leading = place == 0
    first = enrolled[order[leading]]
    has_second = count[leading] > 1
    second = enrolled[order[start[leading] + has_second]]
    people = subjects[first]
    probes = np.flatnonzero(may_probe & np.isin(subjects, people))
    own = np.searchsorted(people, subjects[probes])
    itself = first[own] == probes
    yield Trial(probes[~itself], first, own[~itself])
    later = itself & has_second[own]
    if later.any():
        yield Trial(probes[later], second, own[later])


@dataclass(frozen=True)
class Identified:
    """Where everybody's person stands in the gallery; ``pictures`` (n,) are the probes."""

    pictures: Indices
    standing: Standing


def identify(
    probes: Floats, gallery: Floats, subjects: Indices, may_probe: Labels, may_enrol: Labels
) -> Identified | None:
    """Rank everybody's person, in blocks.

    Args:
        probes, gallery: (N, D) unit embeddings of the same N pictures by two hands, such as a
            method's outputs and the originals. Only rows that may probe or enrol need be finite.
        subjects, may_probe, may_enrol: as :func:`enrol`.

    Returns:
        None where nobody has another picture, or only one person is there.
    """
    pictures, above, ties, size = [], [], [], 0
    for trial in enrol(subjects, may_probe, may_enrol):
        size = len(trial.gallery)
        enrolled = gallery[trial.gallery].astype(np.float32).T
        for part in blocks(len(trial.probes)):
            rows = probes[trial.probes[part]].astype(np.float32)
            found = standing(np.round(rows @ enrolled, _DECIMALS), trial.own[part])
            pictures.append(trial.probes[part])
            above.append(found.above)
            ties.append(found.ties)
    if not pictures or size < 2:
        return None
    order = np.concatenate(pictures)
    return Identified(order, Standing(np.concatenate(above), np.concatenate(ties), size))
