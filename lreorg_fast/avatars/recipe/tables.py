"""Stage 8: the tables, and the thresholds of verification and evaluation on rendered people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.avatars.recipe.recognizers import Recognizer
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import ATTRIBUTES, IDENTITY_TRAITS, sample_people
from lreorg_fast.calibration import RECONSTRUCTION_MARGIN
from lreorg_fast.evaluation import threshold_at_far
from lreorg_fast.models import E4EEncoder, StyleGAN2Generator
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.training.tables import TableSizes

_FAR = 1e-3
_CHUNK = 200
# A hard impostor has about the same skin and eyes: the traits that a small picture shows most.
_HARD_TRAITS = tuple(IDENTITY_TRAITS.index(t) for t in ("skin", "undertone", "iris"))
_HARD_NEIGHBOURS = 10
# What the roles of recognizers that only judge begin with.
JUDGES = "evaluation"


@dataclass(frozen=True)
class TablesRecipe(TableSizes):
    """Sizes of the tables, and how many people the figures are measured on."""

    calibration_people: int = 1_500
    figures_people: int = 1_000


def _embed(net: Recognizer, pictures: Tensor) -> NDArray[np.float64]:
    return torch.cat([net(part) for part in pictures.split(_CHUNK)]).double().numpy()


def _impostors(
    embeddings: NDArray[np.float64], identity: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Similarities of random pairs, and of each person with the most alike strangers."""
    scores = embeddings @ embeddings.T
    random = scores[np.triu_indices(len(scores), 1)]
    traits = identity[:, _HARD_TRAITS]
    distance = np.linalg.norm(traits[:, None] - traits[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :_HARD_NEIGHBOURS]
    return random, np.take_along_axis(scores, nearest, axis=1).ravel()


def _calibration_people(recipe: TablesRecipe, size: int) -> tuple[Tensor, NDArray[np.float32]]:
    """Pictures in [-1, 1] and traits of people of their own (neither trained on nor evaluated)."""
    random = torch.Generator().manual_seed(900_000 + recipe.seed)
    people = sample_people(recipe.calibration_people, 1, random)
    rendered = (render(people, size) * 255).round().to(torch.uint8)
    return to_unit(rendered), people.identity.numpy()


@torch.inference_mode()
def judges_thresholds(
    recipe: TablesRecipe, recognizers: Mapping[str, Recognizer], size: int
) -> dict[str, float]:
    """``<role>.threshold.random`` and ``.hard`` of the recognizers that only judge.

    ``size``: of the pictures, pixels.
    """
    pictures, identity = _calibration_people(recipe, size)
    numbers = {}
    for role, net in recognizers.items():
        if role.startswith(JUDGES):
            easy, hard = _impostors(_embed(net, pictures), identity)
            numbers[f"{role}.threshold.random"] = threshold_at_far(easy, _FAR)
            numbers[f"{role}.threshold.hard"] = threshold_at_far(hard, _FAR)
    return numbers


@torch.inference_mode()
def calibrate(
    recipe: TablesRecipe,
    encoder: E4EEncoder,
    generator: StyleGAN2Generator,
    recognizers: Mapping[str, Recognizer],
    attribute_statistics: tuple[Tensor, Tensor],
) -> dict[str, float]:
    """Thresholds on rendered people of their own (neither trained on nor evaluated)."""
    pictures, identity = _calibration_people(recipe, generator.resolution)
    verify, _ = _impostors(_embed(recognizers["training"], pictures), identity)
    errors = [
        (generator.synthesis(encoder(part)) - part).square().mean(dim=(1, 2, 3))
        for part in pictures.split(_CHUNK)
    ]
    numbers = {
        "verify.similarity": threshold_at_far(verify, _FAR),
        "verify.face": 0.0,
        "verify.reconstruction": RECONSTRUCTION_MARGIN * float(torch.cat(errors).max()),
        **judges_thresholds(recipe, recognizers, generator.resolution),
    }
    for attribute, mean, deviation in zip(ATTRIBUTES, *attribute_statistics, strict=True):
        numbers[f"attributes.{attribute.name}.mean"] = float(mean)
        numbers[f"attributes.{attribute.name}.deviation"] = float(deviation)
    return numbers
