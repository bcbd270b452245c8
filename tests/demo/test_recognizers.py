"""Further recognizers that judge: who may, what is measured with them, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from click.testing import CliRunner

import lreorg_fast as lf
from lreorg_fast.avatars import ATTRIBUTES
from lreorg_fast.demo.figures import Measurement, draw_people, paired
from lreorg_fast.demo.judge import Judge, recognizers_of
from lreorg_fast.demo.recognizers import exchange_surroundings, further_figures
from lreorg_fast.demo.table import main as table_command
from lreorg_fast.demo.table import recognizers_table
from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.evaluation import Figure
from lreorg_fast.weights import open_bundle

ROOT = Path(__file__).parents[2]
SECOND = "evaluation-2"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> lf.Anonymizer:
    numbers = {
        f"{r}.threshold.{t}": 0.5 for r in ("evaluation", SECOND) for t in ("random", "hard")
    }
    for attribute in ATTRIBUTES:
        numbers |= {f"attributes.{attribute.name}.mean": 0.0}
        numbers |= {f"attributes.{attribute.name}.deviation": 1.0}
    folder = tmp_path_factory.mktemp("bundle") / "toy"
    return lf.Anonymizer.load(toy_bundle(folder, calibration=numbers, second_judge=True))


def test_the_recognizers_that_judge_are_found_and_no_other_judges(toy: lf.Anonymizer) -> None:
    assert recognizers_of(toy.bundle) == ("evaluation", SECOND)
    with pytest.raises(ConfigError, match=r"'training' does not only judge; .* evaluation-2"):
        Judge(toy.bundle, "training")
    with pytest.raises(BundleError, match="no part 'identity:evaluation-3'"):
        Judge(toy.bundle, "evaluation-3")


def test_either_judges_with_its_own_network(toy: lf.Anonymizer) -> None:
    people = draw_people(4, 0, toy.resolution)
    first, second = (
        Judge(toy.bundle, name).embed(people.probes) for name in ("evaluation", SECOND)
    )
    assert first.shape == second.shape == (4, 8)
    assert not np.allclose(first, second)
    assert np.array_equal(Judge(toy.bundle).embed(people.probes), first)


def test_a_judge_without_thresholds_is_refused(tmp_path: Path) -> None:
    bundle = open_bundle(toy_bundle(tmp_path / "toy", second_judge=True))
    with pytest.raises(BundleError, match=r"lacks 'evaluation-2\.threshold\.random'"):
        Judge(bundle, SECOND)


def test_the_second_looks_at_the_draw_of_the_first(toy: lf.Anonymizer) -> None:
    people = draw_people(12, 0, toy.resolution)
    first = Measurement(toy, people)
    other = first.judged_by(SECOND)
    assert other.default is first.default
    assert np.array_equal(other.others, Judge(toy.bundle, SECOND).embed(people.others))
    figures = dict(further_figures(first))
    for name in (
        "evaluation-2: original: recognised (hard)",
        "evaluation-2: default: PSR (hard)",
        "evaluation-2: reversed with the key: recognised",
        "evaluation-2: within another's surroundings: recognised by the inner face",
        "evaluation: within another's surroundings: recognised by the surroundings",
        "evaluation-2 and evaluation: correlation, strangers",
        "evaluation-2 and evaluation: correlation, anonymized and the person",
    ):
        assert figures[name].n == 12, name
        assert figures[name].low <= figures[name].value <= figures[name].high, name
    own = paired(other.probes, other.others)
    assert figures["evaluation-2: original: recognised (random)"].value == (own > 0.5).mean()


def test_a_bundle_of_one_recognizer_has_nothing_to_compare(tmp_path: Path) -> None:
    numbers = {"evaluation.threshold.random": 0.5, "evaluation.threshold.hard": 0.9}
    for attribute in ATTRIBUTES:
        numbers |= {f"attributes.{attribute.name}.mean": 0.0}
        numbers |= {f"attributes.{attribute.name}.deviation": 1.0}
    plain = lf.Anonymizer.load(toy_bundle(tmp_path / "toy", calibration=numbers))
    assert not dict(further_figures(Measurement(plain, draw_people(4, 0, plain.resolution))))


def test_surroundings_are_the_next_ones_and_the_middle_stays() -> None:
    pictures = torch.stack([torch.full((3, 64, 64), value) for value in (-1.0, 0.0, 1.0)])
    mixed = exchange_surroundings(pictures)
    assert mixed[:, 0, 36, 32].tolist() == [-1.0, 0.0, 1.0]
    for row, column in ((2, 2), (2, 32), (36, 2), (62, 32)):
        assert mixed[:, 0, row, column].tolist() == [0.0, 1.0, -1.0]


def test_the_table_shows_them_side_by_side() -> None:
    def figure(value: float) -> dict[str, object]:
        return vars(Figure(value, 10, value - 0.1, value + 0.1))

    figures = {
        "original: recognised (random)": figure(0.5),
        "default: gender preserved": figure(0.7),
        "evaluation: within: inner": figure(0.2),
        "evaluation-2: original: recognised (random)": figure(0.6),
        "evaluation-2: within: inner": figure(0.8),
        "evaluation-2 and evaluation: correlation, strangers": figure(0.3),
    }
    assert recognizers_table(figures).splitlines() == [
        "| figure | `evaluation` | `evaluation-2` | n |",
        "|---|---|---|---:|",
        "| original: recognised (random) | 0.500 (0.400 to 0.600) | 0.600 (0.500 to 0.700) | 10 |",
        "| within: inner | 0.200 (0.100 to 0.300) | 0.800 (0.700 to 0.900) | 10 |",
        "",
        "| figure | value | 95% interval | n |",
        "|---|---:|---|---:|",
        "| evaluation-2 and evaluation: correlation, strangers | 0.300 | 0.200 to 0.400 | 10 |",
    ]
    with pytest.raises(ConfigError, match="one recognizer only"):
        recognizers_table({"original: recognised (random)": figure(0.5)})


def test_the_table_command_compares_the_recognizers() -> None:
    shown = CliRunner().invoke(table_command, ["--recognizers"])
    assert shown.exit_code == 0
    assert shown.output.strip() == recognizers_table(open_bundle("demo").manifest.figures)
    both = CliRunner().invoke(table_command, ["--recognizers", "--headline"])
    assert both.exit_code == 2
    assert "ask for one" in both.output


def test_the_packaged_second_recognizer_is_small_sees_the_inner_face_and_works() -> None:
    bundle = open_bundle("demo")
    part = bundle.part("identity:evaluation-2")
    assert part.architecture == "window-backbone"
    assert bundle.manifest.files[part.file].bytes < 850_000
    people = draw_people(200, 1, 64)
    measured = [Judge(bundle, name) for name in recognizers_of(bundle)]
    assert len(measured) == 2
    for judge in measured:
        genuine = paired(judge.embed(people.probes), judge.embed(people.others))
        strangers = paired(judge.embed(people.probes), np.roll(judge.embed(people.others), 1, 0))
        assert (genuine > judge.random).mean() > 0.5
        assert (strangers > judge.random).mean() < 0.05


def test_the_page_compares_the_recognizers() -> None:
    page = (ROOT / "docs" / "demo_figures.md").read_text(encoding="utf-8")
    assert recognizers_table(open_bundle("demo").manifest.figures) in page
