"""The demo recipe from nothing to a bundle that anonymizes, with networks of toy size.

What it makes is not trained; every stage, its resumption and the bundle are real. CLIP is
replaced by a stand-in here, because open_clip is an optional dependency; its own stage is tested
where it is installed.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn

import lreorg_fast as lf
from lreorg_fast.avatars.recipe.adopt import adopt_stages
from lreorg_fast.avatars.recipe.attributes import AttributeRecipe, faceless
from lreorg_fast.avatars.recipe.autoencoder import REFINEMENT, AutoencoderRecipe
from lreorg_fast.avatars.recipe.bundle import write_demo_bundle
from lreorg_fast.avatars.recipe.cdfnet import CDFNetRecipe
from lreorg_fast.avatars.recipe.encoder import EncoderRecipe
from lreorg_fast.avatars.recipe.extension import extend_bundle
from lreorg_fast.avatars.recipe.mapping import MappingRecipe
from lreorg_fast.avatars.recipe.recognizers import RECOGNIZERS, PairHead, batch_positions
from lreorg_fast.avatars.recipe.stages import STAGES, Recipe, Stages
from lreorg_fast.avatars.recipe.tables import TablesRecipe
from lreorg_fast.avatars.train import main as train_command
from lreorg_fast.avatars.traits import LATENT_DIM
from lreorg_fast.cdfnet import CDFNetConfig
from lreorg_fast.errors import ConfigError
from lreorg_fast.faces.alignment import AVATAR_POINTS
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.models import BackboneConfig, E4EConfig, StyleGAN2Config, WindowConfig
from lreorg_fast.weights import open_bundle, write_bundle

SIZE, DIM, COND = 32, 16, 8
TRAINED = [stage for stage in STAGES if stage not in ("clip", "cdfnet")]
SMALL = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1)}
CPU = torch.device("cpu")


def toy_recipe() -> Recipe:
    backbone = BackboneConfig(input_size=SIZE, outputs=8, **SMALL)
    inner = WindowConfig(SIZE, 8, 10, BackboneConfig(input_size=16, outputs=8, **SMALL))
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
            dataclasses.replace(
                r,
                model=inner if isinstance(r.model, WindowConfig) else backbone,
                people=6,
                pictures=4,
                epochs=1,
                batch=8,
            )
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
    for stage in TRAINED:
        stages.run(stage)
    return folder


@pytest.fixture(scope="module")
def made(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = toy_recipe()
    stages = ToyStages(recipe, work, CPU, lambda _: None)
    stages.run("cdfnet")
    target = tmp_path_factory.mktemp("made") / "bundle"
    write_demo_bundle(stages.trained(), recipe, work, target, "this test", lambda _: None)
    return target


def test_a_finished_stage_is_not_run_again(work: Path) -> None:
    before = _times(work)
    stages = ToyStages(toy_recipe(), work, CPU, lambda _: None)
    for stage in TRAINED:
        stages.run(stage)
    assert _times(work) == before
    assert len(before) == 8


def _times(work: Path) -> dict[str, int]:
    states = [p for p in work.glob("*/state.pt") if p.parent.name != "cdfnet"]
    return {path.parent.name: path.stat().st_mtime_ns for path in states}


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


def test_a_bundle_is_built_measured_and_used(made: Path) -> None:
    bundle = open_bundle(made)
    bundle.verify()
    manifest = bundle.manifest
    assert manifest.domain.alignment == AVATAR_POINTS
    assert manifest.recipe["command"] == "this test"
    assert len(manifest.recipe["stages"]) == 9
    assert manifest.parts["identity:evaluation-2"].architecture == "window-backbone"
    assert manifest.calibration["evaluation-2.threshold.hard"] <= 1
    psr = manifest.figures["default: face detected"]
    assert psr["n"] == 40
    assert psr["low"] <= psr["value"] <= psr["high"]
    assert bundle.tensors("tables")["codebook.members"].shape == (16, 3, DIM)
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    assert lf.Anonymizer.load(made)(picture).image.shape == picture.shape


def test_faceless_pictures_are_not_the_portraits() -> None:
    portraits = torch.rand(12, 3, SIZE, SIZE) * 2 - 1
    made = faceless(portraits)
    assert made.shape == portraits.shape
    assert torch.isfinite(made).all()
    assert ((made - portraits).abs().mean(dim=(1, 2, 3)) > 0.1).all()


def test_stages_before_cdfnet_are_taken_from_a_bundle(made: Path, tmp_path: Path) -> None:
    recipe = toy_recipe()
    adopt_stages(open_bundle(made), recipe, tmp_path, lambda _: None)
    stages = ToyStages(recipe, tmp_path, CPU, lambda _: None)
    for stage in TRAINED:
        stages.run(stage)  # finished: nothing is rendered, nothing trained
    assert not (tmp_path / "data").exists()
    stages.run("cdfnet")
    again = tmp_path / "bundle"
    write_demo_bundle(stages.trained(), recipe, tmp_path, again, "again", lambda _: None)
    first, second = open_bundle(made), open_bundle(again)
    networks = ("generator", "encoder", "attributes")
    for role in (*networks, *(f"identity:{r.role}" for r in recipe.recognizers)):
        before, after = first.tensors(role), second.tensors(role)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before), role
    earlier = [
        [stage for stage in bundle.manifest.recipe["stages"] if stage["stage"] != "cdfnet"]
        for bundle in (first, second)
    ]
    assert earlier[0] == earlier[1]
    assert len(earlier[0]) == 8
    for name, value in first.manifest.calibration.items():
        # Matrices were rounded to bfloat16 before the second calibration, not before the first.
        assert second.manifest.calibration[name] == pytest.approx(value, abs=0.05), name


@pytest.fixture(scope="module")
def earlier(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as if made before there was a second recognizer that judges."""
    bundle = open_bundle(made)
    manifest = bundle.manifest
    gone = "evaluation-2"
    made_with = [r for r in manifest.recipe["settings"]["recognizers"] if r["role"] != gone]
    # A setting that came later, too.
    recognizers = [{k: v for k, v in r.items() if k != "dropout"} for r in made_with]
    stages = [s for s in manifest.recipe["stages"] if s["stage"] != f"recognizer {gone}"]
    settings = {**manifest.recipe["settings"], "recognizers": recognizers}
    parts = {role: p for role, p in manifest.parts.items() if role != f"identity:{gone}"}
    names = [n for n in manifest.files if n != manifest.parts[f"identity:{gone}"].file]
    without = dataclasses.replace(
        manifest,
        parts=parts,
        calibration={k: v for k, v in manifest.calibration.items() if not k.startswith(gone)},
        recipe={**manifest.recipe, "settings": settings, "stages": stages},
        figures={k: v for k, v in manifest.figures.items() if gone not in k},
    )
    target = tmp_path_factory.mktemp("earlier") / "bundle"
    write_bundle(target, without, {name: bundle.read(name) for name in names})
    return target


