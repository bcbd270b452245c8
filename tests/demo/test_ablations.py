"""The ablations on networks of toy size: what is trained, measured, kept and refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bundles import COND_DIM, DIM, toy_bundle
from torch import Tensor

from lreorg_fast.avatars import ATTRIBUTES
from lreorg_fast.avatars.recipe.stages import Recipe, Stages
from lreorg_fast.avatars.recipe.tables import TablesRecipe
from lreorg_fast.cdfnet import CDFNetConfig
from lreorg_fast.demo import ablations
from lreorg_fast.demo.ablation_tables import all_figures
from lreorg_fast.demo.ablations import Ablations, Sizes
from lreorg_fast.demo.frontier import frontier_picture
from lreorg_fast.demo.variants import FULL, VARIANTS, changed, different
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.training.keyword_swap import LossWeights
from lreorg_fast.training.trainer import TrainingStopped
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.parts import load_part

SIZES = Sizes(steps=2, people=6)
TRAINED = (FULL, "without L_r")
TRAINING = dataclasses.replace(Recipe().cdfnet.training, batch=4)


class StandInClip:
    """Fixed random meaning of pictures."""

    def keyword_features(self) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(1)
        return {n: F.normalize(torch.randn(COND_DIM, generator=random), dim=0) for n in KEYWORDS}

    def contents(
        self, picture: Tensor, keywords: Sequence[str], sharpness: float = 3.0
    ) -> list[Tensor]:
        # Differences within a picture, since an untrained generator's are nearly alike.
        mean = picture.mean(dim=(1, 2, 3))[:, None] * 4e3
        counts = [len(KEYWORDS[keyword].contents) for keyword in keywords]
        angles = [torch.arange(n) * 2.1 + mean for n in counts]
        return [torch.softmax(sharpness * angle.cos(), dim=1) for angle in angles]


class ToyStages(Stages):
    """A finished recipe whose networks are those of a toy bundle."""

    def __init__(self, bundle: Path, work: Path) -> None:
        recipe = Recipe()
        cdfnet = dataclasses.replace(
            recipe.cdfnet, model=CDFNetConfig(DIM, COND_DIM, 2, 4), training=TRAINING
        )
        tables = TablesRecipe(latents=300, groups=16, members=3, labelled=60)
        toy = dataclasses.replace(recipe, cdfnet=cdfnet, tables=tables)
        super().__init__(toy, work, torch.device("cpu"), lambda _: None)
        self.bundle = open_bundle(bundle)

    def teacher(self) -> Any:
        return load_part(self.bundle, "identity:training")

    def encoder_and_generator(self) -> tuple[Any, Any]:
        return load_part(self.bundle, "encoder"), load_part(self.bundle, "generator")

    def clip_meaning(self, device: torch.device) -> Any:
        return StandInClip()


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> ToyStages:
    numbers = {"evaluation.threshold.random": 0.5, "evaluation.threshold.hard": 0.9}
    for attribute in ATTRIBUTES:
        numbers |= {f"attributes.{attribute.name}.mean": 0.0}
        numbers |= {f"attributes.{attribute.name}.deviation": 1.0}
    work = tmp_path_factory.mktemp("work")
    return ToyStages(toy_bundle(work / "bundle", calibration=numbers), work)


@pytest.fixture(scope="module")
def results(stages: ToyStages) -> dict[str, Any]:
    return _ablations(stages).run(TRAINED)


def _ablations(stages: ToyStages, sizes: Sizes = SIZES) -> Ablations:
    return Ablations(stages, stages.bundle.root, stages.work / "out", sizes, stages.say)


def test_each_variant_differs_in_what_its_name_says() -> None:
    full = changed(TRAINING, 7, FULL)
    assert full == dataclasses.replace(TRAINING, steps=7)
    for name in ("without L_r", "without L_f", "without L_p"):
        before, after = vars(full.weights), vars(changed(TRAINING, 7, name).weights)
        assert [before[n] for n in before if before[n] != after[n]] != []
        assert sum(before[n] != after[n] for n in before) == 1
    paper = changed(TRAINING, 7, "the paper's setting")
    assert paper.weights == LossWeights()
    assert (paper.identity_floor, paper.recurrence_every) == (None, 0)
    assert paper.keyword_shares == TRAINING.keyword_shares


def test_a_variant_that_changes_nothing_is_left_out() -> None:
    assert list(different(TRAINING, 5)) == list(VARIANTS)
    floorless = dataclasses.replace(TRAINING, identity_floor=None)
    assert set(VARIANTS) - set(different(floorless, 5)) == {"without the floor"}


def test_variants_are_trained_apart_and_measured_on_the_same_people(
    results: dict[str, Any], stages: ToyStages
) -> None:
    assert list(results["variants"]) == list(TRAINED)
    nets = [
        open_bundle(stages.work / "out" / name.replace(" ", "_") / "bundle").tensors("cdfnet")
        for name in TRAINED
    ]
    assert any(not torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    full, other = (all_figures(results["variants"][name]) for name in TRAINED)
    same = [n for n in full if n.startswith(("original", "reconstruction"))]
    assert same
    assert all(full[n] == other[n] for n in same)
    assert set(other) < set(full)
    for figure in full.values():
        assert 0 < figure["n"] <= 6
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert full["inverse, identity: round trip error"]["value"] < 1e-4
    assert full["inverse, identity: information lost"]["value"] > 1e-6


def test_the_page_holds_the_papers_tables(results: dict[str, Any], stages: ToyStages) -> None:
    page = (stages.work / "out" / "results.md").read_text()
    for wanted in (
        "Tables 4 and 10",
        "Table 7",
        "Table 8",
        "Table 9",
        "| laplace |",
        "without L_r",
    ):
        assert wanted in page
    assert "say nothing about photographs" in page
    rows = [line for line in page.splitlines() if line.startswith("| k-anonymity |")]
    figure = all_figures(results["variants"][FULL])["k-anonymity: PSR (random)"]
    assert f"{figure['value']:.3g} [{figure['low']:.3g}, {figure['high']:.3g}]" in rows[0]
    for table in page.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_what_is_done_is_not_done_again(
    results: dict[str, Any], stages: ToyStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was done again")

    monkeypatch.setattr(ablations, "train_demo_cdfnet", refuse)
    monkeypatch.setattr(ablations, "build_tables", refuse)
    assert _ablations(stages).run(TRAINED) == results
    path = stages.work / "out" / FULL / "figures.json"
    record = json.loads(path.read_text())
    assert record["sections"].pop("swap age alone")
    path.write_text(json.dumps(record))
    again = _ablations(stages).run((FULL,))["variants"][FULL]["sections"]
    assert again == results["variants"][FULL]["sections"]


def test_other_settings_in_the_same_folder_are_refused(
    results: dict[str, Any], stages: ToyStages
) -> None:
    with pytest.raises(ConfigError, match="another steps"):
        _ablations(stages, Sizes(steps=3, people=6)).run((FULL,))
    path = stages.work / "out" / FULL / "settings.json"
    settings = path.read_text()
    path.write_text(settings.replace('"generator.safetensors": "', '"generator.safetensors": "0'))
    with pytest.raises(ConfigError, match=r"another generator\.safetensors"):
        _ablations(stages).run((FULL,))
    path.write_text(settings)
    with pytest.raises(ConfigError, match="6 people"):
        _ablations(stages, Sizes(steps=2, people=7)).run((FULL,))
    with pytest.raises(ConfigError, match="without L_x"):
        _ablations(stages).run(("without L_x",))


def test_a_training_that_stops_is_reported_and_not_repeated(
    stages: ToyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def explode(*_: object, **__: object) -> None:
        calls.append(1)
        raise TrainingStopped("the term 'latent' is inf")

    monkeypatch.setattr(ablations, "train_demo_cdfnet", explode)
    for _ in range(2):
        tool = Ablations(stages, stages.bundle.root, tmp_path, SIZES, stages.say)
        record = tool.run(("without the floor",))["variants"]["without the floor"]
        assert record["stopped"] == "the term 'latent' is inf"
        assert record["sections"] == {}
    assert len(calls) == 1
    assert "the term 'latent' is inf" in (tmp_path / "results.md").read_text()


def test_the_recipes_own_network_is_the_full_one(stages: ToyStages) -> None:
    tool = _ablations(stages, Sizes(people=6))
    own = stages.work / "cdfnet"
    assert tool._trained_at(FULL) != own
    own.mkdir()
    (own / "done.json").write_text("{}")
    assert tool._trained_at(FULL) == own
    assert _ablations(stages)._trained_at(FULL) != own  # 2 steps are not the recipe's


def test_the_frontier_is_drawn_from_the_results(results: dict[str, Any]) -> None:
    picture = frontier_picture(results)
    assert picture.shape[2] == 3
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)}) > 10
    fewer = {**results, "variants": {FULL: results["variants"][FULL]}}
    assert (frontier_picture(fewer) != picture).any()
