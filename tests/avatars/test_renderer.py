"""Avatars: pictures follow their description, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.avatars import (
    ATTRIBUTE_NAMES,
    ATTRIBUTES,
    IDENTITY_TRAITS,
    render,
    sample_avatars,
    sample_people,
)
from lreorg_fast.avatars.recipe.captions import caption, contents


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pictures_are_finite_and_in_range() -> None:
    pictures = render(sample_avatars(40, generator()), 32)
    assert pictures.shape == (40, 3, 32, 32)
    assert torch.isfinite(pictures).all()
    assert float(pictures.min()) >= 0
    assert float(pictures.max()) <= 1


@given(seed=st.integers(0, 10_000), count=st.integers(1, 5), size=st.sampled_from([16, 33, 64]))
def test_a_batch_is_its_avatars_one_by_one(seed: int, count: int, size: int) -> None:
    avatars = sample_avatars(count, generator(seed))
    together = render(avatars, size)
    alone = torch.cat([render(avatars[i : i + 1], size) for i in range(count)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_same_seed_is_the_same_people() -> None:
    first, second = (sample_avatars(6, generator(4)) for _ in range(2))
    assert torch.equal(render(first, 32), render(second, 32))
    assert not torch.equal(render(first, 32), render(sample_avatars(6, generator(5)), 32))


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda a: a.name)
def test_every_attribute_can_be_seen(attribute) -> None:
    """At 64 px, going from one end to the other moves pixels in every face that can show it."""
    avatars = sample_avatars(30, generator(1)).with_attributes(length=0.8, gray=0.0)
    low = render(avatars.with_attributes(**{attribute.name: attribute.low}), 64)
    high = render(avatars.with_attributes(**{attribute.name: attribute.high}), 64)
    moved = (low - high).abs().amax(dim=1) > 0.1
    assert int(moved.flatten(1).sum(1).min()) >= 12


@pytest.mark.parametrize("trait", IDENTITY_TRAITS)
def test_every_trait_of_a_person_can_be_seen(trait: str) -> None:
    avatars = sample_avatars(20, generator(2)).with_attributes(length=0.0)  # bald: ears show
    index = IDENTITY_TRAITS.index(trait)
    pictures = []
    for value in (-1.0, 1.0):
        avatars.identity[:, index] = value
        pictures.append(render(avatars, 64))
    assert float((pictures[0] - pictures[1]).abs().amax(dim=(1, 2, 3)).min()) > 0.02


def test_people_keep_their_traits_and_change_everything_else() -> None:
    people = sample_people(3, 4, generator())
    identity = people.identity.view(3, 4, -1)
    assert torch.equal(identity, identity[:, :1].expand_as(identity))
    assert people.labels().view(3, 4, -1).std(dim=1).max() > 0


def test_labels_are_in_the_order_of_the_table() -> None:
    avatars = sample_avatars(5, generator())
    assert avatars.labels().shape == (5, len(ATTRIBUTES))
    for column, name in enumerate(ATTRIBUTE_NAMES):
        assert torch.equal(avatars.labels()[:, column], avatars.attributes[name])


def test_captions_say_what_is_true() -> None:
    import random

    for label in sample_avatars(200, generator(3)).labels().tolist():
        words = contents(dict(zip(ATTRIBUTE_NAMES, label, strict=True)))
        assert words["gender"] == ("female" if label[0] > 0.5 else "male")
        text = caption(label, random.Random(1))
        wrong = {"male": " male", "female": "female"}["female" if label[0] <= 0.5 else "male"]
        assert wrong not in text
