"""Layers 4 and 5: an attacker who sees pictures, with everything but the key feature held fixed.

The attacker has the bundle: encodes an output, takes the identity feature apart and looks for the
nearest member of the public codebook. What the networks lose on the way is lost to the attacker
as well, so these bounds lie below those of layer 3; what they may not do is pass the claim.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.audit.claims import FEW_DRAWS, Claim
from lreorg_fast.audit.report import Finding
from lreorg_fast.audit.statistics import Counts, one_run_lower_bound
from lreorg_fast.audit.tables import Pair, Step, audited_bound, bound_finding, honestly
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media.pictures import Picture, resized
from lreorg_fast.models.pixels import to_pictures, to_tensor
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy.arrays import Float64Array, face_feature, unit_rows

_BATCH = 32
IDENTITY = "identity"
_PAIRS = 8
Indices = NDArray[np.int64]


@dataclass
class Attacker:
    """Reads drawn groups off outputs of one bundle.

    Args:
        anonymizer: with the bundle.
        pictures: aligned faces of different people; the last one lends the residual of layer 4.
        step: told after every picture that was made.
    """

    anonymizer: Anonymizer
    pictures: Sequence[Picture]
    step: Step

    @cached_property
    def latents(self) -> Tensor:
        """(N, rows, dim) of the people."""
        size = self.anonymizer.encoder.config.input_size
        return self._encoded([resized(picture, (size, size)) for picture in self.pictures])

    @cached_property
    def distances(self) -> Float64Array:
        """(N, m) of the people to the groups."""
        found: Float64Array = (
            1.0 - self._features(self.latents) @ self.anonymizer.codebook.directions.T
        )
        return found

    def read(self, latents: Tensor, groups: Indices, members: Indices) -> Indices:
        """(N,) groups that are read off the outputs, into which these were drawn.

        Args:
            latents: (N, rows, dim) of the originals, whose residual and kept attributes stay.
            groups, members: (N,) what replaces the identity.
        """
        codebook = self.anonymizer.codebook
        rows = torch.from_numpy(codebook.members[groups, members])[:, None].to(latents)
        found = []
        for start in range(0, len(latents), _BATCH):
            part = slice(start, start + _BATCH)
            found.append(self._read(latents[part], rows[part]))
            self.step(len(found[-1]))
        return np.concatenate(found)

    @cached_property
    def fixed_residual(self) -> Indices:
        """(m, n) what is read off every possible output of the last person."""
        groups, members = self.anonymizer.codebook.members.shape[:2]
        every = np.divmod(np.arange(groups * members), members)
        latents = self.latents[-1:].expand(len(every[0]), -1, -1)
        return self.read(latents, *every).reshape(groups, members)

    @property
    def accuracy(self) -> float:
        """Share of those that are read rightly."""
        groups = np.arange(len(self.fixed_residual))[:, None]
        return float((self.fixed_residual == groups).mean())

    def _read(self, latents: Tensor, rows: Tensor) -> Indices:
        engine, generator = self.anonymizer.engine, self.anonymizer.generator
        kept = [name for name in DEFAULT_KEEP if name in self.anonymizer.keywords]
        with torch.inference_mode():
            made = generator.synthesis(engine.reorganize(latents, {IDENTITY: rows}, kept))
            outputs = to_pictures(made.clamp(-1, 1))
        size = self.anonymizer.encoder.config.input_size
        seen = self._features(self._encoded([resized(o, (size, size)) for o in outputs]))
        codebook = self.anonymizer.codebook
        known = unit_rows(codebook.members.reshape(-1, codebook.dim).astype(np.float64))
        nearest = (seen @ known.T).argmax(axis=1)
        return cast(Indices, nearest // codebook.members.shape[1])

    def _encoded(self, pictures: Sequence[Picture]) -> Tensor:
        starts = range(0, len(pictures), _BATCH)
        device = self.anonymizer.device
        with torch.inference_mode():
            return torch.cat(
                [
                    self.anonymizer.encoder(to_tensor(pictures[i : i + _BATCH]).to(device))
                    for i in starts
                ]
            )

    def _features(self, latents: Tensor) -> Float64Array:
        """(N, dim) unit identity features."""
        with torch.inference_mode():
            features, _ = self.anonymizer.engine.disentangle(latents, IDENTITY)
        rows = features.expand(len(latents), -1, -1).float().cpu()
        dim = self.anonymizer.codebook.dim
        return unit_rows(np.stack([face_feature(row, dim) for row in rows]))


def end_to_end(
    attacker: Attacker, claims: Sequence[Claim], step: Step, draws: int = FEW_DRAWS
) -> Iterator[Finding]:
    """Layer 4: as layer 3, with what is read off the picture in the place of what was drawn.

    Every possible output of one fixed person is made once; which of them comes is drawn by the
    mechanism, from the identity features of pairs of other people.
    """
    table = attacker.fixed_residual
    note = (
        f"The attacker reads the drawn group off {attacker.accuracy:.1%} of the "
        f"{table.size:,} possible outputs of one person."
    )
    pairs = _pairs(attacker.distances)

    def drawer(claim: Claim, distances: Float64Array, count: int) -> Counts:
        return np.array([_seen(half, table) for half in honestly(claim, distances, count)])

    for claim in (replace(claim, draws=draws) for claim in claims):
        bound = audited_bound(claim, pairs, drawer, step)
        sample = f"{draws:,} draws a side, {len(pairs)} pairs of people"
        yield bound_finding(4, claim, bound, sample, judged=False, note=note)


def _pairs(distances: Float64Array) -> list[Pair]:
    """Pairs of people, the last one (whose residual is used) left out."""
    count = min(_PAIRS, (len(distances) - 1) // 2)
    return [(distances[2 * i], distances[2 * i + 1]) for i in range(count)]


def _seen(drawn: Counts, table: Indices) -> Counts:
    """Counts (m,) of drawn groups -> counts (m,) of read groups; members are equally likely."""
    groups, members = table.shape
    even = np.full(members, 1 / members)
    each = np.random.default_rng().multinomial(drawn, even)  # (m, n)
    return np.bincount(table.ravel(), weights=each.ravel(), minlength=groups).astype(np.int64)


def one_run(attacker: Attacker, claims: Sequence[Claim], step: Step) -> Iterator[Finding]:
    """Layer 5: each person's identity is replaced once, drawn from their own feature or from the
    next person's as a coin decides; the attacker guesses the coins of the half in which the
    evidence is strongest."""
    people = len(attacker.latents)
    error = 1.0 - attacker.accuracy
    others = np.roll(np.arange(people), -1)
    for claim in claims:
        coins = np.array([secrets.randbelow(2) for _ in range(people)], bool)
        source = np.where(coins, others, np.arange(people))
        groups = np.array([claim.mechanism.draw(attacker.distances[i]) for i in source])
        count = attacker.anonymizer.codebook.members.shape[1]
        members = np.array([secrets.randbelow(count) for _ in range(people)])
        found = attacker.read(attacker.latents, groups, members)
        evidence = np.array(
            [
                _evidence(claim, attacker.distances[[i, others[i]]], found[i], error)
                for i in range(people)
            ]
        )
        confident = np.argsort(-np.abs(evidence), kind="stable")[: people // 2]
        correct = int(((evidence > 0) == coins)[confident].sum())
        bound = one_run_lower_bound(correct, len(confident))
        step(1)
        sample = f"{people} people, {correct} of {len(confident)} guesses right"
        yield bound_finding(5, claim, bound, sample)


def _evidence(claim: Claim, distances: Float64Array, group: int, error: float) -> float:
    """ln P(read | the other's feature) - ln P(read | own feature), where reading sometimes errs."""
    own, other = (
        (1 - error) * claim.mechanism.probabilities(row)[group] + error / row.size
        for row in distances
    )
    return math.log(max(other, 1e-300)) - math.log(max(own, 1e-300))
