"""Which pictures are compared with which, in bounded memory: no n x n matrix is ever made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import Indices, Labels

# 20 MB of float32. At FAR 1e-4 500 accepted pairs decide: the rate is known to 4.5%.
MOST_IMPOSTORS = 5_000_000
# Of one picture with others of its person: more say little that is new.
MOST_OTHERS = 20
_CHUNK = 65_536


@dataclass(frozen=True)
class Impostors:
    """Similarities of pairs of different people.

    Attributes:
        scores: (n,) float32.
        sampled: they are a seeded sample and not all pairs.
    """

    scores: np.ndarray[tuple[int], np.dtype[np.float32]]
    sampled: bool

    def __str__(self) -> str:
        return f"{len(self.scores):,} impostor pairs" + (" (a sample)" if self.sampled else "")


def seen(embeddings: Floats) -> Labels:
    """(N,) rows in which the recognizer saw a face."""
    return np.asarray(np.isfinite(embeddings).all(axis=1))


def impostors(
    embeddings: Floats,
    subjects: Indices,
    most: int = MOST_IMPOSTORS,
    seed: int = 0,
    others: Floats | None = None,
) -> Impostors:
    """Similarities of all pairs of different people, or of about ``most`` of them.

    A sample is drawn by dealing the pictures at random into equal blocks and comparing within the
    blocks: every picture takes part equally often.

    Args:
        embeddings: (N, D) unit rows; NaN rows are left out.
        subjects: (N,).
        most: pairs, at most about so many.
        seed: of the sample.
        others: (N, D) of the same pictures by another hand, with which ``embeddings`` are compared;
            (i, j) and (j, i) are then two pairs. None compares them with each other.
    """
    known = seen(embeddings)
    usable = np.flatnonzero(known if others is None else known & seen(others))
    n, each = len(usable), 2 if others is None else 1
    sampled = n * (n - 1) // each > most
    block = max(n, 1)
    if sampled:
        usable = np.random.default_rng(seed).permutation(usable)
        block = max(2, each * most // n)
    scores = [np.zeros(0, np.float32)]
    for start in range(0, n, block):
        part = usable[start : start + block]
        rows = embeddings[part].astype(np.float32)
        columns = rows if others is None else others[part].astype(np.float32)
        different = subjects[part][:, None] != subjects[part][None, :]
        if others is None:
            different = np.triu(different, k=1)
        scores.append((rows @ columns.T)[different])
    return Impostors(np.concatenate(scores), sampled)


def genuine_pairs(subjects: Indices, both_ways: bool) -> tuple[Indices, Indices]:
    """Pairs of different pictures of one person, each with at most :data:`MOST_OTHERS` others.

    Args:
        subjects: (N,).
        both_ways: (i, j) and (j, i) are two pairs, because the first is seen in one set and the
            second in another.

    Returns:
        Two (n,) lists of numbers.
    """
    order, start, count, place = by_person(subjects)
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in range(1, min(int(count.max(initial=1)) - 1, MOST_OTHERS) + 1):
        paired = count > step
        partner = order[start[paired] + (place[paired] + step) % count[paired]]
        firsts.append(order[paired])
        seconds.append(partner)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    if both_ways:
        return first, second
    pairs = np.unique(np.sort(np.stack([first, second], axis=1), axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def by_person(subjects: Indices) -> tuple[Indices, Indices, Indices, Indices]:
    """Pictures sorted by person; for each its person's first position, count, own place in it."""
    order = np.argsort(subjects, kind="stable").astype(np.int64)
    _, first, inverse, counts = np.unique(
        subjects[order], return_index=True, return_inverse=True, return_counts=True
    )
    start, count = first[inverse].astype(np.int64), counts[inverse].astype(np.int64)
    return order, start, count, np.arange(len(order)) - start


def paired_cosines(first: Floats, second: Floats, rows: Indices, other_rows: Indices) -> Floats:
    """(n,) cosines of row ``rows[i]`` of the one with row ``other_rows[i]`` of the other."""
    parts = [np.zeros(0)]
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        parts.append(np.einsum("nd,nd->n", first[rows[part]], second[other_rows[part]]))
    return np.concatenate(parts)


def stranger_means(probes: Floats, gallery: Floats, rows: Indices, subjects: Indices) -> Floats:
    """(n,) mean cosine of the probes ``rows`` to everybody else's pictures, from sums alone.

    Args:
        probes, gallery: (N, D) unit rows of the same N pictures; NaN rows of the gallery are left
            out, the probes ``rows`` must be finite.
        rows: (n,).
        subjects: (N,).

    Returns:
        NaN where there is nobody else.
    """
    known = seen(gallery)
    people, number = np.unique(subjects, return_inverse=True)
    sums = np.zeros((len(people), gallery.shape[1]))
    np.add.at(sums, number[known], gallery[known])
    counts = np.bincount(number[known], minlength=len(people))
    others = counts.sum() - counts[number[rows]]
    total = probes[rows] @ sums.sum(axis=0)
    own = paired_cosines(probes, sums, rows, number[rows])
    return np.where(others > 0, (total - own) / np.maximum(others, 1), np.nan)


def blocks(count: int, size: int = 512) -> Iterator[slice]:
    """Slices that cover ``count`` rows."""
    return (slice(start, start + size) for start in range(0, count, size))
