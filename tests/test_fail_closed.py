"""Thirteen faults on a hundred pictures each: no pixel of a source reaches a result."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bundles import RESOLUTION, toy_bundle
from faults import FAULTS
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.batch import anonymize_files
from lreorg_fast.pipeline import FILL_COLOUR
from lreorg_fast.privacy import LedgerFile

PICTURES = 100


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def anonymizer(bundle: Path) -> lf.Anonymizer:
    return lf.Anonymizer.load(bundle)


def pictures(count: int) -> np.ndarray:
    size = (count, RESOLUTION, RESOLUTION, 3)
    return np.random.default_rng(5).integers(0, 256, size, dtype=np.uint8)


def test_without_a_fault_they_are_replaced(anonymizer: lf.Anonymizer) -> None:
    """Or the test below would prove nothing."""
    assert not anonymizer(pictures(10)).filled


def test_there_are_thirteen() -> None:
    assert len(FAULTS) == 13


@pytest.mark.parametrize("name", FAULTS)
def test_every_picture_is_filled(
    name: str, anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS[name](anonymizer, monkeypatch)
    sources = pictures(PICTURES)
    result = anonymizer(sources)
    assert len(result.images) == PICTURES
    passed = sum(not (image == np.array(FILL_COLOUR, np.uint8)).all() for image in result.images)
    assert passed == 0
    assert all(face.status == "filled" and face.reason for face in result.faces)


@pytest.fixture
def opened_for_writing() -> Iterator[list[str]]:
    """Paths of all files that this process opens to write, also temporary ones."""
    paths: list[str] = []
    active = True

    def hook(event: str, arguments: tuple) -> None:
        if active and event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
                paths.append(str(path))

    sys.addaudithook(hook)  # there is no way to remove one
    yield paths
    active = False


def test_originals_are_in_no_temporary_file(
    anonymizer: lf.Anonymizer,
    tmp_path: Path,
    opened_for_writing: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that is written is a result under a hidden name beside it, the report, and the report's
    journal, which is text and gone at the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    (tmp_path / "in").mkdir()
    for i, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(tmp_path / "in" / f"Anna{i}.png")
    opened_for_writing.clear()
    out = tmp_path / "out"
    report = anonymize_files(anonymizer, [tmp_path / "in"], out, report=out / "report.json")
    assert report.counts["replaced"] == 3
    assert len(opened_for_writing) >= 4
    for path in opened_for_writing:
        assert Path(path).parent == out
        assert "Anna" not in path  # the name of a temporary file tells nothing either
        assert Path(path).name.startswith(".lreorg-") or path == f"{out}/report.json.journal"
    assert len(list(out.iterdir())) == 4


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_tells_nothing_about_the_person(
    name: str,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the log nor the ledger holds a name, a number of a face or a path."""
    ledger = LedgerFile(tmp_path / "ledger", 1.0)
    anonymizer = lf.Anonymizer.load(bundle, ledger=ledger)
    FAULTS[name](anonymizer, monkeypatch)
    source = tmp_path / "Anna-Musterfrau-7f3a.png"
    Image.fromarray(pictures(1)[0]).save(source)
    with caplog.at_level(logging.DEBUG):
        report = anonymize_files(anonymizer, [source], tmp_path / "out")
    assert report.counts["filled"] == 1
    for text in (caplog.text, (tmp_path / "ledger").read_text()):
        assert "Anna" not in text
        assert str(tmp_path) not in text
    # No distance, feature or probability either: those have more digits than an epsilon.
    said = [r.getMessage() for r in caplog.records if r.name.startswith("lreorg_fast")]
    assert said
    assert not any(re.search(r"\d\.\d{3}", message) for message in said)
