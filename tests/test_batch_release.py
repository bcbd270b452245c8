"""Ledger files, people and pseudonyms with whole pictures: what is counted, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectors import KnownFaces, detection
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.batch import BatchReport, SceneWork, anonymize_files
from lreorg_fast.errors import ConfigError
from lreorg_fast.privacy import Ledger, LedgerFile, Pseudonyms, Subjects

ONE = [detection(40, 40, 30)]
TWO = [detection(40, 40, 30), detection(110, 40, 30)]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 90, 160, 3), dtype=np.uint8)
    for i, picture in enumerate(noise):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


def work(ledger: Ledger, faces: list[Any], **subjects: Any) -> SceneWork:
    settings = lf.SceneSettings(method="avatar")
    scene = lf.SceneAnonymizer(
        lf.Anonymizer.load("demo", ledger=ledger), KnownFaces(faces), settings
    )
    return SceneWork(scene, subjects=Subjects(ledger, **subjects))


def tracks(report: BatchReport) -> list[list[str]]:
    return [[face["track"] for face in entry.faces] for entry in report.files]


def test_a_ledger_file_knows_the_faces_of_a_picture_again(tmp_path: Path, pictures: Path) -> None:
    made = [
        tracks(
            anonymize_files(
                work(LedgerFile(tmp_path / "ledger", 1.0), TWO), [pictures], tmp_path / out
            )
        )
        for out in ("a", "b")
    ]
    assert made[0] == made[1]
    names = [name for entry in made[0] for name in entry]
    assert len(set(names)) == 4
    assert all(name.startswith("face-") for name in names)


def test_a_named_person_is_one_over_pictures_of_one_face(tmp_path: Path, pictures: Path) -> None:
    whose = {"person": lambda path: "Ann"}
    alone = anonymize_files(work(Ledger(), ONE, **whose), [pictures], tmp_path / "a")
    (first,), (second,) = tracks(alone)
    assert first == second
    assert "counted together" in alone.persons
    several = anonymize_files(work(Ledger(), TWO, **whose), [pictures], tmp_path / "b")
    assert [entry.status for entry in several.files] == ["refused", "refused"]
    assert all("2 faces" in str(entry.reason) for entry in several.files)
    assert not several.ledger["tracks"]  # nothing was drawn for them
    assert not (tmp_path / "b").exists()


def test_a_named_person_is_not_counted_from_zero_again(tmp_path: Path, pictures: Path) -> None:
    named = work(Ledger(), ONE, person=lambda path: "Ann")
    with pytest.raises(ConfigError, match="ledger file"):
        anonymize_files(named, [pictures], tmp_path / "a", report=tmp_path / "r", resume=True)


def test_pseudonyms_are_not_for_whole_pictures(tmp_path: Path) -> None:
    keys = Pseudonyms(tmp_path / "keys", create=True)
    with pytest.raises(ConfigError, match="aligned faces"):
        work(Ledger(), ONE, person=lambda path: "Ann", pseudonyms=keys)
