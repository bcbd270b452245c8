"""Mechanisms with a guarantee: which group replaces a face, drawn with differential privacy.

A group mechanism sees the distances of one face to all public group means and draws one group.
Its probabilities are ratios of integers, so the exact table of the draw can be written down and
checked. docs/privacy.md has the definition, the theorem and its proof.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from decimal import Context, Decimal
from typing import Any, ClassVar

import numpy as np

from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.privacy.arrays import Float64Array, as_float64, checked_count
from lreorg_fast.privacy.randomness import Sampler, checked_sampler

DEFAULT_EPSILON = 1.0
"""Epsilon per person per release where the caller gives none."""
MAX_EPSILON = 20.0
"""e^20 is 5e8: beyond it the group is practically certain and the number says nothing."""
OUT_WEIGHT = 1 << 40
"""Integer weight of a group outside the window; inside it is floor(e^epsilon 2^40)."""

# e^20 2^40 has 21 digits, so 60 digits leave 39 after the point.
_DIGITS = Context(prec=60)


class Mechanism(ABC):
    """What group and feature mechanisms share: a name, an epsilon and an honest label.

    Attributes:
        name: key in :data:`lreorg_fast.privacy.MECHANISMS`.
        promise: one sentence, what the mechanism gives when drawn from the system's generator.
        ignores_face: the draw does not depend on the face, so a pseudonym's key may repeat it.
    """

    name: ClassVar[str]
    promise: ClassVar[str]
    ignores_face: ClassVar[bool] = False

    def __init__(self, sampler: Sampler | None) -> None:
        self._sampler = checked_sampler(sampler)
        if self._sampler.repeats and not self.ignores_face:
            raise ConfigError(
                f"mechanism '{self.name}' looks at the face, so a pseudonym must not repeat its "
                "draw; use the mechanism 'uniform' with pseudonyms, and no rule 'randomized'"
            )

    @property
    def sampler(self) -> Sampler:
        """Where the draws come from."""
        return self._sampler

    @property
    @abstractmethod
    def claimed_epsilon(self) -> float:
        """Epsilon of one draw from the system's generator; infinity where nothing is given."""

    @property
    def epsilon(self) -> float:
        """Epsilon of one draw as it must be reported; infinity where there is no guarantee."""
        return self.claimed_epsilon if self._sampler.secure else math.inf

    @property
    def guarantee(self) -> str:
        """One sentence: what a draw guarantees, or that it guarantees nothing."""
        return self._sampler.guarantee or self.promise


class GroupMechanism(Mechanism):
    """Draws one of ``num_groups`` groups from a face's distances to their means.

    Attributes:
        releases_centre: the replacement is the group's centre instead of a random member.
    """

    releases_centre: ClassVar[bool] = False

    def __init__(self, num_groups: int, sampler: Sampler | None) -> None:
        super().__init__(sampler)
        self._num_groups = checked_count("num_groups", num_groups, 2)

    @property
    def num_groups(self) -> int:
        """Number of groups m."""
        return self._num_groups

    @abstractmethod
    def weights(self, distances: Any) -> list[int]:
        """Integer weight of each group; the draw's probabilities are weight / sum(weights).

        Args:
            distances: (num_groups,) finite real numbers, torch or numpy.

        Raises:
            PrivacyError: wrong shape, not numeric, NaN or infinite.
        """

    @abstractmethod
    def draw(self, distances: Any) -> int:
        """One group in [0, num_groups); arguments and errors as :meth:`weights`."""

    def probabilities(self, distances: Any) -> Float64Array:
        """(num_groups,) float64: the exact table of :meth:`draw`, each entry correctly rounded."""
        weights = self.weights(distances)
        total = sum(weights)
        return np.array([weight / total for weight in weights], dtype=np.float64)

    def _checked_distances(self, distances: Any) -> Float64Array:
        array = as_float64(distances, "distances")
        if array.shape != (self._num_groups,):
            raise PrivacyError(
                f"distances has shape {array.shape}, but must be ({self._num_groups},), one per "
                "group; pass the distances of one face"
            )
        return array

    def _ranking(self, distances: Any) -> list[int]:
        """Groups from nearest to farthest, ties by index."""
        ranking: list[int] = np.argsort(self._checked_distances(distances), kind="stable").tolist()
        return ranking


