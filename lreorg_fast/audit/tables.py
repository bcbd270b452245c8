"""Layers 1 to 3: the exact table, the sampler against it, and draws alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from lreorg_fast.audit.claims import Claim
from lreorg_fast.audit.report import Finding
from lreorg_fast.audit.statistics import ALPHA, Counts, chi_square_p, epsilon_lower_bound
from lreorg_fast.privacy import GroupMechanism, WindowRandomizedResponse
from lreorg_fast.privacy.arrays import Float64Array, unit_rows
from lreorg_fast.privacy.mechanisms import floor_exp

Step = Callable[[int], None]
Pair = tuple[Float64Array, Float64Array]
# floor_exp works with 60 digits; more than 128 bits of scale would not be exact at e^20.
_SCALE = 1 << 128
_FACES_OF_A_KIND = 126
CHI_SQUARE_DRAWS = 100_000


def isotropic_directions(num_groups: int, dim: int = 512, seed: int = 1) -> Float64Array:
    """(num_groups, dim) unit rows that point anywhere: the codebook of the controls."""
    return unit_rows(np.random.default_rng(seed).standard_normal((num_groups, dim)))


def audit_faces(directions: Float64Array, seed: int = 2) -> Float64Array:
    """(n, dim) unit features to audit with, about 500: centres of groups, their opposites,
    differences of centres, and random ones."""
    generator = np.random.default_rng(seed)
    groups, dim = directions.shape
    count = min(_FACES_OF_A_KIND, groups)
    centres = directions[generator.permutation(groups)[:count]]
    differences = centres - directions[generator.permutation(groups)[:count]]
    # A centre minus itself has no direction.
    differences[~differences.any(axis=1)] = directions[0] - directions[1]
    random = generator.standard_normal((_FACES_OF_A_KIND, dim))
    return unit_rows(np.concatenate([centres, -centres, differences, random]))


def audit_pairs(directions: Float64Array, seed: int = 3) -> list[Pair]:
    """Distances (m,) of 8 pairs of faces: four of a centre and its opposite, four random."""
    groups, dim = directions.shape
    random = unit_rows(np.random.default_rng(seed).standard_normal((8, dim)))
    chosen = [j * groups // 4 for j in range(4)]
    faces = [(directions[j], -directions[j]) for j in chosen]
    faces += [(random[2 * i], random[2 * i + 1]) for i in range(4)]
    return [(1.0 - directions @ a, 1.0 - directions @ b) for a, b in faces]


# ---- layer 1


def largest_ratio(mechanism: GroupMechanism, distances: Float64Array) -> Fraction | None:
    """The largest P(j | f) / P(j | f') over groups and faces, exactly; None is infinity.

    Args:
        mechanism: with integer weights.
        distances: (faces, groups).
    """
    lowest: list[Fraction | None] = [None] * mechanism.num_groups
    highest = [Fraction(0)] * mechanism.num_groups
    known: dict[tuple[int, int], Fraction] = {}  # few different numbers, and a Fraction is slow
    for row in distances:
        weights = mechanism.weights(row)
        total = sum(weights)
        for group, weight in enumerate(weights):
            share = known.get((weight, total))
            if share is None:
                share = known[weight, total] = Fraction(weight, total)
            low = lowest[group]
            if low is None or share < low:
                lowest[group] = share
            highest[group] = max(highest[group], share)
    pairs = [(high, low) for high, low in zip(highest, lowest, strict=True) if high > 0]
    if any(low == 0 for _, low in pairs):
        return None
    return max(high / low for high, low in pairs if low)


def within(ratio: Fraction | None, epsilon: float) -> bool:
    """ratio <= e^epsilon for epsilon in [0, 20], safely: e^epsilon is taken a little too small,
    by less than one part in 10^38."""
    return ratio is not None and ratio * _SCALE <= floor_exp(epsilon, _SCALE)


def white_box(claims: Sequence[Claim], distances: Float64Array, step: Step) -> Iterator[Finding]:
    """Layer 1: the largest log-ratio of the exact tables, against the claim."""
    for claim in claims:
        ratio = largest_ratio(claim.mechanism, distances)
        step(1)
        yield Finding(
            layer=1,
            name=claim.name,
            claimed=claim.epsilon,
            honest=claim.honest,
            measured=math.inf if ratio is None else math.log(ratio),
            what="largest log-ratio, exact",
            sample=f"{len(distances)} faces, all pairs",
            as_expected=within(ratio, claim.epsilon) == claim.honest,
        )


# ---- layer 2


def real_draws(mechanism: GroupMechanism, distances: Float64Array, draws: int) -> Counts:
    """(m,) counts of draws of the mechanism itself."""
    groups = [mechanism.draw(distances) for _ in range(draws)]
    return np.bincount(groups, minlength=mechanism.num_groups)


def sampler(
    claims: Sequence[Claim], distances: Float64Array, step: Step, draws: int = CHI_SQUARE_DRAWS
) -> Iterator[Finding]:
    """Layer 2: real draws of one face against the table, and against a wrong one as a control."""
    for claim in (claim for claim in claims if claim.honest):
        counts = real_draws(claim.mechanism, distances, draws)
        table = claim.mechanism.probabilities(distances)
        step(1)
        yield _chi_square(claim, counts, table, draws, right=True)
        wrong = _another_table(claim, distances)
        yield _chi_square(claim, counts, wrong, draws, right=False)


def _another_table(claim: Claim, distances: Float64Array) -> Float64Array:
    groups = claim.mechanism.num_groups
    return WindowRandomizedResponse(claim.epsilon + 0.5, groups).probabilities(distances)


def _chi_square(
    claim: Claim, counts: Counts, table: Float64Array, draws: int, right: bool
) -> Finding:
    p = chi_square_p(counts, table)
    return Finding(
        layer=2,
        name=claim.name if right else f"{claim.name}, table of epsilon + 0.5",
        claimed=claim.epsilon,
        honest=right,
        measured=p,
        what="p-value of chi-square",
        sample=f"{draws:,} draws",
        as_expected=(p > ALPHA) == right,
    )


# ---- layer 3

Drawer = Callable[[Claim, Float64Array, int], Counts]


def from_mechanism(claim: Claim, distances: Float64Array, draws: int) -> Counts:
    """(2, m) two halves of real draws."""
    halves = [real_draws(claim.mechanism, distances, draws // 2) for _ in range(2)]
    return np.array(halves)


def from_table(claim: Claim, distances: Float64Array, draws: int) -> Counts:
    """(2, m) two halves of draws from the exact table, as many as one likes in no time."""
    table = claim.mechanism.probabilities(distances)
    return np.random.default_rng().multinomial(draws // 2, table / table.sum(), size=2)


def honestly(claim: Claim, distances: Float64Array, draws: int) -> Counts:
    """Real draws of what is claimed honestly; a control shows the audit and not its sampler."""
    return (from_mechanism if claim.honest else from_table)(claim, distances, draws)


def black_box(
    claims: Sequence[Claim],
    pairs: Sequence[Pair],
    step: Step,
    drawer: Drawer = honestly,
) -> Iterator[Finding]:
    """Layer 3: a lower bound on epsilon from draws alone, the largest of all pairs and both
    directions, at a joint error rate of :data:`ALPHA`."""
    for claim in claims:
        bound = audited_bound(claim, pairs, drawer, step)
        yield bound_finding(3, claim, bound, f"{claim.draws:,} draws a side, {len(pairs)} pairs")


def bound_finding(
    layer: int, claim: Claim, bound: float, sample: str, judged: bool = True, note: str = ""
) -> Finding:
    """A lower bound on epsilon; where it is judged, it must stay below a true claim only."""
    return Finding(
        layer=layer,
        name=claim.name,
        claimed=claim.epsilon,
        honest=claim.honest,
        measured=bound,
        what="lower bound on epsilon",
        sample=sample,
        as_expected=(bound <= claim.epsilon) == claim.honest if judged else None,
        note=note,
    )


def audited_bound(claim: Claim, pairs: Sequence[Pair], drawer: Drawer, step: Step) -> float:
    """The largest lower bound over pairs of faces and both directions; never below 0."""
    alpha = ALPHA / (2 * len(pairs))
    bounds = [0.0]
    for first, second in pairs:
        a = drawer(claim, first, claim.draws)
        b = drawer(claim, second, claim.draws)
        bounds += [epsilon_lower_bound(a, b, alpha), epsilon_lower_bound(b, a, alpha)]
        step(1)
    return max(bounds)
