"""The demo recipe from nothing to a bundle that anonymizes, with networks of toy size.

What it makes is not trained; every stage, its resumption and the bundle are real. CLIP is
replaced by a stand-in here, because open_clip is an optional dependency; its own stage is tested
where it is installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lreorg_fast as lf
from lreorg_fast.avatars.recipe.attributes import AttributeRecipe, faceless
from lreorg_fast.avatars.recipe.autoencoder import REFINEMENT, AutoencoderRecipe
from lreorg_fast.avatars.recipe.bundle import write_demo_bundle
from lreorg_fast.avatars.recipe.cdfnet import CDFNetRecipe
from lreorg_fast.avatars.recipe.encoder import EncoderRecipe
from lreorg_fast.avatars.recipe.mapping import MappingRecipe
from lreorg_fast.avatars.recipe.recognizers import RECOGNIZERS
from lreorg_fast.avatars.recipe.stages import STAGES, Recipe, Stages
from lreorg_fast.avatars.recipe.tables import TablesRecipe
from lreorg_fast.avatars.traits import LATENT_DIM
from lreorg_fast.cdfnet import CDFNetConfig
from lreorg_fast.faces.alignment import AVATAR_POINTS
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.models import BackboneConfig, E4EConfig, StyleGAN2Config
from lreorg_fast.weights import open_bundle

SIZE, DIM, COND = 32, 16, 8
TRAINED = [stage for stage in STAGES if stage not in ("clip", "cdfnet")]
SMALL = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1)}
CPU = torch.device("cpu")


def toy_recipe() -> Recipe:
    backbone = BackboneConfig(input_size=SIZE, outputs=8, **SMALL)
    swap = dataclasses.replace(CDFNetRecipe().training, steps=3, batch=4)
    autoencoder = AutoencoderRecipe(
        encoder=E4EConfig(SIZE, 8, DIM, 8, **SMALL),
        generator=StyleGAN2Config(SIZE, DIM, 2, {4: 8, 8: 8, 16: 8, 32: 8}, LATENT_DIM),
        kimg=0.024,
        batch=8,
    )
    return Recipe(
        portraits=48,
        recognizers=tuple(
            dataclasses.replace(r, model=backbone, people=6, pictures=4, epochs=1, batch=8)
            for r in RECOGNIZERS
        ),
        attributes=AttributeRecipe(
            model=BackboneConfig(input_size=SIZE, outputs=11, normalize=False, **SMALL),
            epochs=1,
            batch=12,
            negatives=6,
        ),
        autoencoder=autoencoder,
        refinement=dataclasses.replace(autoencoder, judge_every=2, weights=REFINEMENT.weights),
        mapping=MappingRecipe(steps=3, batch=16),
        encoder=EncoderRecipe(steps=2, batch=4),
        cdfnet=CDFNetRecipe(model=CDFNetConfig(DIM, COND, 2, 4), training=swap),
        tables=TablesRecipe(
            latents=300, groups=16, members=3, labelled=60, calibration_people=1000,
            figures_people=40,
        ),
    )  # fmt: skip


class ToyStages(Stages):
    def clip_meaning(self, device: torch.device) -> StandInClip:
        return StandInClip()


class StandInClip:
    """Fixed random meaning with the interface of ``ClipMeaning``."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 4)

    def keyword_features(self) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(1)
        return {n: F.normalize(torch.randn(COND, generator=random), dim=0) for n in KEYWORDS}

    def image(self, picture: Tensor) -> Tensor:
        return F.normalize(self.model(picture.mean(dim=(2, 3))), dim=1)

    def contents(
        self, picture: Tensor, keywords: Sequence[str], sharpness: float = 3.0
    ) -> list[Tensor]:
        return self.contents_of(picture.mean(dim=(2, 3)), keywords, sharpness)

    def contents_of(
        self, image: Tensor, keywords: Sequence[str], sharpness: float = 3.0
    ) -> list[Tensor]:
        counts = [len(KEYWORDS[keyword].contents) for keyword in keywords]
        mean = 40 * image.sum(1, keepdim=True)
        return [
            torch.softmax(sharpness * (torch.arange(n) * 2.1 + mean).cos(), dim=1) for n in counts
        ]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    stages = ToyStages(toy_recipe(), folder, CPU, lambda _: None)
    for stage in ("recognizers", "attributes", "autoencoder", "refinement", "mapping", "encoder"):
        stages.run(stage)
    return folder


def test_a_finished_stage_is_not_run_again(work: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in work.glob("*/state.pt")}
    stages = ToyStages(toy_recipe(), work, CPU, lambda _: None)
    for stage in ("recognizers", "attributes", "autoencoder", "refinement", "mapping", "encoder"):
        stages.run(stage)
    assert {p: p.stat().st_mtime_ns for p in work.glob("*/state.pt")} == before
    assert len(before) == 7


def test_stages_leave_pictures_to_look_at(work: Path) -> None:
    assert (work / "mapping" / "mapping.png").exists()
    assert (work / "autoencoder" / "autoencoder.png").exists()


def test_the_same_recipe_gives_the_same_networks(work: Path, tmp_path: Path) -> None:
    again = ToyStages(toy_recipe(), tmp_path, CPU, lambda _: None)
    again.run("recognizers")
    first, second = (
        torch.load(folder / "recognizer_training" / "state.pt", weights_only=True)["payload"]["net"]
        for folder in (work, tmp_path)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_bundle_is_built_measured_and_used(work: Path, tmp_path: Path) -> None:
    recipe = toy_recipe()
    stages = ToyStages(recipe, work, CPU, lambda _: None)
    stages.run("cdfnet")
    target = tmp_path / "bundle"
    write_demo_bundle(stages.trained(), recipe, work, target, "this test", lambda _: None)
    bundle = open_bundle(target)
    bundle.verify()
    manifest = bundle.manifest
    assert manifest.domain.alignment == AVATAR_POINTS
    assert manifest.recipe["command"] == "this test"
    assert len(manifest.recipe["stages"]) == 8
    psr = manifest.figures["default: face detected"]
    assert psr["n"] == 40
    assert psr["low"] <= psr["value"] <= psr["high"]
    assert bundle.tensors("tables")["codebook.members"].shape == (16, 3, DIM)
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    assert lf.Anonymizer.load(target)(picture).image.shape == picture.shape


def test_faceless_pictures_are_not_the_portraits() -> None:
    portraits = torch.rand(12, 3, SIZE, SIZE) * 2 - 1
    made = faceless(portraits)
    assert made.shape == portraits.shape
    assert torch.isfinite(made).all()
    assert ((made - portraits).abs().mean(dim=(1, 2, 3)) > 0.1).all()
