"""The parrot attack: finds what is there, finds nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_pictures import (
    SIZE,
    Method,
    attacked,
    colours,
    draw,
    independent,
    learnt,
    same,
    secret_code,
)

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.attacks import FineTuned, Learner, Projected, TrainingSet
from lreorg_fast.evaluation.attacks.parrot import parrot
from lreorg_fast.models import BackboneConfig, FaceBackbone
from lreorg_fast.models.pixels import to_tensor

ORIGINALS, OUTPUTS = "originals enrolled", "outputs enrolled"
CHANCE = 1 / 60


def fine_tuned() -> FineTuned:
    """A small network that has learnt to tell patterns apart, as a recognizer has."""
    torch.manual_seed(0)
    config = BackboneConfig(SIZE, 8, (8, 16, 16, 32), (1, 1, 1, 1), outputs=32)
    empty = FineTuned(FaceBackbone(config).eval(), to_tensor, "tuned", "toy", seen=3_000)
    pictures, subjects = draw(60, 4, seed=3)
    x, labels = to_tensor(pictures), torch.from_numpy(subjects)
    network = empty._fit(x, labels, 60, torch.Generator().manual_seed(0))
    return FineTuned(network, to_tensor, "tuned", "toy", seen=5_000, learning_rate=3e-3)


LEARNERS = {"fine-tuned": fine_tuned, "projected": lambda: Projected(colours, "tuned", "colours")}


def entries(learner: Learner, method: Method) -> dict:
    found = parrot(attacked(method), learnt(method), learner)
    assert all(entry.where["recognizer"] == "tuned" for entry in found)
    return {(entry.metric, entry.where["convention"]): entry for entry in found}


@pytest.fixture(scope="module", params=LEARNERS)
def learner(request: pytest.FixtureRequest) -> Learner:
    return LEARNERS[request.param]()


def test_unprotected_people_are_named(learner: Learner) -> None:
    found = entries(learner, same)
    for convention in (ORIGINALS, OUTPUTS):
        assert found["parrot_rank_1", convention].figure.value > 0.8
        assert found["parrot_rank_1", convention].figure.n == 120
        assert found["parrot_tar", convention].where["far"] == "1e-3"
        assert found["parrot_tar", convention].figure.value > 0.5


def test_nobody_is_named_where_outputs_are_independent(learner: Learner) -> None:
    found = entries(learner, independent)
    for convention in (ORIGINALS, OUTPUTS):
        figure = found["parrot_rank_1", convention].figure
        assert figure.low <= CHANCE <= figure.high
        assert figure.value < 0.1


def test_what_confuses_others_only_is_learnt(learner: Learner) -> None:
    """A constant code: the control does not find it, the parrot does."""
    found = entries(learner, secret_code)
    figure = found["parrot_rank_1", ORIGINALS].figure
    control = float(figure.note.split("only finds ")[1].split("%")[0]) / 100
    assert figure.low > control + CHANCE
    assert found["parrot_rank_1", OUTPUTS].figure.value > 0.5


def test_accepting_needs_enough_pairs_for_its_rate() -> None:
    learner = LEARNERS["projected"]()
    few = parrot(attacked(same, 20), learnt(same), learner)
    reasons = [entry.reason for entry in few if entry.metric == "parrot_tar"]
    assert reasons
    assert all("needs 10,000 pairs" in str(reason) for reason in reasons)


def test_nothing_released_is_nothing_to_learn_from() -> None:
    def silent(pictures: object) -> list[None]:
        return [None] * len(pictures)  # type: ignore[arg-type]

    found = parrot(attacked(silent), learnt(silent), LEARNERS["projected"]())
    assert {entry.metric for entry in found} == {"parrot_rank_1", "parrot_tar"}
    assert all("released two outputs of 0 of 60" in str(entry.reason) for entry in found)


def test_outputs_that_were_not_released_are_left_out() -> None:
    def half(pictures: list) -> list:
        return [p if i % 4 else None for i, p in enumerate(pictures)]

    found = parrot(attacked(half), learnt(half), LEARNERS["projected"]())
    figure = found[0].figure
    assert figure is not None
    assert figure.n == 90
    assert "30 of 120 outputs were not released" in figure.note


def test_the_backbone_is_not_changed_and_training_repeats() -> None:
    learner = fine_tuned()
    before = {name: value.clone() for name, value in learner.backbone.state_dict().items()}
    pictures, subjects = draw(12, 4, seed=5)
    first, again = (learner.train(pictures, subjects)(pictures) for _ in range(2))
    assert np.array_equal(first, again)
    for name, value in learner.backbone.state_dict().items():
        assert torch.equal(value, before[name])
    assert not learner.backbone.training


def test_training_pictures_are_paired() -> None:
    pictures, subjects = draw(3, 2, seed=0)
    with pytest.raises(ConfigError, match="must be as many"):
        TrainingSet(pictures, pictures[:-1], subjects)
