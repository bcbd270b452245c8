"""One more keyword: the new bundle works, the old one stays, and nothing hopeless is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from click.testing import CliRunner
from torch import Tensor
from toy_judges import ToyClip
from toy_training import stopped_at

import lreorg_fast as lf
from lreorg_fast.cli.app import lreorg
from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.keywords import Keyword
from lreorg_fast.new_keyword import KeywordTraining, add_keyword
from lreorg_fast.training.tables import TableSizes
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.bundle import Bundle

GLASSES = Keyword("glasses", ("wearing", "without"), "a photo of a person {} glasses.")
QUICK = KeywordTraining(steps=4, batch=2, people=8, sharpness=5.0)
SMALL = TableSizes(latents=200, groups=8, members=2, labelled=100)


class BundlesClip(ToyClip):
    """Gives the keywords of a bundle the features that its tables hold."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        tables = bundle.tensors("tables")
        self._known = {k.name: tables[f"keyword.{k.name}"] for k in bundle.manifest.keywords}

    def text(self, sentences: Sequence[str], normalize: bool = False) -> Tensor:
        features = super().text(sentences, normalize)
        for row, sentence in enumerate(sentences):
            if sentence in self._known:
                features[row] = self._known[sentence]
        return features


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(toy_bundle(tmp_path_factory.mktemp("bundle") / "toy"))


def add(old: Bundle, folder: Path, keyword: Keyword = GLASSES, **changes: Any) -> Bundle:
    said: list[str] = []
    options = {"clip": BundlesClip(old), "settings": QUICK, "tables": SMALL, "say": said.append}
    made = add_keyword(old, keyword, folder / "new", folder / "work", **{**options, **changes})
    assert any("CLIP calls: wearing" in line for line in said)
    assert any(line.startswith("training takes about 0:0") for line in said)
    assert any(line.startswith("| glasses |") for line in said)
    return made


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_new_bundle_hides_and_keeps_the_new_keyword(old: Bundle, tmp_path: Path) -> None:
    before = contents_of(old.root)
    made = add(old, tmp_path)
    made.verify()
    assert contents_of(old.root) == before
    assert [k.name for k in made.manifest.keywords] == [
        *(k.name for k in old.manifest.keywords),
        "glasses",
    ]
    assert made.manifest.calibration == old.manifest.calibration
    assert made.manifest.figures == {}
    parts = ("generator", "encoder", "identity:training")
    assert all(
        made.manifest.files[made.part(role).file] == old.manifest.files[old.part(role).file]
        for role in parts
    )
    (cost,) = made.manifest.recipe["added_keywords"]
    assert set(cost["after"]) == {k.name for k in made.manifest.keywords}
    assert sum(cost["pictures"]["shares"]) == pytest.approx(1.0)
    face = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    anonymizer = lf.Anonymizer.load(made.root)
    for options in (
        {"hide": ["identity"], "keep": ["gender", "glasses"]},
        {"hide": ["glasses"], "keep": [], "attribute_rule": "farthest"},
    ):
        assert anonymizer(face, **options).faces[0].status == "replaced"
    (tmp_path / "third").mkdir()
    with pytest.raises(ConfigError, match="has a keyword 'glasses' already"):
        add(made, tmp_path / "third")
    second = Keyword("hat", ("with", "without"), "a photo of a person {} a hat.")
    again = add_keyword(
        made, second, tmp_path / "third" / "new", tmp_path / "work3",
        clip=BundlesClip(made), settings=QUICK, tables=SMALL, say=lambda _: None,
    )  # fmt: skip
    assert [c["keyword"]["name"] for c in again.manifest.recipe["added_keywords"]] == [
        "glasses",
        "hat",
    ]


def test_the_rest_is_rehearsed_and_the_new_one_has_its_share() -> None:
    config = QUICK.config(("identity", "age", "color"), "glasses")
    assert sum(config.keyword_shares.values()) == pytest.approx(1.0)
    assert config.keyword_shares["glasses"] == 0.4
    assert min(config.keyword_shares.values()) > 0.1
    assert config.kept_keywords == ("age", "glasses")


