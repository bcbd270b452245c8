"""Group identity anonymizer (GIA): another identity feature, drawn by a mechanism."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.privacy.arrays import (
    Float32Array,
    Float64Array,
    face_feature,
    float32_table,
    unit_rows,
)
from lreorg_fast.privacy.labelled import LaplaceFeature
from lreorg_fast.privacy.mechanisms import GroupMechanism
from lreorg_fast.privacy.replacement import Replacement


@dataclass(frozen=True, eq=False)
class Codebook:
    """Public groups of identity features, clustered from latents of the mapping network.

    Args:
        means: (m, dim) group means, unit length or not; only their directions are used. m >= 2.
        members: (m, n, dim) key features of each group's members, not normalised. n >= 1.

    Both are kept as read-only float32 copies.

    Raises:
        ConfigError: shapes that do not fit each other, NaN or infinity, a mean or member of zero.
    """

    means: Float32Array
    members: Float32Array

    def __post_init__(self) -> None:
        for name, ndim in (("means", 2), ("members", 3)):
            array = float32_table(f"codebook {name}", getattr(self, name), ndim)
            object.__setattr__(self, name, array)
        if (
            self.means.shape[0] < 2
            or self.members.shape[0] != self.means.shape[0]
            or self.members.shape[2] != self.means.shape[1]
        ):
            raise ConfigError(
                f"codebook has means of shape {self.means.shape} and members of shape "
                f"{self.members.shape}, but needs (m, dim) and (m, n, dim) with m >= 2; rebuild it"
            )

    @property
    def num_groups(self) -> int:
        """Number of groups m."""
        return int(self.means.shape[0])

    @property
    def dim(self) -> int:
        """Size of the key feature."""
        return int(self.means.shape[1])

    @cached_property
    def directions(self) -> Float64Array:
        """(m, dim) float64 group means of unit length."""
        return unit_rows(self.means.astype(np.float64))

    @cached_property
    def typical_norm(self) -> float:
        """Median 2-norm of the members: the scale of a key feature, and nothing of a face."""
        return float(np.median(np.linalg.norm(self.members.astype(np.float64), axis=-1)))

    def centre(self, group: int) -> Float32Array:
        """(dim,) float32 mean of a group's members, on their scale."""
        centre: Float32Array = self.members[group].mean(axis=0, dtype=np.float64).astype(np.float32)
        return centre


class GroupIdentityAnonymizer:
    """Replaces the identity feature of a face.

    The identity feature of the face is the mean over its tokens, L2-normalised; its distance to a
    group is 1 - cosine to the group's mean. The mechanism draws a group from the distances, and a
    member of it is drawn uniformly, whatever the face, so the member costs no epsilon.

    Args:
        codebook: the public groups.
        mechanism: a group mechanism made for ``codebook.num_groups`` groups, or
            :class:`LaplaceFeature`.

    Raises:
        ConfigError: the mechanism was made for another number of groups.
    """

    def __init__(self, codebook: Codebook, mechanism: GroupMechanism | LaplaceFeature) -> None:
        if isinstance(mechanism, GroupMechanism) and mechanism.num_groups != codebook.num_groups:
            raise ConfigError(
                f"mechanism '{mechanism.name}' was made for {mechanism.num_groups} groups, but the "
                f"codebook has {codebook.num_groups}; make it with num_groups="
                f"{codebook.num_groups}"
            )
        self._codebook = codebook
        self._mechanism = mechanism

    @property
    def codebook(self) -> Codebook:
        """The public groups."""
        return self._codebook

    @property
    def mechanism(self) -> GroupMechanism | LaplaceFeature:
        """The mechanism that draws."""
        return self._mechanism

    @property
    def epsilon(self) -> float:
        """Cost of one replacement, infinity where there is no guarantee."""
        return self._mechanism.epsilon

    @property
    def guarantee(self) -> str:
        """One sentence: what a replacement guarantees, or does not."""
        return self._mechanism.guarantee

    def distances(self, feature: Any) -> Float64Array:
        """(m,) cosine distances in [0, 2] of one face to the groups; arguments as replacement."""
        return 1.0 - self._codebook.directions @ self._direction(feature)

    def replacement(self, feature: Any) -> Replacement:
        """Draw a replacement for one face. Every call is a new draw and costs its epsilon again.

        Args:
            feature: (tokens, dim) or (dim,) identity key feature, torch or numpy.

        Raises:
            PrivacyError: wrong shape, NaN, infinity or zero.
        """
        if isinstance(self._mechanism, LaplaceFeature):
            noisy = self._mechanism.perturb(self._direction(feature))
            return self._labelled(self._codebook.typical_norm * noisy, group=None)
        group = self._mechanism.draw(self.distances(feature))
        return self._labelled(self._of_group(group, self._mechanism), group)

    def _direction(self, feature: Any) -> Float64Array:
        return unit_rows(face_feature(feature, self._codebook.dim))

    def _of_group(self, group: int, mechanism: GroupMechanism) -> Float32Array:
        if mechanism.releases_centre:
            return self._codebook.centre(group)
        members = self._codebook.members[group]
        member: Float32Array = members[mechanism.sampler.randbelow(len(members))]
        return member

    def _labelled(self, feature: Any, group: int | None) -> Replacement:
        return Replacement(
            feature=feature,
            group=group,
            epsilon=self.epsilon,
            mechanism=self._mechanism.name,
            guarantee=self.guarantee,
        )
