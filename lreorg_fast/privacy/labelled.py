"""Mechanisms without a guarantee, offered for comparison and labelled as what they are.

All of them report epsilon = infinity, so a ledger with a budget refuses them.
"""

from __future__ import annotations

import bisect
import itertools
import math
from typing import Any

import numpy as np

from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.privacy.arrays import Float64Array, as_float64, unit_rows
from lreorg_fast.privacy.mechanisms import (
    OUT_WEIGHT,
    GroupMechanism,
    Mechanism,
    checked_epsilon,
    checked_window,
)
from lreorg_fast.privacy.randomness import Sampler

MIN_LAPLACE_EPSILON = 1e-3
_DISTANCE_RANGE = 2.0  # cosine distance lies in [0, 2]
_COORDINATE_RANGE = 2.0  # a coordinate of a unit vector lies in [-1, 1]
_UNIFORM_STEPS = 1 << 53  # as many as a float64 in (0, 1] can tell apart evenly


class PaperWindow(GroupMechanism):
    """The paper's rule: an exponential mechanism restricted to ranks a..b. No guarantee.

    Inside the window P(j) is proportional to exp(-nominal_epsilon d_j / (2 Δ)) with Δ = 2, the
    range of cosine distance; outside it is 0. Because the window depends on the face, a group can
    be possible for one face and impossible for another: the ratio is infinite, whatever the
    nominal epsilon.

    Args:
        nominal_epsilon: in [0, 20]; shapes the draw, guarantees nothing.
        num_groups: m >= 2.
        window: (a, b), 1-based inclusive ranks; None is ``default_window``.
        sampler: None (the operating system's generator) outside tests.
    """

    name = "paper-window"
    promise = "no guarantee: which groups are possible depends on the face, so epsilon is infinite"

    def __init__(
        self,
        nominal_epsilon: float,
        num_groups: int,
        window: tuple[int, int] | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(num_groups, sampler)
        self._nominal_epsilon = checked_epsilon(nominal_epsilon)
        self._window = checked_window(window, self._num_groups)

    @property
    def claimed_epsilon(self) -> float:
        return math.inf

    @property
    def nominal_epsilon(self) -> float:
        """The number that the formula contains; not a privacy parameter."""
        return self._nominal_epsilon

    @property
    def window(self) -> tuple[int, int]:
        """(a, b): 1-based inclusive ranks."""
        return self._window

    def weights(self, distances: Any) -> list[int]:
        values = self._checked_distances(distances)
        first, last = self._window
        window = self._ranking(values)[first - 1 : last]
        weights = [0] * self._num_groups
        for group in window:
            excess = values[group] - values[window[0]]
            scaled = math.exp(-self._nominal_epsilon * excess / (2 * _DISTANCE_RANGE))
            weights[group] = max(1, math.floor(scaled * OUT_WEIGHT))
        return weights

    def draw(self, distances: Any) -> int:
        cumulative = list(itertools.accumulate(self.weights(distances)))
        return bisect.bisect_right(cumulative, self._sampler.randbelow(cumulative[-1]))


class KAnonymityFarthest(GroupMechanism):
    """The centre of the farthest group: k-anonymity's baseline. Deterministic, no guarantee.

    Args:
        num_groups: m >= 2.
        sampler: takes part in no draw; accepted so that every mechanism is made alike.
    """

    name = "k-anonymity"
    promise = (
        "no guarantee: the farthest group is a fixed function of the face, and whoever knows the "
        "rule can search for the face that it came from"
    )
    releases_centre = True

    def __init__(self, num_groups: int, sampler: Sampler | None = None) -> None:
        super().__init__(num_groups, sampler)

    @property
    def claimed_epsilon(self) -> float:
        return math.inf

    def weights(self, distances: Any) -> list[int]:
        weights = [0] * self._num_groups
        weights[self.draw(distances)] = 1
        return weights

    def draw(self, distances: Any) -> int:
        return int(np.argmax(self._checked_distances(distances)))


class LaplaceFeature(Mechanism):
    """Laplace noise on the identity feature itself, in the style of IdentityDP. No guarantee.

    Each coordinate of the L2-normalised feature gets Laplace noise of scale 2 / nominal_epsilon
    (2 is the range of one coordinate), and the sum is normalised again. In exact arithmetic one
    coordinate taken alone is nominal_epsilon-private; the whole feature, with L1 sensitivity
    2 sqrt(dim), only sqrt(dim) nominal_epsilon-private (22.6 times as much at dim 512). And
    floating-point Laplace noise does not even give that (Mironov 2012: its low bits reveal the
    input), so epsilon is reported as infinity.

    Args:
        nominal_epsilon: in [0.001, 20]; sets the noise, guarantees nothing.
        sampler: None (the operating system's generator) outside tests.
    """

    name = "laplace"
    promise = (
        "no guarantee: the nominal epsilon would hold for each coordinate alone, not for the "
        "whole feature, and floating-point noise does not keep even that"
    )

    def __init__(self, nominal_epsilon: float, sampler: Sampler | None = None) -> None:
        super().__init__(sampler)
        self._nominal_epsilon = checked_epsilon(nominal_epsilon)
        if self._nominal_epsilon < MIN_LAPLACE_EPSILON:
            raise ConfigError(
                f"epsilon of laplace is {nominal_epsilon!r}, but must be at least "
                f"{MIN_LAPLACE_EPSILON:g}, because the noise has scale 2 / epsilon; for a draw "
                "that ignores the face use the mechanism 'uniform'"
            )

    @property
    def claimed_epsilon(self) -> float:
        return math.inf

    @property
    def nominal_epsilon(self) -> float:
        """The number that sets the noise; not a privacy parameter of the feature."""
        return self._nominal_epsilon

    def perturb(self, feature: Any) -> Float64Array:
        """The noisy direction of one feature.

        Args:
            feature: (dim,) finite and not zero, torch or numpy.

        Returns:
            (dim,) float64 of unit length.

        Raises:
            PrivacyError: wrong shape, not finite, or zero.
        """
        array = as_float64(feature, "feature")
        if array.ndim != 1 or not array.any():
            raise PrivacyError(
                f"feature has shape {array.shape}, but must be (dim,) and not zero; pass the mean "
                "over tokens"
            )
        scale = _COORDINATE_RANGE / self._nominal_epsilon
        return unit_rows(unit_rows(array) + scale * self._noise(array.size))

    def _noise(self, size: int) -> Float64Array:
        """(size,) standard Laplace noise by inversion: a random sign times -log(uniform)."""
        draws = [self._sampler.randbelow(2 * _UNIFORM_STEPS) for _ in range(size)]
        signs = np.array([1.0 if draw % 2 else -1.0 for draw in draws])
        uniform = np.array([draw // 2 + 1 for draw in draws], dtype=np.float64) / _UNIFORM_STEPS
        noise: Float64Array = signs * -np.log(uniform)
        return noise
