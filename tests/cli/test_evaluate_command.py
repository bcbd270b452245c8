"""``lreorg evaluate``: every bad input is one sentence, and every option does what it says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lreorg_fast.cli import evaluate as command
from lreorg_fast.demo.evaluating import AvatarCollection
from lreorg_fast.evaluation.measured import Evaluation
from lreorg_fast.media import write_image

PEOPLE = 8
REPORTS = ["report.html", "report.json", "report.md"]


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """Avatars as files, two pictures each."""
    collection = AvatarCollection(PEOPLE, 2, seed=5)
    for i, name in enumerate(collection.names):
        path = tmp_path / "originals" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, collection.picture(i))
    return tmp_path / "originals"


@pytest.fixture
def outputs(originals: Path) -> Path:
    """A method that mirrors pictures."""
    for path in sorted(originals.rglob("*.png")):
        target = originals.parent / "mirrored" / path.relative_to(originals)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target)
    return originals.parent / "mirrored"


AVATARS = ("--judges", "avatars", "--no-attacks")


def test_folders_are_compared_and_a_report_written(
    run: Any, originals: Path, outputs: Path, tmp_path: Path
) -> None:
    result = run("evaluate", originals, outputs, *AVATARS, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1  # 16 pictures are too few for a false accept rate
    assert "needs 10,000 impostor pairs" in result.stderr
    report = Evaluation.from_dict(json.loads(result.stdout))
    assert [method.name for method in report.methods] == ["mirrored"]
    apr = report.methods[0].find("apr", attribute="gender")
    assert apr is not None
    assert apr.figure is not None
    assert apr.figure.n == 2 * PEOPLE
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == REPORTS
    assert json.loads((tmp_path / "out" / "report.json").read_text())["data"]["subjects"] == PEOPLE


def test_methods_run_beside_folders(run: Any, originals: Path, outputs: Path) -> None:
    result = run("evaluate", originals, outputs, *AVATARS, "--method", "fill", "--method", "blur")
    assert [line.split()[0] for line in result.stdout.splitlines()[:4]] == [
        "method",
        "mirrored",
        "solid",
        "blurring",
    ]


def test_unpaired_files_are_named_and_allowed_on_request(
    run: Any, originals: Path, outputs: Path
) -> None:
    (outputs / "person_00003" / "001.png").unlink()
    result = run("evaluate", originals, outputs, *AVATARS)
    assert result.exit_code == 2
    assert "1 originals without an output ('person_00003/001.png')" in result.stderr
    assert "--allow-missing" in result.stderr
    result = run("evaluate", originals, outputs, *AVATARS, "--allow-missing", "--json")
    released = Evaluation.from_dict(json.loads(result.stdout)).methods[0].find("released")
    assert released is not None
    assert released.figure is not None
    assert released.figure.value == 15 / 16


def test_an_unreadable_output_is_named(run: Any, originals: Path, outputs: Path) -> None:
    (outputs / "person_00003" / "001.png").write_bytes(b"no picture")
    result = run("evaluate", originals, outputs, *AVATARS)
    assert result.exit_code == 2
    assert "person_00003/001.png" in result.stderr
    result = run("evaluate", originals, outputs, *AVATARS, "--allow-missing", "-q")
    assert result.exit_code == 1


def test_one_picture_per_person_says_what_is_missing(
    run: Any, originals: Path, outputs: Path
) -> None:
    for folder in (originals, outputs):
        for path in folder.rglob("001.png"):
            path.unlink()
    result = run("evaluate", originals, outputs, *AVATARS, "--json")
    assert result.exit_code == 1
    report = Evaluation.from_dict(json.loads(result.stdout))
    reasons = {e.metric: e.reason for e in report.methods[0].measured if e.reason}
    assert "second pictures" in str(reasons["similarity"])
    assert report.methods[0].find("apr_mean") is not None


def test_a_table_names_people(run: Any, originals: Path, outputs: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    names = [p.relative_to(originals).as_posix() for p in sorted(originals.rglob("*.png"))]
    table.write_text("name,person\n" + "".join(f"{n},{i // 4}\n" for i, n in enumerate(names)))
    options = (*AVATARS, "--identities", table)
    result = run("evaluate", originals, outputs, *options, "--json")
    assert json.loads(result.stdout)["data"]["subjects"] == PEOPLE // 2
    table.write_text("name,who\na,b\n")
    result = run("evaluate", originals, outputs, *options)
    assert result.exit_code == 2
    assert "lacks the column 'person'" in result.stderr


def test_photographs_without_any_recognizer_are_refused_with_the_remedy(
    run: Any, originals: Path, outputs: Path, tmp_path: Path
) -> None:
    result = run("evaluate", originals, outputs, LREORG_CACHE=str(tmp_path / "no weights"))
    assert result.exit_code == 2
    assert "there is no recognizer" in result.stderr
    assert "not measured: attributes: no CLIP model is here" in result.stderr
    missing = run("evaluate", originals, outputs, "--recognizer", tmp_path / "none.pt")
    assert missing.exit_code == 2
    assert "none.pt" in missing.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing is evaluated"),
        (["{originals}"], "nothing is compared with"),
        (["{originals}", "{nowhere}"], "cannot list the folder"),
        (["{nowhere}", "{originals}"], "cannot list the folder"),
        (["{originals}", "{originals}"], "keep them apart"),
        (["--demo", "{originals}"], "--demo draws its own originals"),
        (["--demo", "--identities", "x.csv"], "--identities has no effect with --demo"),
        (["--demo", "--allow-missing"], "--allow-missing has no effect with --demo"),
        (["--demo", "--people", "0"], "people is 0"),
        (["--demo", "--method", "magic"], "method is 'magic'"),
        (["--demo", "--method", "avatar"], "'avatar' is for whole pictures"),
        (["--demo", "--method", "blur", "--method", "blur"], "'blur' is named twice"),
        (["{originals}", "{outputs}", "--people", "5"], "--people has no effect without --demo"),
        (["{originals}", "{outputs}", "--faces", "aligned"], "--faces has no effect without"),
        (["{originals}", "{outputs}", "--bundle", "x"], "--bundle has no effect without"),
        (
            ["{originals}", "{outputs}", "--judges", "avatars", "--recognizer", "x"],
            "--recognizer has no effect with --judges avatars",
        ),
        (
            ["{originals}", "{outputs}", "--judges", "avatars", "--device", "cuda"],
            "--device has no effect on the judges of avatars",
        ),
        (["--demo", "--resume"], "need -o FOLDER"),
        (["--demo", "--resume", "--force", "-o", "{out}"], "give one of them"),
        (["--demo", "--workers", "0"], "--workers"),
    ],
)
def test_options_that_mean_nothing(
    run: Any, originals: Path, outputs: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    places = {
        "originals": originals,
        "outputs": outputs,
        "nowhere": tmp_path / "nowhere",
        "out": tmp_path / "out",
    }
    result = run("evaluate", *(option.format(**places) for option in options))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_is_overwritten_without_force(
    run: Any, originals: Path, outputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.md").write_text("mine")
    result = run("evaluate", originals, outputs, *AVATARS, "-o", out)
    assert result.exit_code == 2
    assert "report.md' exists already" in result.stderr
    assert (out / "report.md").read_text() == "mine"
    run("evaluate", originals, outputs, *AVATARS, "-o", out, "--force", "-q")
    assert (out / "report.md").read_text() != "mine"


def test_an_interrupted_run_is_gone_on_with(
    run: Any, originals: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lreorg_fast.evaluation.trial.protection", interrupted)
        result = run("evaluate", originals, outputs, *AVATARS, "-o", out)
    assert result.exit_code == 130
    assert "go on with --resume" in result.stderr
    assert (out / "cache" / "answers.sqlite").exists()
    assert os.stat(out / "cache").st_mode & 0o077 == 0
    assert not (out / "report.html").exists()
    again = run("evaluate", originals, outputs, *AVATARS, "-o", out)
    assert again.exit_code == 2
    assert "--resume, or start over with --force" in again.stderr
    asked: list[int] = []
    from lreorg_fast.demo import evaluating

    real = evaluating._Net.run

    def counting(self: Any, work: Any, pictures: Any) -> Any:
        asked.append(len(pictures))
        return real(self, work, pictures)

    monkeypatch.setattr(evaluating._Net, "run", counting)
    run("evaluate", originals, outputs, *AVATARS, "-o", out, "--resume", "--keep-cache")
    assert asked == []
    assert sorted(p.name for p in out.iterdir()) == ["cache", *REPORTS]
    run("evaluate", originals, outputs, *AVATARS, "-o", out, "--resume")
    assert sorted(p.name for p in out.iterdir()) == REPORTS


def test_what_is_left_of_a_run_holds_no_name_of_a_person(
    run: Any, originals: Path, outputs: Path, tmp_path: Path
) -> None:
    """Folders are often called as the people in them are."""
    for folder in (originals, outputs):
        (folder / "person_00003").rename(folder / "Zaphod")
    out = tmp_path / "out"
    result = run("evaluate", originals, outputs, *AVATARS, "-o", out, "--keep-cache")
    assert "Zaphod" not in result.stderr + result.stdout
    for path in out.rglob("*"):
        assert path.is_dir() or b"Zaphod" not in path.read_bytes(), path


def test_methods_are_listed(run: Any) -> None:
    result = run("evaluate", "--list-methods")
    assert result.exit_code == 0
    assert "lreorg+gender-not-recovered" in result.stdout


def test_outputs_are_kept_as_they_were_judged(
    run: Any, originals: Path, outputs: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    options = (*AVATARS, "--method", "fill", "--method", "original", "-q")
    run("evaluate", originals, *options, "--keep-outputs", kept)
    assert [p.name for p in kept.iterdir()] == ["fill"]  # the originals are not copied
    assert sum(p.suffix == ".png" for p in (kept / "fill").rglob("*")) == 2 * PEOPLE
    again = run("evaluate", originals, kept / "fill", *AVATARS, "--json")
    assert json.loads(again.stdout)["methods"][0]["name"] == "fill"
    refused = run("evaluate", originals, *options, "--keep-outputs", kept)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    without = run("evaluate", originals, outputs, *AVATARS, "--keep-outputs", kept)
    assert "--keep-outputs has no effect without --method" in without.stderr


def test_the_demo_runs_attacks_on_people_of_their_own(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lreorg_fast.demo.evaluating._SEEN", 64)
    monkeypatch.setattr("lreorg_fast.cli.contest._TRAINING", (12, 2))
    out = tmp_path / "out"
    options = ("--people", "12", "--method", "fill", "-o", out, "--json")
    result = run("evaluate", "--demo", *options)
    report = Evaluation.from_dict(json.loads(result.stdout))
    (fill,) = report.methods
    parrot = [entry for entry in fill.all("parrot_rank_1") if entry.figure is not None]
    assert parrot
    assert all(entry.figure is not None and entry.figure.n == 24 for entry in parrot)
    assert report.data["domain"] == "avatars"


def test_the_worst_figure_is_the_one_that_is_shown() -> None:
    from lreorg_fast.evaluation.figures import Figure
    from lreorg_fast.evaluation.measured import Measured, MethodResult

    measured = [
        Measured("psr", Figure(value, 5, 0, 1), {"recognizer": name})
        for name, value in (("a", 0.9), ("b", 0.4))
    ] + [
        Measured("fid", Figure(value, 5, 0, 99), {"convention": name})
        for name, value in (("a", 7.0), ("b", 9.0))
    ]
    few = Measured("psr", Figure(0.1, 5, 0, 1), {"recognizer": "a", "group": "age: old"})
    result = MethodResult("m", "M", "d", "g", "c", (*measured, few))
    assert command._cell(result, "psr") == "0.400"
    assert command._cell(result, "fid") == "9.000"
    assert command._cell(result, "detection") == "-"
    assert np.isfinite(float(command._cell(result, "psr")))
