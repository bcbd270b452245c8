"""One value per picture on the way to a figure, so that the same values serve all and a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lreorg_fast.evaluation.figures import Floats, mean_figure, share_figure
from lreorg_fast.evaluation.measured import METRICS, Measured
from lreorg_fast.evaluation.protocol import Indices, Labels


@dataclass(frozen=True)
class Observations:
    """What one metric says of single pictures.

    Attributes:
        metric: a key of METRICS; a percent metric is a share, any other a mean.
        where: what it is about.
        pictures: (n,) the number of the picture behind each value.
        values: (n,) in [0, 1] for shares.
        note: for the figure.
    """

    metric: str
    where: Mapping[str, str]
    pictures: Indices
    values: Floats
    note: str = ""

    def measured(self, subjects: Indices) -> Measured:
        """The figure over all pictures; ``subjects`` is the collection's."""
        people = subjects[self.pictures]
        if not len(self.values):
            return Measured(self.metric, None, self.where, "there is no picture to measure it on")
        if METRICS[self.metric].percent:
            figure = share_figure(self.values, people, note=self.note)
        elif len(np.unique(people)) < 2:
            reason = "it needs pictures of at least 2 people for an interval; add people"
            return Measured(self.metric, None, self.where, reason)
        else:
            figure = mean_figure(self.values, people, note=self.note)
        return Measured(self.metric, figure, self.where)

    def among(self, chosen: Labels, group: str) -> Observations:
        """Only the pictures in ``chosen`` (N,), named ``group``."""
        inside = chosen[self.pictures]
        where = {**self.where, "group": group}
        return Observations(
            self.metric, where, self.pictures[inside], self.values[inside], self.note
        )


Found = Observations | Measured
"""Values per picture, or a figure (or the reason for none) that has none."""


def measure(found: Iterable[Found], subjects: Indices) -> list[Measured]:
    """Every figure, in order."""
    return [
        entry.measured(subjects) if isinstance(entry, Observations) else entry for entry in found
    ]


def mean_per_picture(
    pictures: Indices, values: Floats | Labels, count: int
) -> tuple[Indices, Floats]:
    """Several values of a picture become their mean.

    Args:
        pictures: (n,) below ``count``.
        values: (n,).
        count: number of pictures.

    Returns:
        The pictures with any value, in order, and their means.
    """
    counts = np.bincount(pictures, minlength=count)
    sums = np.bincount(pictures, np.asarray(values, dtype=np.float64), minlength=count)
    having = np.flatnonzero(counts)
    return having, sums[having] / counts[having]
