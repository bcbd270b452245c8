"""The demonstration: what it leaves, what it measures, and what it says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from click.testing import CliRunner

import lreorg_fast as lf
from lreorg_fast.avatars import ATTRIBUTES, sample_avatars
from lreorg_fast.demo import run_demo
from lreorg_fast.demo.figures import Measurement, draw_people
from lreorg_fast.demo.judge import present
from lreorg_fast.demo.table import headline_table, markdown_table
from lreorg_fast.demo.table import main as table_command
from lreorg_fast.errors import ConfigError
from lreorg_fast.media import read_image
from lreorg_fast.media.contact_sheet import contact_sheet
from lreorg_fast.weights import open_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> lf.Anonymizer:
    numbers = {"evaluation.threshold.random": 0.5, "evaluation.threshold.hard": 0.9}
    for attribute in ATTRIBUTES:
        numbers |= {f"attributes.{attribute.name}.mean": 0.0}
        numbers |= {f"attributes.{attribute.name}.deviation": 1.0}
    folder = tmp_path_factory.mktemp("bundle") / "toy"
    return lf.Anonymizer.load(toy_bundle(folder, calibration=numbers))


def test_people_are_drawn_twice_and_in_no_training_set() -> None:
    people = draw_people(5, 0, 32)
    assert len(people) == len(people.probes) == len(people.others) == 5
    assert not np.array_equal(people.probes[0], people.others[0])
    again = draw_people(5, 0, 32)
    assert all(np.array_equal(a, b) for a, b in zip(people.probes, again.probes, strict=True))
    trained_on = sample_avatars(1000, torch.Generator().manual_seed(1)).identity
    assert not (people.avatars.identity[:, None] == trained_on[None]).all(dim=2).any()


def test_truth_is_the_attributes_of_the_probes() -> None:
    people = draw_people(50, 3, 16)
    truth = people.truth(["gender", "beard"])
    assert np.array_equal(truth[:, 0], people.avatars.attributes["gender"][::2].numpy() > 0.5)
    values = people.avatars.labels()[::2].double().numpy()
    assert np.array_equal(truth, present(values, ["gender", "beard"]))


def test_every_figure_has_n_and_an_interval(toy: lf.Anonymizer) -> None:
    people = draw_people(20, 0, toy.resolution)
    figures = list(Measurement(toy, people).thorough())
    names = [name for name, _ in figures]
    assert len(set(names)) == len(names)
    assert {"default: PSR (hard)", "default: person ranked last", "laplace: mean preserved"} <= set(
        names
    )
    for _, figure in figures:
        assert 0 < figure.n <= 20
        assert figure.low <= figure.value <= figure.high
    table = markdown_table({name: vars(figure) for name, figure in figures})
    assert table.count("\n") == len(figures) + 1


def test_a_perfect_copy_is_measured_as_no_protection(
    toy: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement can fail: with the originals as results, nobody is protected."""
    people = draw_people(16, 0, toy.resolution)
    measurement = Measurement(toy, people)
    copied = type(measurement.default)(tuple(people.others), measurement.default.faces)
    found = dict(measurement.protection("copy", copied))
    assert found["copy: PSR (random)"].value == 0
    assert found["copy: person ranked first"].value > 0.9
    assert found["copy: similarity to the person"].value == pytest.approx(1.0)


def test_a_contact_sheet_holds_every_picture() -> None:
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    sheet = contact_sheet({"one": [red, red], "two": [red, red]}, side=20)
    assert int((sheet == (255, 0, 0)).all(axis=2).sum()) == 4 * 20 * 20


def test_the_demo_on_the_packaged_bundle(tmp_path: Path) -> None:
    report = run_demo(tmp_path / "out", 12, 5, lambda _: None)
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored == report
    assert "not a guarantee for the picture" in report["statement"]
    assert "nothing about photographs" in report["statement"]
    assert all(Path(path).exists() for path in report["paths"])
    assert read_image(tmp_path / "out" / "contact_sheet.png").shape[2] == 3
    originals = sorted((tmp_path / "out" / "originals").iterdir())
    assert len(originals) == 12
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert values["default: PSR (random)"] > 0.8
    assert values["default: mean preserved"] > 0.6
    again = run_demo(tmp_path / "again", 12, 5, lambda _: None)
    assert again["figures"] != report["figures"]  # the privacy draws have no seed
    with pytest.raises(ConfigError, match="faces"):
        run_demo(tmp_path / "few", 3, 0, lambda _: None)


def test_the_packaged_bundle_is_whole_small_and_says_how_it_was_made() -> None:
    bundle = open_bundle("demo")
    bundle.verify()
    manifest = bundle.manifest
    assert manifest.license == "Apache-2.0"
    assert manifest.recipe["command"].startswith("python -m lreorg_fast.avatars.train")
    assert [stage["stage"] for stage in manifest.recipe["stages"]]
    assert manifest.figures["default: PSR (random)"]["n"] >= 900
    assert {keyword.name for keyword in manifest.keywords} == set(lf.KEYWORDS)


def test_the_pages_show_the_figures_of_the_bundle() -> None:
    figures = open_bundle("demo").manifest.figures
    assert headline_table(figures) in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "demo_figures.md").read_text(encoding="utf-8")
    assert markdown_table(figures) in page


def test_the_table_command_says_what_it_cannot_show(tmp_path: Path) -> None:
    shown = CliRunner().invoke(table_command, ["--headline"])
    assert shown.exit_code == 0
    assert shown.output.strip() == headline_table(open_bundle("demo").manifest.figures)
    assert "--headline" in CliRunner().invoke(table_command, ["--help"]).output
    for arguments, words in (
        ([str(tmp_path / "none")], "none"),
        ([str(toy_bundle(tmp_path / "toy")), "--headline"], "has no figure"),
    ):
        refused = CliRunner().invoke(table_command, arguments)
        assert refused.exit_code == 1
        assert words in refused.output