class WindowRandomizedResponse(GroupMechanism):
    """Randomized response on a rank window: epsilon-local differential privacy, exactly.

    The window W holds the w = b - a + 1 groups at ranks a..b by distance. Each group in W has
    integer weight A = floor(e^epsilon 2^40), each other one B = 2^40; the total
    T = w A + (m - w) B is the same for every face. The draw is r = randbelow(T): r < w A gives
    window[r // A], else outside[(r - w A) // B]. No floating-point number is involved after
    ranking. Because of the floor, 1 <= A/B <= e^epsilon, so the table that is implemented (not
    only its formula) satisfies P(j|f) <= e^epsilon P(j|f') for all groups and all faces. The
    proof is in docs/privacy.md.

    Args:
        epsilon: in [0, 20]; 0 is the uniform draw.
        num_groups: m >= 2.
        window: (a, b), 1-based inclusive ranks, 1 <= a <= b <= m; None is
            :func:`default_window`.
        sampler: None (the operating system's generator) outside tests.

    Raises:
        ConfigError: an argument is out of range.
    """

    name = "window-rr"
    promise = (
        "epsilon-local differential privacy of the replaced key feature: between any two people "
        "the odds of every group differ by at most a factor e^epsilon"
    )

    def __init__(
        self,
        epsilon: float,
        num_groups: int,
        window: tuple[int, int] | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(num_groups, sampler)
        self._epsilon = checked_epsilon(epsilon)
        self._window = checked_window(window, self._num_groups)
        self._in_weight = floor_exp(self._epsilon, OUT_WEIGHT)

    @property
    def claimed_epsilon(self) -> float:
        return self._epsilon

    @property
    def window(self) -> tuple[int, int]:
        """(a, b): 1-based inclusive ranks."""
        return self._window

    def weights(self, distances: Any) -> list[int]:
        first, last = self._window
        weights = [OUT_WEIGHT] * self._num_groups
        for group in self._ranking(distances)[first - 1 : last]:
            weights[group] = self._in_weight
        return weights

    def draw(self, distances: Any) -> int:
        first, last = self._window
        ranking = self._ranking(distances)
        width = last - first + 1
        inside = width * self._in_weight
        r = self._sampler.randbelow(inside + (self._num_groups - width) * OUT_WEIGHT)
        if r < inside:
            return ranking[first - 1 + r // self._in_weight]
        place = (r - inside) // OUT_WEIGHT
        return ranking[place if place < first - 1 else place + width]


class Uniform(GroupMechanism):
    """Every group with the same probability, whatever the face: epsilon = 0.

    Args:
        num_groups: m >= 2.
        sampler: None (the operating system's generator) outside tests.
    """

    name = "uniform"
    promise = "epsilon = 0: the group does not depend on the face"
    ignores_face = True

    def __init__(self, num_groups: int, sampler: Sampler | None = None) -> None:
        super().__init__(num_groups, sampler)

    @property
    def claimed_epsilon(self) -> float:
        return 0.0

    def weights(self, distances: Any) -> list[int]:
        self._checked_distances(distances)
        return [1] * self._num_groups

    def draw(self, distances: Any) -> int:
        self._checked_distances(distances)
        return self._sampler.randbelow(self._num_groups)


def default_window(num_groups: int) -> tuple[int, int]:
    """Ranks m/8 + 1 .. 3m/8: neither the face's own group nor its opposite.

    For small m the window still starts at rank 2 or later and holds at least one group.
    """
    first = max(2, num_groups // 8 + 1)
    return first, max(first, 3 * num_groups // 8)


def checked_window(window: tuple[int, int] | None, num_groups: int) -> tuple[int, int]:
    """``window`` as two ints, or the default; ConfigError unless 1 <= a <= b <= num_groups."""
    if window is None:
        return default_window(num_groups)
    try:
        first, last = window
    except (TypeError, ValueError) as failure:
        raise ConfigError(
            f"window is {window!r}, but must be two ranks (a, b); write for example "
            f"{default_window(num_groups)}"
        ) from failure
    first, last = checked_count("window start", first, 1), checked_count("window end", last, 1)
    if not first <= last <= num_groups:
        raise ConfigError(
            f"window is ({first}, {last}), but ranks must satisfy 1 <= a <= b <= {num_groups}; "
            f"write for example {default_window(num_groups)}"
        )
    return first, last


def checked_epsilon(epsilon: object) -> float:
    """``epsilon`` as float, or ConfigError unless it is a number in [0, MAX_EPSILON]."""
    if (
        isinstance(epsilon, bool)
        or not isinstance(epsilon, numbers.Real)
        or not 0.0 <= float(epsilon) <= MAX_EPSILON
    ):
        raise ConfigError(
            f"epsilon is {epsilon!r}, but must be a number from 0 to {MAX_EPSILON:g}; "
            f"{DEFAULT_EPSILON:g} is the default"
        )
    return float(epsilon)


def floor_exp(epsilon: float, scale: int) -> int:
    """floor(e^epsilon scale), never above the true value; epsilon in [0, MAX_EPSILON].

    ``Decimal.exp`` is correctly rounded, so its next smaller number is a lower bound. For
    epsilon > 0, e^epsilon is irrational and the bound has the floor of the true value unless that
    lies within 1e-38 above an integer, where the result is one too small, which is safe.
    e^epsilon >= 1 makes ``scale`` itself a valid floor, which settles epsilon = 0 exactly.
    """
    power = _DIGITS.exp(Decimal(epsilon)).next_minus(_DIGITS)
    return max(scale, int(_DIGITS.multiply(power, Decimal(scale)).next_minus(_DIGITS)))
