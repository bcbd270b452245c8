from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import toy_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lreorg_fast
from lreorg_fast.batch import FILE_STATUSES, BatchReport, anonymize_files
from lreorg_fast.errors import ConfigError, ImageError, OutputError
from lreorg_fast.media.pictures import FILL_COLOUR
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import Ledger, Subjects
from lreorg_fast.settings import Settings


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="module")
def anonymizer(bundle: Path) -> Anonymizer:
    return Anonymizer.load(bundle)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "Anna Musterfrau"  # ImageDescription
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """in/: three faces, two files that must be refused, one that is no picture."""
    for number in range(3):
        picture(tmp_path / "in" / f"face{number}.png", number)
    picture(tmp_path / "in" / "wide.png", size=(40, 30))
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("beside the pictures")
    return tmp_path / "in"


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def status(report: BatchReport) -> dict[str, str]:
    return {Path(entry.source).name: entry.status for entry in report.files}


def counted(report: BatchReport) -> dict[str, int]:
    """The statuses that occur; the report itself has all."""
    assert tuple(report.counts) == FILE_STATUSES
    return {status: count for status, count in report.counts.items() if count}


def test_every_input_gets_its_fate_and_bad_ones_do_not_stop_the_others(
    anonymizer: Anonymizer, folder: Path
) -> None:
    before = digests(folder)
    report = anonymize_files(anonymizer, [folder], folder.parent / "out")
    assert status(report) == {
        "face0.png": "replaced",
        "face1.png": "replaced",
        "face2.png": "replaced",
        "wide.png": "refused",
        "broken.jpg": "refused",
        "notes.txt": "skipped",
    }
    assert counted(report) == {"replaced": 3, "refused": 2, "skipped": 1}
    assert not report.complete
    assert digests(folder) == before
    out = sorted(path.name for path in (folder.parent / "out").iterdir())
    assert out == ["face0.png", "face1.png", "face2.png"]
    reasons = {Path(entry.source).name: entry.reason for entry in report.failures}
    assert "square" in reasons["wide.png"]
    assert "not a picture" in reasons["broken.jpg"]
    for entry in report.failures:
        assert entry.target is None
        assert entry.epsilon == 0
        assert entry.sentence.startswith("refused: ")
        assert entry.sentence.count(entry.source) == 1


def test_outputs_are_new_pictures_without_metadata(anonymizer: Anonymizer, folder: Path) -> None:
    report = anonymize_files(anonymizer, [folder / "face0.png"], folder.parent / "out")
    assert report.complete
    (entry,) = report.files
    made = Image.open(str(entry.target))
    assert made.size == (40, 40)
    assert not made.getexif()
    assert b"Anna" not in Path(str(entry.target)).read_bytes()
    assert not np.array_equal(np.asarray(made), np.asarray(Image.open(entry.source)))


def test_beside_the_source_without_an_output_folder(anonymizer: Anonymizer, folder: Path) -> None:
    report = anonymize_files(anonymizer, [folder / "face0.png"])
    assert report.files[0].target == str(folder / "face0_anonymized.png")
    assert Path(str(report.files[0].target)).is_file()


def test_folders_are_mirrored_and_names_do_not_collide(
    anonymizer: Anonymizer, tmp_path: Path
) -> None:
    sources = [picture(tmp_path / name / "face.png", i) for i, name in enumerate("ab")]
    deep = picture(tmp_path / "deep" / "x" / "y" / "face.png").parents[2]
    report = anonymize_files(anonymizer, [*sources, deep], tmp_path / "out")
    targets = [str(entry.target) for entry in report.files]
    assert report.complete
    assert len(set(targets)) == 3
    assert all(Path(target).is_file() for target in targets)
    assert str(tmp_path / "out" / "deep" / "x" / "y" / "face.png") in targets


@pytest.mark.parametrize(
    "judge", [{"verify.similarity": -2.0}, {"verify.face": 1e9}, {"verify.reconstruction": -1.0}]
)
def test_a_face_that_is_not_verified_leaves_as_one_colour(
    tmp_path: Path, folder: Path, judge: dict[str, float]
) -> None:
    strict = Anonymizer.load(toy_bundle(tmp_path / "strict", calibration=judge))
    report = anonymize_files(strict, [folder / "face0.png"], tmp_path / "out")
    (entry,) = report.files
    assert entry.status == "filled"
    assert entry.reason
    assert not report.complete
    assert report.filled_share == 1
    pixels = np.asarray(Image.open(tmp_path / "out" / "face0.png"))
    assert pixels.shape == (40, 40, 3)
    assert (pixels == FILL_COLOUR).all()


