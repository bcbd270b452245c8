"""Whatever fails, no pixel of a known face leaves: 13 faults on 100 small scenes each.

The scenes are noise with known faces, so a source pixel in a result is a source pixel and nothing
else. Networks are stubs where what they do does not matter, so that this takes seconds.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from detectors import KnownFaces, detection
from PIL import Image

from lreorg_fast.batch import SceneWork, anonymize_files
from lreorg_fast.errors import CheckpointError
from lreorg_fast.faces import Detection
from lreorg_fast.media.pictures import Picture
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import Ledger
from lreorg_fast.scene import KnownFace, SceneAnonymizer, SceneResult, SceneSettings

SCENES = 100
HEIGHT, WIDTH = 48, 64


def scenes() -> Iterator[tuple[Picture, list[Detection]]]:
    """1 to 4 faces, overlapping, at borders, tilted; pixels from 1 to 99."""
    random = np.random.default_rng(0)
    for _ in range(SCENES):
        picture = random.integers(1, 100, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        faces = [
            detection(
                random.uniform(0, WIDTH),
                random.uniform(0, HEIGHT),
                random.uniform(6, 40),
                turn=random.uniform(-0.6, 0.6),
            )
            for _ in range(random.integers(1, 5))
        ]
        yield picture, faces


def exposed(picture: Picture, made: Picture, faces: list[Detection]) -> int:
    """Source pixels within the ellipse of a known face's box, beyond what chance gives.

    A new face of random colours can hit a source pixel: one in a million. Two are none.
    """
    x, y = np.arange(WIDTH)[None, :], np.arange(HEIGHT)[:, None]
    known = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for face in faces:
        centre, half = (face.box[:2] + face.box[2:]) / 2, (face.box[2:] - face.box[:2]) / 2
        known |= ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1
    return int((made[known] == picture[known]).all(axis=1).sum())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("b") / "toy")


def fails(error: BaseException) -> Callable[..., Any]:
    def call(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return call


def gives(value: float) -> Callable[..., Any]:
    """An encoder whose latents are this number."""

    def call(pictures: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pictures), 8, 16), value)

    return call


Break = Callable[[Anonymizer, pytest.MonkeyPatch], None]


def _part(name: str, attribute: str, replacement: Any) -> Break:
    def change(anonymizer: Anonymizer, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(getattr(anonymizer, name) if name else anonymizer, attribute, replacement)

    return change


def _first_only(anonymizer: Anonymizer, patch: pytest.MonkeyPatch) -> None:
    """Every second call of the generator fails: some faces of a picture, not others."""
    real, calls = anonymizer.generator.synthesis, iter(range(10**9))

    def sometimes(w: torch.Tensor) -> torch.Tensor:
        if next(calls) % 2:
            raise RuntimeError("out of memory")
        return real(w)

    patch.setattr(anonymizer.generator, "synthesis", sometimes)


FAULTS: dict[str, Break] = {
    "encoder NaN": _part("", "encoder", gives(float("nan"))),
    "encoder infinite": _part("", "encoder", gives(float("inf"))),
    "generator raises": _part("generator", "synthesis", fails(RuntimeError("kernel"))),
    "generator time-out": _part("generator", "synthesis", fails(TimeoutError())),
    "generator NaN": _part(
        "generator", "synthesis", lambda w: torch.full((len(w), 3, 32, 32), float("nan"))
    ),
    "generator now and then": _first_only,
    "engine out of memory": _part("engine", "reorganize", fails(MemoryError())),
    "verification says no": _part("verification", "_threshold", -2.0),
    "verification raises": _part("verification", "failures", fails(ValueError())),
    "still seen in the picture": _part(
        "verification", "resembling", lambda made, _: [True] * len(made)
    ),
    "the last check raises": _part("verification", "resembling", fails(RuntimeError())),
    "ledger exhausted": _part("", "ledger", Ledger(0.5)),
    "ledger broken": _part("ledger", "held", fails(OSError(errno.EIO, "disk"))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_known_face_is_exposed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    anonymizer = Anonymizer.load(bundle)
    FAULTS[fault](anonymizer, monkeypatch)
    whole = SceneAnonymizer(anonymizer, KnownFaces([]), SceneSettings())
    filled = 0
    for number, (picture, faces) in enumerate(scenes()):
        known = [KnownFace(face, f"{number}-{i}") for i, face in enumerate(faces)]
        result = whole.replace(picture, known)
        assert exposed(picture, result.image, faces) <= 1
        assert len(result.faces) == len(faces)
        filled += len(result.filled)
        for face in result.faces:
            assert (face.status == "filled") == (face.reason is not None)
    assert filled > 0  # the fault was there


def test_the_measure_finds_an_exposed_face() -> None:
    """What the tests above would say of a program that does nothing, or all but one face."""
    for picture, faces in scenes():
        assert exposed(picture, picture, faces) > 1
        shown = SceneAnonymizer(None, KnownFaces(faces[1:]), SceneSettings(method="fill"))(picture)
        blank = np.full_like(picture, 255)
        assert exposed(picture, blank, faces) == 0
        assert shown.image is not picture


@pytest.mark.parametrize("method", ["avatar", "pixelate", "fill"])
@pytest.mark.parametrize("where", ["make", "compose", "both"])
def test_a_method_that_breaks_down(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, method: Any, where: str
) -> None:
    """Errors outside of a single face: all heads are filled, or the whole picture is."""
    anonymizer = Anonymizer.load(bundle) if method == "avatar" else None
    whole = SceneAnonymizer(anonymizer, KnownFaces([]), SceneSettings(method=method))
    if where != "compose":
        monkeypatch.setattr(whole._maker, "make", fails(RuntimeError("Anna")))
    if where != "make":
        monkeypatch.setattr("lreorg_fast.scene.canvas.compose", fails(MemoryError()))
    for picture, faces in scenes():
        result = whole.replace(picture, [KnownFace(face, "t") for face in faces])
        assert exposed(picture, result.image, faces) == 0
        assert all(face.status == "filled" and face.reason for face in result.faces)
        assert "Anna" not in str(result.faces[0].reason)
        if where != "make":
            assert (result.image == whole.blank(picture)).all()


def test_the_source_is_never_touched_by_a_fault(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymizer = Anonymizer.load(bundle)
    _first_only(anonymizer, monkeypatch)
    whole = SceneAnonymizer(anonymizer, KnownFaces([]), SceneSettings())
    picture, faces = next(scenes())
    picture.setflags(write=False)
    assert isinstance(whole.replace(picture, [KnownFace(f, "t") for f in faces]), SceneResult)


# ---- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number, (picture, _) in zip(range(6), scenes(), strict=False):
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def run(folder: Path, detector: Any, **options: Any) -> Any:
    whole = SceneAnonymizer(None, detector, SceneSettings(method="fill"))
    return anonymize_files(SceneWork(whole), [folder], folder.parent / "out", **options)


@pytest.mark.parametrize(
    "error", [CheckpointError("it gave NaN"), RuntimeError("Anna"), MemoryError(), TimeoutError()]
)
def test_a_detector_that_fails_releases_nothing(folder: Path, error: Exception) -> None:
    report = run(folder, fails(error))
    assert {entry.status for entry in report.files} == {"refused"}
    assert not (folder.parent / "out").exists()
    assert not report.complete
    assert "Anna" not in json.dumps([entry.reason for entry in report.files])


def test_a_detector_that_finds_nothing_releases_nothing(folder: Path) -> None:
    report = run(folder, KnownFaces([]))
    assert {entry.status for entry in report.files} == {"no face found"}
    assert not (folder.parent / "out").exists()
    assert len(report.failures) == 6


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_releases_nothing_of_itself(folder: Path, share: float) -> None:
    content = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(content[: int(share * len(content))])
    report = run(folder, KnownFaces([detection(30, 24, 20)]))
    assert report.counts["refused"] == 1
    assert report.counts["covered"] == 5
    assert not (folder.parent / "out" / "3.png").exists()


def test_a_full_disk_leaves_whole_files_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    real, calls = os.fsync, iter(range(10**9))

    def full(descriptor: int) -> None:
        if next(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("lreorg_fast.files.os.fsync", full)
    report = run(folder, KnownFaces([detection(30, 24, 20)]))
    out = sorted((folder.parent / "out").iterdir())
    assert 0 < len(out) < 6
    for path in out:
        Image.open(path).load()
    assert report.counts["refused"] == 6 - len(out)
    assert all("No space left" in str(entry.reason) for entry in report.failures)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_run_is_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """The process dies after three files, the report was never written."""
    detector, report = KnownFaces([detection(30, 24, 20)]), folder.parent / "r.json"

    class Killed(BaseException):
        pass

    def die(done: int, _total: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        run(folder, detector, report=report, progress=die, workers=workers)
    assert not report.exists()
    done = {path.name: path.stat().st_mtime_ns for path in (folder.parent / "out").iterdir()}
    with open(report.with_name("r.json.journal"), "ab") as journal:
        journal.write(b'{"source": "half a li')
    # Workers may have finished pictures that the journal does not know: those are named.
    again = run(folder, detector, report=report, resume=True, workers=workers, overwrite=True)
    assert again.complete
    assert sum(entry.earlier for entry in again.files) == 3
    for entry in again.files:
        target = Path(str(entry.target))
        assert target.is_file()
        if entry.earlier:
            assert target.stat().st_mtime_ns == done[target.name]
    assert not report.with_name("r.json.journal").exists()
    assert json.loads(report.read_bytes()) == again.to_dict()


@pytest.mark.parametrize("which", ["source", "target"])
def test_what_changed_since_is_done_again(folder: Path, which: str) -> None:
    detector, report = KnownFaces([detection(30, 24, 20)]), folder.parent / "r.json"
    first = run(folder, detector, report=report)
    path = Path(str(getattr(first.files[2], which)))
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 9, np.uint8)).save(path)
    again = run(folder, detector, report=report, resume=True, overwrite=True)
    assert [entry.earlier for entry in again.files] == [True, True, False, True, True, True]
    kept = run(folder, detector, report=report, resume=True)
    assert all(entry.earlier for entry in kept.files)


def test_another_run_is_not_resumed(folder: Path) -> None:
    from lreorg_fast.errors import ConfigError, OutputError

    detector, report = KnownFaces([detection(30, 24, 20)]), folder.parent / "r.json"
    run(folder, detector, report=report)
    other = SceneAnonymizer(None, detector, SceneSettings(method="pixelate"))
    with pytest.raises(ConfigError, match="other settings"):
        anonymize_files(
            SceneWork(other), [folder], folder.parent / "out", report=report, resume=True
        )
    with pytest.raises(ConfigError, match="needs the report"):
        run(folder, detector, resume=True)
    report.write_text("{}")
    with pytest.raises(OutputError, match="no report"):
        run(folder, detector, report=report, resume=True)


def test_workers_do_all_files_in_order(folder: Path) -> None:
    detector = KnownFaces([detection(30, 24, 20)])
    one = run(folder, detector)
    seen: list[int] = []
    many = run(folder, detector, workers=4, overwrite=True, progress=lambda d, _: seen.append(d))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert [e.source for e in one.files] == [e.source for e in many.files]
    assert many.complete
