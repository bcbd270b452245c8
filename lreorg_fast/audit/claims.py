"""What is audited: honest claims, which must pass, and false ones, which must be refuted."""

from __future__ import annotations

import bisect
import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lreorg_fast.privacy import (
    GroupMechanism,
    PaperWindow,
    RankWeights,
    Uniform,
    WindowRandomizedResponse,
)
from lreorg_fast.privacy.arrays import Float64Array
from lreorg_fast.privacy.mechanisms import checked_window
from lreorg_fast.privacy.randomness import Sampler

FALSE_EPSILON = 1.0
"""What the false claims claim: their faults are of a fixed size, and this shows them all."""
FEW_DRAWS, MANY_DRAWS = 20_000, 200_000
_STEPS = 1 << 60


@dataclass(frozen=True)
class Claim:
    """A mechanism, and the epsilon that somebody says it has.

    Attributes:
        name: for the report.
        epsilon: what is claimed.
        mechanism: what draws.
        honest: the claim is true.
        draws: a side that the black-box audit needs to see as much as it can.
    """

    name: str
    epsilon: float
    mechanism: GroupMechanism
    honest: bool
    draws: int


class _Faulty(GroupMechanism):
    """A mechanism with a fault, for the audit only; no registry knows it."""

    promise = "no guarantee: a control of the audit"
    fault: ClassVar[str]

    def __init__(self, num_groups: int, sampler: Sampler | None = None) -> None:
        super().__init__(num_groups, sampler)

    @property
    def claimed_epsilon(self) -> float:
        return math.inf

    @abstractmethod
    def shares(self, distances: Float64Array) -> Float64Array:
        """(m,) what the probabilities are proportional to."""

    def weights(self, distances: Any) -> list[int]:
        shares = self.shares(self._checked_distances(distances))
        return [math.floor(share * _STEPS) for share in shares / shares.sum()]

    def draw(self, distances: Any) -> int:
        cumulative = list(itertools.accumulate(self.weights(distances)))
        return bisect.bisect_right(cumulative, self._sampler.randbelow(cumulative[-1]))


class LeaveOwnGroupOut(_Faulty):
    """Uniform, except that a face never gets its nearest group. Its true epsilon is infinite."""

    name = "own group left out"

    def shares(self, distances: Float64Array) -> Float64Array:
        shares = np.ones(len(distances))
        shares[distances.argmin()] = 0.0
        return shares


class CoinThenUniform(_Faulty):
    """Randomized response with the formula of two outcomes: into the window with probability
    e^eps / (1 + e^eps), although it holds a quarter of the groups. Its true epsilon is
    eps + ln((m - w) / w), 1 + ln 3 at the default window."""

    name = "wrong formula"

    def shares(self, distances: Float64Array) -> Float64Array:
        first, last = checked_window(None, len(distances))
        inside = np.zeros(len(distances), bool)
        inside[np.argsort(distances, kind="stable")[first - 1 : last]] = True
        keep = math.exp(FALSE_EPSILON) / (1 + math.exp(FALSE_EPSILON))
        shares: Float64Array = np.where(inside, keep / inside.sum(), (1 - keep) / (~inside).sum())
        return shares


class ForgottenFactorTwo(_Faulty):
    """The exponential mechanism over all groups as if cosine distance had range 1 instead of 2.
    Its true epsilon is about twice what it claims."""

    name = "forgotten factor 2"

    def shares(self, distances: Float64Array) -> Float64Array:
        shares: Float64Array = np.exp(-FALSE_EPSILON * distances)
        return shares


def honest_claims(num_groups: int, epsilon: float) -> tuple[Claim, ...]:
    """The mechanisms that guarantee something, at what they claim of themselves."""
    window_rr = WindowRandomizedResponse(epsilon, num_groups)
    uniform = Uniform(num_groups)
    weighted = RankWeights.around(epsilon, num_groups)
    return (
        Claim(window_rr.name, window_rr.epsilon, window_rr, True, MANY_DRAWS),
        Claim(weighted.name, weighted.epsilon, weighted, True, FEW_DRAWS),
        Claim(uniform.name, uniform.epsilon, uniform, True, FEW_DRAWS),
    )


def false_claims(num_groups: int) -> tuple[Claim, ...]:
    """The controls. The paper's rule claims the epsilon that its formula contains."""
    paper = PaperWindow(FALSE_EPSILON, num_groups)
    draws = {CoinThenUniform: FEW_DRAWS, LeaveOwnGroupOut: MANY_DRAWS}
    faulty = (LeaveOwnGroupOut, CoinThenUniform, ForgottenFactorTwo)
    return (
        Claim(paper.name, FALSE_EPSILON, paper, False, FEW_DRAWS),
        *(
            Claim(kind.name, FALSE_EPSILON, kind(num_groups), False, draws.get(kind, MANY_DRAWS))
            for kind in faulty
        ),
    )