def test_an_interrupted_training_goes_on_to_the_same_bundle(old: Bundle, tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = add(old, tmp_path / "whole")
    with stopped_at(1):
        add(old, tmp_path / "broken")
    assert not (tmp_path / "broken" / "new").exists()
    other = Keyword("hat", ("with", "without"), "a photo of a person {} a hat.")
    with pytest.raises(ConfigError, match=r"begun with other settings \(keyword\.contents"):
        add(old, tmp_path / "broken", other)
    made = add(old, tmp_path / "broken")
    name = made.part("cdfnet").file
    assert made.manifest.files[name] == whole.manifest.files[name]


@pytest.mark.parametrize("broken", ["alike", "never seen", "other clip", "no contents"])
def test_what_cannot_be_learned_is_said_before_training(
    broken: str, old: Bundle, tmp_path: Path
) -> None:
    clip, keyword, words = BundlesClip(old), GLASSES, ""
    if broken == "alike":
        text, one = clip.text, clip.text(["all"], normalize=True)

        def alike(sentences: Sequence[str], normalize: bool = False) -> Tensor:
            return one.expand(2, -1) if "glasses." in sentences[0] else text(sentences, normalize)

        clip.text = alike  # type: ignore[method-assign]
        words = "one to this CLIP"
    elif broken == "never seen":
        picture = torch.nn.functional.normalize(torch.ones(8), dim=0)
        clip.image = lambda x, normalize=False: picture.expand(len(x), -1)  # type: ignore[method-assign]
        words = "CLIP calls none of 400"
    elif broken == "other clip":
        clip, words = ToyClip(), "another feature for 'identity'"  # type: ignore[assignment]
    else:
        keyword, words = Keyword("aura"), "needs two contents"
    with pytest.raises(ConfigError, match=words):
        add(old, tmp_path, keyword, clip=clip)
    assert not (tmp_path / "work").exists()
    assert not (tmp_path / "new").exists()


def test_an_output_that_exists_is_refused_before_training(old: Bundle, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(OutputError):
        add(old, tmp_path)
    assert not (tmp_path / "work").exists()


def command(*arguments: object) -> Any:
    return CliRunner().invoke(lreorg, ["bundle", "add-keyword", *map(str, arguments)])


def test_the_command_makes_the_same_bundle(
    old: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lreorg_fast.weights.clip.load_clip", lambda name, path: BundlesClip(old))
    result = command(
        old.root, "glasses", "--content", "wearing", "--content", "without",
        "--template", "a photo of a person {} glasses.", "-o", tmp_path / "new",
        "--clip", "toy:clip.bin", "--steps", 3, "--batch", 2, "--sharpness", 5,
        "--latents", 200, "--groups", 8, "--members", 2, "--labelled", 100, "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "new")
    assert "| glasses |" in result.stderr
    assert (tmp_path / "new.training" / "state.pt").exists()
    manifest = json.loads((tmp_path / "new" / "bundle.json").read_text())
    assert manifest["keywords"][-1]["name"] == "glasses"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("glasses", "--content", "one"), "2 to"),
        (("Gl/asses", "--content", "a", "--content", "b"), "keyword name"),
        (("g", "--content", "a", "--content", "b", "--template", "x"), "template"),
        (("g", "--content", "a", "--content", "b"), "--clip"),
        (("g", "--content", "a", "--content", "b", "--clip", "x"), "NAME:FILE"),
    ],
    ids=["one", "name", "template", "no clip", "clip"],
)
def test_wrong_options_are_one_sentence(
    arguments: tuple[str, ...], words: str, old: Bundle, tmp_path: Path
) -> None:
    result = command(old.root, *arguments, "-o", tmp_path / "new")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "new").exists()
