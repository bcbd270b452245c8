"""The contact sheets: which rows they show, that rows differ, and what the command leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from click.testing import CliRunner

import lreorg_fast as lf
from lreorg_fast.demo.figures import draw_people
from lreorg_fast.demo.sheets import main, sheets
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media import read_image
from lreorg_fast.media.pictures import Picture

NAMES = ["identity", "joint", "alone", "swapped", "reversed", "methods"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("sheets") / "bundle")


@pytest.fixture(scope="module")
def pictures(bundle: Path) -> list[Picture]:
    return draw_people(3, 0, lf.Anonymizer.load(bundle).resolution).probes


def test_every_sheet_begins_with_the_originals(bundle: Path, pictures: list[Picture]) -> None:
    made = sheets(lf.Anonymizer.load(bundle), pictures)
    assert list(made) == NAMES
    for rows in made.values():
        assert list(rows)[:2] == ["original", "encoded and rendered"]
        assert all(len(row) == 3 for row in rows.values())
        assert np.array_equal(rows["original"], pictures)
    assert len(made["joint"]) == 2 + 2 * (1 + len(DEFAULT_KEEP))
    assert set(made["alone"]) >= {f"{name} hidden" for name in DEFAULT_KEEP}
    assert {"k-anonymity", "laplace"} <= set(made["methods"])


def test_rows_show_what_their_labels_say(bundle: Path, pictures: list[Picture]) -> None:
    made = sheets(lf.Anonymizer.load(bundle), pictures)
    swapped = made["swapped"]
    plain = np.array(swapped["encoded and rendered"])
    for name in ("identity", *DEFAULT_KEEP):
        assert not np.array_equal(swapped[f"{name} of the next"], plain)
    back = made["reversed"]
    assert not np.array_equal(back["identity hidden"], back["identity reversed"])
    draws = [made["identity"][f"new identity, draw {i}"] for i in (1, 2, 3, 4)]
    assert any(not np.array_equal(draws[0], draw) for draw in draws[1:])


def test_the_command_writes_one_picture_per_sheet(bundle: Path, tmp_path: Path) -> None:
    arguments = ["-o", str(tmp_path), "--bundle", str(bundle), "--people", "2", "--side", "40"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert sorted(p.stem for p in tmp_path.iterdir()) == sorted(NAMES)
    assert read_image(tmp_path / "joint.png").shape[0] > 12 * 40
    missing = CliRunner().invoke(main, ["-o", str(tmp_path), "--bundle", str(tmp_path / "no")])
    assert missing.exit_code == 1
    assert "no" in missing.output
