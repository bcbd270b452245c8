"""Avatars from latents: the same people as those that are sampled."""

from __future__ import annotations

import pytest
import torch

from lreorg_fast.avatars.traits import (
    ATTRIBUTE_NAMES,
    LATENT_DIM,
    avatars_of,
    sample_avatars,
)

COUNT = 20_000


def latents(count: int) -> torch.Tensor:
    return torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(3))


def test_avatars_of_random_latents_are_as_various_as_sampled_ones() -> None:
    made = avatars_of(latents(COUNT))
    sampled = sample_avatars(COUNT, torch.Generator().manual_seed(4))
    for ours, theirs in (
        (made.identity, sampled.identity),
        (made.labels(), sampled.labels()),
        (made.nuisance, sampled.nuisance),
    ):
        # 4 standard errors of a difference of two means, of values within [-1, 1].
        assert torch.allclose(ours.mean(0), theirs.mean(0), atol=4 * (2 / COUNT) ** 0.5)
        assert torch.allclose(ours.std(0), theirs.std(0), atol=0.03)
    columns = [ATTRIBUTE_NAMES.index(n) for n in ("gender", "beard", "age", "gray", "makeup")]
    correlations = [torch.corrcoef(a.labels()[:, columns].t()) for a in (made, sampled)]
    assert torch.allclose(*correlations, atol=0.05)


def test_only_the_direction_of_a_latent_counts() -> None:
    z = latents(50)
    once, scaled = avatars_of(z), avatars_of(z * torch.linspace(0.1, 5, 50)[:, None])
    assert torch.allclose(once.identity, scaled.identity, atol=1e-5)
    assert torch.allclose(once.labels(), scaled.labels(), atol=1e-5)


@pytest.mark.parametrize("part", ["identity", "nuisance"])
def test_everything_is_drawn_from_entries_of_its_own(part: str) -> None:
    """A change of one entry changes one trait most, by far (the others by normalization)."""
    z = latents(200)
    moved = torch.zeros(LATENT_DIM, dtype=torch.long)
    for i in range(LATENT_DIM):
        other = z.clone()
        other[:, i] = -other[:, i]  # of the same length: nothing else may change
        change = (getattr(avatars_of(z), part) - getattr(avatars_of(other), part)).abs().mean(0)
        moved[i] = int((change > 1e-4).sum())
    count = getattr(avatars_of(z), part).shape[1]
    assert sorted(moved.tolist()) == [0] * (LATENT_DIM - count) + [1] * count