def test_what_exists_is_overwritten_only_when_asked_and_draws_are_fresh(
    anonymizer: Anonymizer, folder: Path
) -> None:
    out = folder.parent / "out"
    anonymize_files(anonymizer, [folder], out)
    first = digests(out)
    again = anonymize_files(anonymizer, [folder], out)
    assert again.counts["refused"] == 5
    assert digests(out) == first
    # Refused before anything is drawn: nothing is paid for what is not released.
    assert all(entry.track is None for entry in again.files)
    forced = anonymize_files(anonymizer, [folder], out, overwrite=True)
    assert forced.counts["replaced"] == 3
    # 16 groups of 4 members: three equal draws in a row have a chance below 1e-4.
    assert digests(out) != first


def test_a_source_is_never_a_target(anonymizer: Anonymizer, folder: Path) -> None:
    before = digests(folder)
    report = anonymize_files(anonymizer, [folder / "face0.png"], folder, overwrite=True)
    assert report.complete
    after = digests(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


def test_wrong_settings_stop_everything_and_write_nothing(
    anonymizer: Anonymizer, folder: Path
) -> None:
    out = folder.parent / "out"
    for wrong in (
        Settings(epsilon=99.0),
        Settings(hide=["mood"]),
        Settings(hide=[]),
        Settings("identity"),
    ):
        with pytest.raises(ConfigError):
            anonymize_files(anonymizer, [folder], out, settings=wrong)
    assert not out.exists()


def test_no_picture_at_all_is_an_error(anonymizer: Anonymizer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match="no picture"):
        anonymize_files(anonymizer, [tmp_path], tmp_path / "out")


def test_a_missing_input_and_a_link_are_refused(anonymizer: Anonymizer, folder: Path) -> None:
    link = folder.parent / "link.png"
    link.symlink_to(folder / "face0.png")
    inputs = [folder / "nobody.png", link, folder / "face1.png"]
    report = anonymize_files(anonymizer, inputs, folder.parent / "out")
    assert status(report) == {
        "face1.png": "replaced",
        "nobody.png": "refused",
        "link.png": "refused",
    }


def test_an_output_that_looks_like_a_picture_is_refused(
    anonymizer: Anonymizer, folder: Path
) -> None:
    with pytest.raises(OutputError, match="must be a folder"):
        anonymize_files(anonymizer, [folder / "face0.png"], folder.parent / "out.png")
    assert not (folder.parent / "out.png").exists()


def test_one_folder_that_cannot_be_made_concerns_its_pictures_only(
    anonymizer: Anonymizer, folder: Path
) -> None:
    picture(folder / "sub" / "face.png")
    (folder.parent / "out").mkdir()
    (folder.parent / "out" / "sub").write_text("a file in the way")
    report = anonymize_files(anonymizer, [folder], folder.parent / "out")
    assert report.counts["replaced"] == 3
    (entry,) = [e for e in report.failures if Path(e.source).parent.name == "sub"]
    assert "cannot create the folder" in str(entry.reason)
    assert entry.epsilon == 1  # drawn before it was known; the ledger keeps it


class Stop:
    """A progress callback that behaves like Ctrl-C after some pictures."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))
        if done == self.after:
            raise KeyboardInterrupt


def test_progress_counts_every_picture(anonymizer: Anonymizer, folder: Path) -> None:
    seen = Stop(after=-1)
    anonymize_files(anonymizer, [folder], folder.parent / "out", progress=seen)
    assert seen.calls == [(i + 1, 5) for i in range(5)]


def test_an_interruption_leaves_whole_files_and_a_report(
    anonymizer: Anonymizer, folder: Path
) -> None:
    out, file = folder.parent / "out", folder.parent / "report.json"
    for path in ("broken.jpg", "wide.png"):
        (folder / path).unlink()
    report = anonymize_files(anonymizer, [folder], out, report=file, progress=Stop(after=2))
    assert report.interrupted
    assert not report.complete
    assert status(report) == {
        "face0.png": "replaced",
        "face1.png": "replaced",
        "face2.png": "skipped",
        "notes.txt": "skipped",
    }
    assert sorted(os.listdir(out)) == ["face0.png", "face1.png"]
    assert json.loads(file.read_bytes())["interrupted"] is True


@pytest.mark.parametrize("where", ["read_image", "write_image"])
def test_an_interruption_in_the_middle_of_a_picture(
    anonymizer: Anonymizer, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"lreorg_fast.batch.run.{where}", interrupt)
    (folder / "broken.jpg").unlink()
    report = anonymize_files(anonymizer, [folder], folder.parent / "out")
    assert report.interrupted
    assert counted(report) == {"skipped": 5}
    out = folder.parent / "out"
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize("where", ["read_image", "write_image"])
def test_an_unexpected_error_refuses_one_picture_and_tells_nothing_about_it(
    anonymizer: Anonymizer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    def fail(path: Path, *_args: Any) -> None:
        raise RuntimeError(f"Anna in {path}")

    monkeypatch.setattr(f"lreorg_fast.batch.run.{where}", fail)
    with caplog.at_level(logging.DEBUG, "lreorg_fast"):
        report = anonymize_files(anonymizer, [folder / "face0.png"], folder.parent / "out")
    assert report.files[0].status == "refused"
    assert report.files[0].reason == "an unexpected error (RuntimeError)"
    assert "RuntimeError" in caplog.text
    assert "Anna" not in caplog.text
    assert "face0" not in caplog.text


def test_no_name_of_a_file_is_logged(
    anonymizer: Anonymizer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        anonymize_files(anonymizer, [folder], folder.parent / "out")
    for name in os.listdir(folder):
        assert name not in caplog.text


def test_the_budget_refuses_the_draw_and_the_face_is_filled(bundle: Path, folder: Path) -> None:
    poor = Anonymizer.load(bundle, ledger=Ledger(0.5))
    report = anonymize_files(poor, [folder / "face0.png"], folder.parent / "out")
    assert report.files[0].status == "filled"
    assert "budget" in str(report.files[0].reason)
    assert report.ledger["largest"] == 0
    assert report.ledger["budget"] == 0.5


def test_the_report(bundle: Path, folder: Path) -> None:
    fresh = Anonymizer.load(bundle, backend="reference")
    file = folder.parent / "made" / "for" / "report.json"
    wanted = Settings(["identity", "gender"], ["age"], 2.0, "window-rr", "randomized", 0.5)
    report = anonymize_files(fresh, [folder], folder.parent / "out", settings=wanted, report=file)
    content = json.loads(file.read_bytes())
    assert content == report.to_dict()
    assert content["package_version"] == lreorg_fast.__version__
    assert content["bundle"]["name"] == "toy"
    assert content["engine"] == {
        "backend": "reference",
        "dtype": "bfloat16",
        "precision": fresh.precision,
        "device": "cpu",
    }
    assert content["settings"] == {
        "hide": ["identity", "gender"],
        "keep": ["age"],
        "epsilon": 2.0,
        "mechanism": "window-rr",
        "attribute_rule": "randomized",
        "attribute_epsilon": 0.5,
    }
    assert set(content["counts"]) == set(FILE_STATUSES)
    assert content["complete"] is False
    assert content["filled_share"] == 0
    done = [entry for entry in content["files"] if entry["status"] == "replaced"]
    assert [entry["epsilon"] for entry in done] == [2.5] * 3
    assert content["ledger"]["tracks"] == {entry["track"]: 2.5 for entry in done}
    assert "This is not a guarantee for the picture." in content["ledger"]["statement"]
    assert "k times" in content["persons"]
    for entry in done:
        assert entry["mechanism"] == {"identity": "window-rr", "gender": "randomized"}
        assert "differential privacy" in entry["guarantee"]["identity"]
        assert -1 <= entry["similarity"] <= 1


def test_defaults_are_written_out_and_infinity_is_text(
    anonymizer: Anonymizer, folder: Path
) -> None:
    report = anonymize_files(
        anonymizer,
        [folder / "face0.png"],
        folder.parent / "out",
        settings=Settings(mechanism="paper-window"),
    ).to_dict()
    assert report["settings"]["hide"] == ["identity"]
    assert report["settings"]["keep"] == ["gender", "age", "expression", "makeup"]
    assert report["files"][0]["epsilon"] == "inf"
    assert "no guarantee" in report["files"][0]["guarantee"]["identity"]


@pytest.mark.parametrize(
    ("figure", "settings", "told"),
    [
        ({"value": 0.998, "low": 0.99, "high": 0.999, "n": 1000, "note": ""}, None, True),
        ({"value": 0.998, "low": 0.99, "high": 0.999, "n": 1000}, Settings(epsilon=4.0), False),
        ({"value": "good"}, None, False),
        ("good", None, False),
    ],
)
def test_what_was_measured_is_told_where_it_holds(
    tmp_path: Path, folder: Path, figure: object, settings: Settings | None, told: bool
) -> None:
    measured = toy_bundle(tmp_path / "measured", figures={"default: PSR (random)": figure})
    report = anonymize_files(
        Anonymizer.load(measured), [folder / "face0.png"], tmp_path / "out", settings=settings
    )
    sentence = "(95% interval 0.1% to 1.0%, n = 1000) on the bundle's test faces (noise)"
    assert (sentence in report.ledger["statement"]) == told
    assert ("not measured here" in report.ledger["statement"]) != told


def test_subjects_are_counted_where_the_draws_are(anonymizer: Anonymizer, folder: Path) -> None:
    with pytest.raises(ConfigError, match="another ledger"):
        anonymize_files(anonymizer, [folder], folder.parent / "out", subjects=Subjects(Ledger(1.0)))
    assert not (folder.parent / "out").exists()


def test_iterators_serve_every_picture(anonymizer: Anonymizer, folder: Path) -> None:
    once = Settings(hide=iter(["identity"]), keep=iter(["age"]))
    report = anonymize_files(anonymizer, [folder], folder.parent / "out", settings=once)
    assert report.counts["replaced"] == 3
    assert report.settings["keep"] == ["age"]


def test_the_report_overwrites_nothing(anonymizer: Anonymizer, folder: Path) -> None:
    out = folder.parent / "out"
    existing = folder.parent / "report.json"
    existing.write_text("of last year")
    with pytest.raises(OutputError, match="exists already"):
        anonymize_files(anonymizer, [folder], out, report=existing)
    for name in (folder / "face0.png", out / "face0.png"):
        with pytest.raises(OutputError, match="name of a picture"):
            anonymize_files(anonymizer, [folder], out, report=name, overwrite=True)
    with pytest.raises(OutputError, match="it is a folder"):
        anonymize_files(anonymizer, [folder], out, report=folder)
    assert existing.read_text() == "of last year"
    assert not list(out.iterdir() if out.exists() else [])
    report = anonymize_files(anonymizer, [folder], out, report=existing, overwrite=True)
    assert json.loads(existing.read_bytes()) == report.to_dict()


KINDS = {
    "face": lambda path: picture(path),
    "wide": lambda path: picture(path, size=(20, 30)),
    "broken": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nbroken"),
    "missing": lambda path: None,
}
FATE = {"face": "replaced", "wide": "refused", "broken": "refused", "missing": "refused"}


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@settings(max_examples=15)
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5))
def test_any_mix_of_inputs_is_accounted_for(
    anonymizer: Anonymizer, scratch: Path, kinds: list[str]
) -> None:
    place = Path(tempfile.mkdtemp(dir=scratch))
    inputs = [place / f"{index}.png" for index in range(len(kinds))]
    for path, kind in zip(inputs, kinds, strict=True):
        KINDS[kind](path)
    report = anonymize_files(anonymizer, inputs, place / "out")
    assert status(report) == {p.name: FATE[k] for p, k in zip(inputs, kinds, strict=True)}
    assert sum(report.counts.values()) == len(kinds)
    assert report.complete == (set(kinds) == {"face"})


def test_one_call_per_picture_can_fail_in_the_pipeline(
    anonymizer: Anonymizer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_settings: Any) -> None:
        raise ImageError("this picture is refused")

    monkeypatch.setattr(Anonymizer, "__call__", refuse)
    report = anonymize_files(anonymizer, [folder / "face0.png"], folder.parent / "out")
    assert report.files[0].sentence.endswith("face0.png: this picture is refused")
