"""``lreorg anonymize``: every option changes what it says it changes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import toy_bundle
from hangs import Hanging
from PIL import Image

import lreorg_fast.faces
from lreorg_fast.media.pictures import FILL_COLOUR


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def report(run, face: Path, bundle: Path, tmp_path: Path):
    """The --json report of a run on the face with some options."""

    def of(*options: object, code: int = 0) -> dict[str, Any]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        result = run("anonymize", face, "-o", out, "--bundle", bundle, "--json", *options)
        assert result.exit_code == code, result.output
        content: dict[str, Any] = json.loads(result.stdout)
        return content

    return of


def test_defaults(report) -> None:
    content = report()
    assert content["settings"]["hide"] == ["identity"]
    assert content["settings"]["keep"] == ["gender", "age", "expression", "makeup"]
    assert content["settings"]["mechanism"] == "window-rr"
    assert content["engine"]["dtype"] == "bfloat16"
    (entry,) = content["files"]
    assert entry["status"] == "replaced"
    assert entry["epsilon"] == 1


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (["--hide", "identity, gender"], "hide", ["identity", "gender"]),
        (["--keep", "age,expression"], "keep", ["age", "expression"]),
        (["--keep", "none"], "keep", []),
        (["--epsilon", "2.5"], "epsilon", 2.5),
        (["--mechanism", "uniform"], "mechanism", "uniform"),
    ],
)
def test_settings_are_used(report, options: list[str], field: str, value: object) -> None:
    assert report(*options)["settings"][field] == value


def test_epsilon_and_mechanism_reach_the_draw(report) -> None:
    assert report("--epsilon", "2.5")["files"][0]["epsilon"] == 2.5
    entry = report("--mechanism", "uniform")["files"][0]
    assert (entry["epsilon"], entry["mechanism"]) == (0, {"identity": "uniform"})


def test_attribute_options_reach_the_draw(report) -> None:
    hidden = ["--hide", "identity,gender", "--attribute-rule", "randomized"]
    assert report(*hidden)["files"][0]["epsilon"] == 2
    entry = report(*hidden, "--attribute-epsilon", "0.5")["files"][0]
    assert entry["epsilon"] == 1.5
    assert entry["mechanism"]["gender"] == "randomized"
    entry = report("--hide", "identity,gender", "--attribute-rule", "farthest")["files"][0]
    assert entry["mechanism"]["gender"] == "farthest"


def test_hide_and_keep_change_the_picture(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    """With a rule that does not draw, only the keywords can make the difference."""

    def made(name: str, *options: str) -> np.ndarray:
        where = ["--bundle", bundle, "--mechanism", "k-anonymity", "-o", tmp_path / name]
        assert run("anonymize", face, *where, *options).exit_code == 0
        return pixels(tmp_path / name / "face.png")

    plain = made("plain")
    assert np.array_equal(plain, made("again"))
    assert not np.array_equal(plain, made("fewer", "--keep", "age"))
    assert not np.array_equal(plain, made("more", "--hide", "identity,color"))


def test_two_runs_draw_afresh(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    made = set()
    for number in range(4):  # four equal draws of 64 members: below 1e-4
        out = tmp_path / f"draw{number}"
        run("anonymize", face, "-o", out, "--bundle", bundle)
        made.add(pixels(out / "face.png").tobytes())
    assert len(made) > 1


def test_an_insecure_environment_is_refused(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    result = run(
        *("anonymize", face, "-o", tmp_path / "out", "--bundle", bundle), LREORG_INSECURE_TEST="1"
    )
    assert result.exit_code == 2
    assert "LREORG_INSECURE_TEST is set" in result.stderr
    assert not (tmp_path / "out").exists()


def test_budget(report) -> None:
    content = report("--budget", "0.5", code=1)
    (entry,) = content["files"]
    assert entry["status"] == "filled"
    assert "budget" in entry["reason"]
    assert report("--budget", "1")["ledger"]["budget"] == 1


@pytest.mark.parametrize(
    ("options", "engine"),
    [
        (["--backend", "reference"], {"backend": "reference", "dtype": "bfloat16"}),
        (["--backend", "cpu"], {"backend": "cpu", "dtype": "bfloat16"}),
        (["--dtype", "float32"], {"dtype": "float32"}),
        (["--dtype", "int8"], {"backend": "cpu", "dtype": "int8"}),
        (["--backend", "reference", "--dtype", "float64"], {"dtype": "float64"}),
        (["--precision", "float32"], {"precision": "float32"}),
        (["--precision", "bfloat16"], {"precision": "bfloat16"}),
    ],
)
def test_backend_and_dtype(report, options: list[str], engine: dict[str, str]) -> None:
    assert engine.items() <= report(*options)["engine"].items()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--device", "toaster"], "toaster"),
        (["--backend", "abacus"], "abacus"),
        (["--backend", "triton"], "triton"),
        (["--dtype", "float8"], "float8"),
        (["--precision", "float8"], "float8"),
        (["--bundle", "no/such/bundle"], "no/such/bundle"),
        (["--hide", "mood"], "mood"),
        (["--keep", "identity"], "identity"),
        (["--hide", "none"], "none"),
        (["--epsilon", "99"], "99"),
        (["--epsilon", "nan"], "nan"),
        (["--epsilon", "much"], "much"),
        (["--mechanism", "magic"], "magic"),
        (["--attribute-rule", "farthest"], "attribute_rule"),
        (["--attribute-epsilon", "1"], "attribute_epsilon"),
        (["--mechanism", "uniform", "--epsilon", "1"], "uniform"),
        (["--budget", "-1"], "-1"),
        (["--budget", "inf"], "inf"),
    ],
)
def test_what_cannot_be_met_is_a_sentence_and_leaves_nothing(
    run, face: Path, bundle: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = run("anonymize", face, "--bundle", bundle, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert named in result.stderr
    assert result.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_the_device_is_used(report) -> None:
    assert report("--device", "cpu")["engine"]["device"] == "cpu"


def test_without_output_beside_the_source(run, face: Path, bundle: Path) -> None:
    before = face.read_bytes()
    assert run("anonymize", face, "--bundle", bundle).exit_code == 0
    assert sorted(os.listdir(face.parent)) == ["face.png", "face_anonymized.png"]
    assert face.read_bytes() == before


def test_force_and_report(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "report.json"
    arguments = ["anonymize", face, "--bundle", bundle, "-o", out]
    assert run(*arguments, "--report", file).exit_code == 0
    first = file.read_bytes()
    assert json.loads(first)["complete"] is True

    again = run(*arguments)
    assert again.exit_code == 1
    assert "exists already" in again.stderr

    refused = run(*arguments, "--report", file)
    assert refused.exit_code == 2
    assert file.read_bytes() == first

    file.write_bytes(b"old")  # two runs may draw alike and report the same
    assert run(*arguments, "--report", file, "--force").exit_code == 0
    assert json.loads(file.read_bytes())["complete"] is True


def test_table_json_and_quiet(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    arguments = ["anonymize", face, "--bundle", bundle, "--force", "-o", tmp_path / "out"]
    table = run(*arguments)
    assert re.search(r"face\.png +replaced +1 +-?\d\.\d\d ", table.stdout)
    assert "\n1 replaced\n" in table.stdout
    assert "This is not a guarantee for the picture." in table.stdout
    assert table.stderr == ""
    assert json.loads(run(*arguments, "--json").stdout)["counts"]["replaced"] == 1
    quiet = run(*arguments, "--quiet")
    assert quiet.output == ""
    assert json.loads(run(*arguments, "--quiet", "--json").stdout)["complete"]


def test_progress_goes_to_a_terminal_only(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    arguments = ["anonymize", face, "--bundle", bundle, "--force", "-o", tmp_path / "out"]
    shown = run(*arguments, "--json", FORCE_COLOR="1")
    assert "anonymizing" in shown.stderr
    assert "1/1" in shown.stderr
    assert json.loads(shown.stdout)["complete"]
    assert "anonymizing" not in run(*arguments, "--quiet", FORCE_COLOR="1").stderr


def test_some_done_some_refused(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    (face.parent / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 30)).save(face.parent / "wide.png")
    result = run("anonymize", face.parent, "--bundle", bundle, "-o", tmp_path / "out", "--quiet")
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("lreorg: refused: ")
    assert lines[1].startswith("lreorg: no face found: ")
    assert os.listdir(tmp_path / "out") == ["face.png"]


def test_a_filled_face_is_reported_and_shows_nothing(run, face: Path, tmp_path: Path) -> None:
    strict = toy_bundle(tmp_path / "strict", calibration={"verify.similarity": -2.0})
    result = run("anonymize", face, "--bundle", strict, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "resembles" in result.stderr
    assert "1 filled" in result.stdout
    assert (pixels(tmp_path / "out" / "face.png") == FILL_COLOUR).all()


def test_an_interruption_says_so(
    run, face: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lreorg_fast.batch.run.read_image", interrupt)
    file = tmp_path / "report.json"
    result = run("anonymize", face, "--bundle", bundle, "-o", tmp_path / "out", "--report", file)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "lreorg: interrupted"
    assert json.loads(file.read_bytes())["interrupted"]


def test_a_long_run_is_summed_up(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    for number in range(21):
        (face.parent / f"note{number}.txt").write_text("x")
    result = run("anonymize", face.parent, "--bundle", bundle, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "1 replaced, 21 skipped\n" in result.stdout
    assert "note" not in result.stdout


@pytest.mark.parametrize("name", [b"\x1b[31m.png", b"[bold]x.png", b"\xff\xfe.png"])
def test_names_of_files_are_shown_and_not_obeyed(
    run, face: Path, bundle: Path, tmp_path: Path, name: bytes
) -> None:
    source = face.parent / os.fsdecode(name)
    try:
        face.rename(source)
    except OSError:
        pytest.skip("this file system does not take the name")
    arguments = ["--bundle", bundle, "-o", tmp_path / "out"]
    for _ in range(2):  # the second is refused, as the result exists
        result = run("anonymize", face.parent, *arguments)
        assert "\x1b" not in result.output
        assert "[bold]" in result.output or name != b"[bold]x.png"
    result = run("anonymize", face.parent, *arguments, "--json")
    assert json.loads(result.stdout)["files"][0]["source"] == str(source)


def test_the_face_timeout_ends_what_hangs(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector that never comes back: three pictures are tried, the rest is left."""
    hanging = Hanging()
    detector = hanging.instead_of(lambda *_: [], lambda _: True)
    monkeypatch.setattr(lreorg_fast.faces, "load_detector", lambda *_: detector)
    (tmp_path / "in").mkdir()
    for name in "abcde":
        Image.new("RGB", (64, 48)).save(tmp_path / "in" / f"{name}.png")
    arguments = ("anonymize", tmp_path / "in", "-o", tmp_path / "out", "--method", "fill")
    done = run(*arguments, "--json", "--face-timeout", "0.01")
    hanging.release()
    assert done.exit_code == 1
    files = json.loads(done.stdout)["files"]
    assert [entry["status"] for entry in files] == ["refused"] * 3 + ["skipped"] * 2
    assert files[0]["reason"] == "the search for faces took longer than 0.01 s"
    assert "so the run ends here" in done.stderr
    assert not (tmp_path / "out").exists()
    wrong = run(*arguments, "--face-timeout", "-2")
    assert wrong.exit_code == 2
    assert "the face time-out is -2" in wrong.stderr
