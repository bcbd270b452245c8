"""The losses of keyword swap training (Eq. 5 to 10 of the paper).

Reductions, chosen so that the published weights balance on a latent of unit-variance entries:
L_f is the mean over the batch of the Euclidean norm over a latent (rows averaged); L_r the mean
absolute value; L_I, L_s and the perceptual distance are means over the batch. With L_r summed
over D instead, 10 L_r outweighs everything else by a factor of D and nothing is learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean of 1 - cos over a batch of unit vectors ``(N, D)``."""
    return (1 - (a * b).sum(dim=1)).mean()


def away_from(a: Tensor, b: Tensor, floor: float | None) -> Tensor:
    """A loss that pushes unit vectors apart, down to similarity ``floor`` and not below.

    With ``floor=None`` it is the paper's term, which rewards similarity down to -1. That is a
    leak: the new face becomes the original's opposite, and the least similar person in a gallery
    is the original. A floor near the similarity of strangers removes the reward.
    """
    similarity = (a * b).sum(dim=1)
    if floor is None:
        return similarity.mean()
    return F.relu(similarity - floor).mean()


def identity_swap(
    before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], floor: float | None
) -> Tensor:
    """L_I (Eq. 6): each swapped face is the donor and no longer itself.

    ``before`` and ``after`` hold unit embeddings ``(N, D)`` of (I1, I2) and (I1', I2').
    """
    toward = cosine_distance(before[1], after[0]) + cosine_distance(before[0], after[1])
    away = away_from(before[0], after[0], floor) + away_from(before[1], after[1], floor)
    return toward + away


def perceptual(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """L_p: mean absolute difference of feature maps, each scaled to unit length per position."""
    total = before[0].new_zeros(())
    for a, b in zip(before, after, strict=True):
        difference = F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)
        total = total + difference.abs().sum(dim=1).mean()
    return total / len(before)


def latent_change(before: Tensor, after: Tensor) -> Tensor:
    """L_f (Eq. 7), one term: Euclidean length of the change, ``(N, ..., D) -> ()``."""
    change: Tensor = (before - after).norm(dim=-1)
    return change.mean()


def information_lost(delta: Tensor) -> Tensor:
    """L_r, one term: distance from the manifold of unedited pairs."""
    return delta.abs().mean()


def content_cross_entropy(wanted: Tensor, found: Tensor) -> Tensor:
    """One term of L_s (Eq. 9, 10): CLIP distributions ``(N, contents)`` over the sentences."""
    entropy: Tensor = (wanted * torch.log(found.clamp(min=1e-6))).sum(dim=1).mean()
    return -entropy


def content_divergence(wanted: Tensor, found: Tensor) -> Tensor:
    """Kullback-Leibler divergence of ``found`` from ``wanted``: 0 where contents stayed."""
    return content_cross_entropy(wanted, found) - content_cross_entropy(wanted, wanted)
