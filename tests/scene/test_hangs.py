"""A detector or a generator that never comes back: the face is filled, the run goes on or ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import toy_bundle
from detectors import KnownFaces, detection
from hangs import Hanging
from PIL import Image

from lreorg_fast.batch import AlignedWork, BatchReport, SceneWork, anonymize_files
from lreorg_fast.errors import LateError
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.scene import KnownFace, SceneAnonymizer, SceneSettings
from lreorg_fast.time_limit import MOST_LEFT_BEHIND

FACES = [detection(20, 24, 24), detection(48, 20, 16)]


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.release()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("b") / "toy")


def noise(seed: int, height: int = 48, width: int = 64) -> Picture:
    return np.random.default_rng(seed).integers(1, 100, (height, width, 3), dtype=np.uint8)


def pictures(folder: Path, count: int, **size: int) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(noise(i, **size)).save(folder / f"p{i}.png")
    return folder


def only(*numbers: int) -> Callable[[int], bool]:
    return lambda number: number in numbers


def statuses(report: BatchReport) -> list[str]:
    return [entry.status for entry in report.files]


def spoilt(anonymizer: Anonymizer, patch: pytest.MonkeyPatch, hanging: Hanging, hangs: Any) -> None:
    generator = anonymizer.generator
    patch.setattr(generator, "synthesis", hanging.instead_of(generator.synthesis, hangs))


@pytest.mark.parametrize("method", ["reorganize", "avatar"])
def test_a_generator_that_hangs_costs_the_faces_of_one_picture(
    bundle: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    anonymizer = Anonymizer.load(bundle)
    settings = SceneSettings(method=method)
    scene = SceneAnonymizer(anonymizer, KnownFaces(FACES), settings, limit=hanging.limit)
    spoilt(anonymizer, monkeypatch, hanging, only(0))
    picture = noise(0)
    late = scene(picture)
    assert [face.status for face in late.faces] == ["filled", "filled"]
    assert {face.reason for face in late.faces} == {"replacing the faces took longer than 120 s"}
    for face in FACES:
        x, y = (int(v) for v in (face.box[:2] + face.box[2:]) / 2)
        assert (late.image[y, x] == FILL_COLOUR).all()
    assert "replaced" in {face.status for face in scene(picture).faces}  # the ledger is not held


def test_judging_that_hangs_is_a_doubt(
    bundle: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymizer = Anonymizer.load(bundle)
    scene = SceneAnonymizer(anonymizer, KnownFaces(FACES), SceneSettings(), limit=hanging.limit)
    recognizer = anonymizer.verification.recognizer
    monkeypatch.setattr(recognizer, "forward", hanging.instead_of(recognizer.forward, only(0)))
    (reason,) = scene.doubts(noise(0), noise(1), [KnownFace(FACES[0], "a")])
    assert reason == "an error while the face was judged (LateError)"


def test_a_search_that_hangs_is_an_error(hanging: Hanging) -> None:
    detector = hanging.instead_of(KnownFaces(FACES), only(0))
    scene = SceneAnonymizer(None, detector, SceneSettings(method="fill"), limit=hanging.limit)
    with pytest.raises(LateError, match="the search for faces took longer than 60 s"):
        scene(noise(0))
    assert len(scene(noise(0)).faces) == 2


def test_a_folder_goes_on_after_a_detector_that_hangs(tmp_path: Path, hanging: Hanging) -> None:
    detector = hanging.instead_of(KnownFaces(FACES), only(1))
    scene = SceneAnonymizer(None, detector, SceneSettings(method="fill"), limit=hanging.limit)
    source, out = pictures(tmp_path / "in", 4), tmp_path / "out"
    report = anonymize_files(SceneWork(scene), [source], out)
    assert statuses(report) == ["covered", "refused", "covered", "covered"]
    assert report.files[1].reason == "the search for faces took longer than 60 s"
    assert not report.complete
    assert sorted(path.name for path in out.iterdir()) == ["p0.png", "p2.png", "p3.png"]


def test_a_folder_ends_where_everything_hangs_and_can_be_resumed(
    tmp_path: Path, hanging: Hanging
) -> None:
    source, out, file = pictures(tmp_path / "in", 7), tmp_path / "out", tmp_path / "report.json"
    settings = SceneSettings(method="fill")

    def run(hangs: Callable[[int], bool], **options: Any) -> BatchReport:
        detector = hanging.instead_of(KnownFaces(FACES), hangs)
        scene = SceneAnonymizer(None, detector, settings, limit=hanging.limit)
        return anonymize_files(SceneWork(scene), [source], out, report=file, **options)

    report = run(lambda number: number > 0)
    wanted = ["covered"] + ["refused"] * MOST_LEFT_BEHIND + ["skipped"] * 3
    assert statuses(report) == wanted
    assert "hung again and again" in str(report.files[-1].reason)
    assert not report.complete
    assert [path.name for path in out.iterdir()] == ["p0.png"]

    hanging.release()
    hanging = Hanging()
    report = run(only(), resume=True)
    assert statuses(report) == ["covered"] * 7
    assert [entry.earlier for entry in report.files] == [True] + [False] * 6


def test_an_aligned_face_is_filled_and_stays_paid(
    tmp_path: Path, bundle: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymizer = Anonymizer.load(bundle)
    side = anonymizer.resolution
    # The generator is asked twice per face: before the draw, and for the new one.
    spoilt(anonymizer, monkeypatch, hanging, only(3))
    source = pictures(tmp_path / "in", 3, height=side, width=side)
    report = anonymize_files(AlignedWork(anonymizer, limit=hanging.limit), [source])
    assert statuses(report)[1] == "filled"
    entry = report.files[1]
    assert entry.reason == "replacing the face took longer than 60 s"
    made = np.asarray(Image.open(str(entry.target)))
    assert (made == FILL_COLOUR).all()
    assert statuses(report)[2] != "skipped"
    assert len(report.ledger["tracks"]) == 3