def test_a_recognizer_is_added_to_a_finished_bundle(
    earlier: Path, made: Path, tmp_path: Path
) -> None:
    recipe = toy_recipe()
    bundle, target = open_bundle(earlier), tmp_path / "extended"
    stages = ToyStages(recipe, tmp_path / "work", CPU, lambda _: None)
    adopt_stages(bundle, recipe, stages.work, stages.say)
    stages.run("recognizers")
    assert [p.name for p in (stages.work / "data").iterdir()] == ["people_evaluation-2.pt"]
    extend_bundle(bundle, stages, target, "this test")
    extended, whole = open_bundle(target), open_bundle(made)
    extended.verify()
    before, after = bundle.manifest, extended.manifest
    assert {n: after.files[n] for n in before.files} == before.files
    assert {n: after.calibration[n] for n in before.calibration} == before.calibration
    assert {n: after.figures[n] for n in before.figures} == before.figures
    assert set(after.parts) == set(whole.manifest.parts)
    assert set(after.calibration) == set(whole.manifest.calibration)
    assert set(after.figures) == set(whole.manifest.figures)
    assert after.recipe["settings"] == whole.manifest.recipe["settings"]
    assert after.recipe["additions"][0]["parts"] == ["identity:evaluation-2"]
    role = "identity:evaluation-2"
    ours, theirs = extended.tensors(role), whole.tensors(role)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ConfigError, match="has every recognizer"):
        extend_bundle(extended, stages, tmp_path / "again", "this test")
    assert not (tmp_path / "again").exists()


def test_a_recognizer_that_was_trained_otherwise_is_not_taken(
    earlier: Path, tmp_path: Path
) -> None:
    recipe = toy_recipe()
    other = [dataclasses.replace(r, seed=r.seed + 100) for r in recipe.recognizers]
    changed = dataclasses.replace(recipe, recognizers=tuple(other))
    with pytest.raises(
        ConfigError, match=r"recognizers\.evaluation\.seed, recognizers\.training\.seed"
    ):
        adopt_stages(open_bundle(earlier), changed, tmp_path, lambda _: None)


def test_the_recognizer_in_the_losses_must_see_the_whole_picture() -> None:
    recipe = toy_recipe()
    with pytest.raises(ConfigError, match="must see all"):
        dataclasses.replace(recipe, recognizers=recipe.recognizers[::-1])


@pytest.mark.parametrize(
    "arguments",
    [["--stage", "extension"], ["--from", ".", "--stage", "extension", "--stage", "bundle"]],
)
def test_an_extension_stands_alone_and_needs_a_bundle(arguments: list[str]) -> None:
    refused = CliRunner().invoke(train_command, arguments)
    assert refused.exit_code == 2
    assert "needs --from BUNDLE, and no other --stage" in refused.output


def test_pairs_are_two_pictures_of_each_of_different_people() -> None:
    recipe = dataclasses.replace(RECOGNIZERS[-1], people=7, pictures=3, batch=10)
    index = batch_positions(recipe)
    first, second = index.view(2, 5)
    assert torch.equal(first // 3, second // 3)
    assert (first != second).all()
    assert len(set((first // 3).tolist())) == 5
    head = PairHead(recipe)
    sure = torch.eye(5).repeat(2, 1)
    assert head(sure, index // 3, 1.0) < 1e-3 < head(torch.ones(10, 5), index // 3, 1.0)


def test_a_bundle_of_other_settings_is_not_taken(made: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(toy_recipe(), encoder=EncoderRecipe(steps=3, batch=4))
    with pytest.raises(ConfigError, match=r"other settings \(encoder\.steps\)"):
        adopt_stages(open_bundle(made), recipe, tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_unknown_making_is_not_taken(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    data = json.loads((copy / "bundle.json").read_text())
    del data["recipe"]["stages"]
    (copy / "bundle.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="does not say how it was made"):
        adopt_stages(open_bundle(copy), toy_recipe(), tmp_path / "work", lambda _: None)
