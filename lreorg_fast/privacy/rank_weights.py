"""Rank weights: any preference among ranks, with the epsilon that it has by construction."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Any

from lreorg_fast.errors import ConfigError
from lreorg_fast.privacy.arrays import checked_count
from lreorg_fast.privacy.mechanisms import (
    MAX_EPSILON,
    OUT_WEIGHT,
    GroupMechanism,
    checked_epsilon,
    checked_window,
    floor_exp,
)
from lreorg_fast.privacy.randomness import Sampler

_LARGEST_WEIGHT = 1 << 128


class RankWeights(GroupMechanism):
    """The group at rank k by distance gets integer weight w_k, whatever the face.

    Every face has the same weights in another order, so their total is the same for all, and
    P(j|f) / P(j|f') is w_k / w_l for some ranks k and l: at most max(w) / min(w). Hence the draw is
    epsilon-locally differentially private with epsilon = ln(max(w) / min(w)), exactly and tightly,
    by the argument of window randomized response, which is the case of two different weights.

    Args:
        weights: one integer from 1 to 2^128 per rank, nearest first; two or more.
        sampler: None (the operating system's generator) outside tests.

    Raises:
        ConfigError: other weights, or an epsilon above 20.
    """

    name = "rank-weights"
    promise = (
        "epsilon-local differential privacy of the replaced key feature: between any two people "
        "the odds of every group differ by at most a factor e^epsilon"
    )

    def __init__(self, weights: Sequence[int], sampler: Sampler | None = None) -> None:
        super().__init__(len(weights), sampler)
        self._weights = [checked_count(f"weight {k}", w, 1) for k, w in enumerate(weights, 1)]
        if max(self._weights) > _LARGEST_WEIGHT:
            raise ConfigError(f"a weight is above 2^128; divide all of them ({max(weights)})")
        self._cumulative = list(itertools.accumulate(self._weights))
        self._epsilon = _epsilon_of(min(self._weights), max(self._weights))

    @classmethod
    def around(
        cls,
        epsilon: float,
        num_groups: int,
        window: tuple[int, int] | None = None,
        sampler: Sampler | None = None,
    ) -> RankWeights:
        """Weights that are largest on the ranks of a window and fall towards both ends.

        Rank k has weight floor(e^(epsilon u) 2^40): u is 1 in the window and falls linearly to 0 at
        the nearest and the farthest rank, where those are outside. Compared with window
        randomized response at the same epsilon, a group just outside the window is likelier than
        the person's own, and the window as a whole less likely.

        Args:
            epsilon: in [0, 20].
            num_groups: m >= 2.
            window: (a, b), 1-based inclusive ranks; None is the default window.
            sampler: None outside tests.

        Raises:
            ConfigError: an argument is out of range.
        """
        asked = checked_epsilon(epsilon)
        first, last = checked_window(window, checked_count("num_groups", num_groups, 2))

        def height(rank: int) -> float:
            if rank < first:
                return (rank - 1) / (first - 1)
            return 1.0 if rank <= last else (num_groups - rank) / (num_groups - last)

        ranks = range(1, num_groups + 1)
        made = cls([floor_exp(asked * height(k), OUT_WEIGHT) for k in ranks], sampler)
        # The floors make the true ratio a little smaller; what was asked for is what is reported.
        made._epsilon = asked
        return made

    @property
    def claimed_epsilon(self) -> float:
        return self._epsilon

    def weights(self, distances: Any) -> list[int]:
        weights = [0] * self._num_groups
        for group, weight in zip(self._ranking(distances), self._weights, strict=True):
            weights[group] = weight
        return weights

    def draw(self, distances: Any) -> int:
        ranking = self._ranking(distances)
        r = self._sampler.randbelow(self._cumulative[-1])
        return ranking[bisect.bisect_right(self._cumulative, r)]


def _epsilon_of(least: int, most: int) -> float:
    """The smallest number of a grid of 1e-12 at which e^epsilon >= most / least holds exactly."""
    if floor_exp(MAX_EPSILON, least) < most:
        raise ConfigError(
            f"the weights have a ratio of {most / least:.3g}, which is an epsilon above "
            f"{MAX_EPSILON:g}; choose more even ones"
        )
    epsilon = max(0.0, math.log(most) - math.log(least) - 1e-12)
    while floor_exp(min(epsilon, MAX_EPSILON), least) < most:
        epsilon += 1e-12
    return min(epsilon, MAX_EPSILON)
