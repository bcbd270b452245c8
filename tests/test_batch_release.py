"""Ledger files, people and pseudonyms with whole pictures: what is counted, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import toy_bundle
from detectors import KnownFaces, detection
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.batch import BatchReport, SceneWork, anonymize_files
from lreorg_fast.errors import ConfigError
from lreorg_fast.privacy import Ledger, LedgerFile, PeopleFile, Pseudonyms, Subjects

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


def test_pseudonyms_need_the_method_that_draws_them(tmp_path: Path) -> None:
    keys = Pseudonyms(tmp_path / "keys", create=True)
    with pytest.raises(ConfigError, match="'reorganize'"):
        work(Ledger(), ONE, person=lambda path: "Ann", pseudonyms=keys)


# ---- who is where


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("b") / "toy")


class Drawn:
    """Runs on tiny networks, with the draws that each face got."""

    def __init__(self, toy: Path, pictures: Path) -> None:
        self.toy, self.pictures = toy, pictures

    def __call__(self, out: str, table: str, ledger: Ledger | None = None, **more: Any) -> Any:
        (self.pictures.parent / "people.csv").write_text(table)
        ledger = ledger or Ledger()
        people = PeopleFile(self.pictures.parent / "people.csv")
        scene = lf.SceneAnonymizer(
            lf.Anonymizer.load(self.toy, ledger=ledger),
            KnownFaces(TWO),
            lf.SceneSettings(mechanism="uniform" if more else "window-rr"),
        )
        made = SceneWork(scene, subjects=Subjects(ledger, people=people, **more))
        drawn: list[Any] = []
        watched = scene.anonymizer.ledger.held

        def held(track: Any, draw: Any, epsilon: float, keyword: str = "identity") -> Any:
            found = watched(track, draw, epsilon, keyword)
            drawn.append((track, tuple(found.feature)))
            return found

        scene.anonymizer.ledger.held = held  # type: ignore[method-assign]
        report = anonymize_files(made, [self.pictures], self.pictures.parent / out)
        return report, drawn


@pytest.fixture
def drawn(toy: Path, pictures: Path) -> Drawn:
    return Drawn(toy, pictures)


def point(face: Any) -> str:
    x, y = (face.box[:2] + face.box[2:]) / 2
    return f"{x:.0f},{y:.0f}"


def test_a_person_is_one_over_pictures_of_many(drawn: Drawn) -> None:
    table = f"file,person,x,y\nin/0.png,Ann,{point(TWO[0])}\nin/1.png,Ann,{point(TWO[1])}\n"
    report, draws = drawn("a", table)
    (ann, other), (another, ann_again) = tracks(report)
    assert ann == ann_again
    assert len({ann, other, another}) == 3
    features = dict(draws)
    assert len({feature for track, feature in draws if track == ann}) == 1
    assert len(features) == 3
    assert report.ledger["tracks"] == {ann: 1.0, other: 1.0, another: 1.0}
    assert "Each face that nobody named" in report.persons
    assert "Ann" not in str(report.to_dict())


def test_a_pseudonym_is_one_face_in_every_run_and_others_are_fresh(
    drawn: Drawn, tmp_path: Path
) -> None:
    keys = Pseudonyms(tmp_path / "keys", create=True)
    table = f"file,person,x,y\nin/0.png,Ann,{point(TWO[0])}\nin/1.png,Ben,{point(TWO[0])}\n"
    (first, a), (second, b) = (drawn(out, table, pseudonyms=keys) for out in "ab")
    assert first.complete
    names = tracks(first)
    assert [row[0] for row in names] == [row[0] for row in tracks(second)]
    assert names[0][0] != names[1][0]
    assert all(row[1].startswith("face-") for row in names)
    for named in (names[0][0], names[1][0]):
        assert dict(a)[named] == dict(b)[named]
    assert dict(a)[names[0][0]] != dict(a)[names[1][0]]
    # Groups of uniform draws: 2 runs of 2 others are not all alike but once in 64 ** 3.
    others = [dict(d)[row[1]] for d, r in ((a, first), (b, second)) for row in tracks(r)]
    assert len(set(others)) > 1
    assert set(first.ledger["tracks"].values()) == {0.0}
    assert "drawn afresh" in first.persons
    assert Pseudonyms(tmp_path / "keys").people.keys() == {"Ann", "Ben"}


def test_a_ledger_file_counts_a_person_once_a_run(drawn: Drawn, tmp_path: Path) -> None:
    table = f"file,person,x,y\nin/0.png,Ann,{point(TWO[0])}\nin/1.png,Ann,{point(TWO[1])}\n"
    path = tmp_path / "ledger"
    made = [drawn(out, table, LedgerFile(path, 2.0))[0] for out in "abc"]
    ann = tracks(made[0])[0][0]
    assert ann.startswith("person-")
    assert [report.ledger["tracks"][ann] for report in made] == [1.0, 2.0, 2.0]
    assert [len(report.failures) for report in made] == [0, 0, 2]  # the third is past the budget


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("in/0.png,Ann,1,1", "no face is found there (there are faces around"),
        ("in/0.png,Ann,,", "there are 2 faces"),
    ],
)
def test_a_line_without_its_face_refuses_the_picture(
    drawn: Drawn, pictures: Path, line: str, words: str
) -> None:
    report, draws = drawn("a", f"file,person,x,y\n{line}\n")
    assert [entry.status for entry in report.files] == ["refused", "replaced"]
    assert words in str(report.files[0].reason)
    assert not (pictures.parent / "a" / "0.png").exists()
    assert len(draws) == 2  # of the other picture


def test_a_line_about_no_input_stops_the_run(drawn: Drawn, pictures: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        drawn("a", f"file,person,x,y\n0.png,Ann,{point(TWO[0])}\n")
    assert not (pictures.parent / "a").exists()
