"""``lreorg anonymize`` on whole pictures: each option changes what it says, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from bundles import RESOLUTION
from detectors import constant_onnx
from PIL import Image

from lreorg_fast.media.pictures import FILL_COLOUR, Picture


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """128 x 128 pixels, one person; the rocket looks a little like a face."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "photo.png"
    Image.fromarray(skimage.data.astronaut()).reduce(4).save(path)
    return path


@pytest.fixture
def made(run, photo: Path, tmp_path: Path):
    """The entry of the photograph in --json, and its pixels."""

    def of(*options: object, code: int = 0) -> tuple[dict[str, Any], Picture | None]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        result = run("anonymize", photo, "-o", out, "--json", *options)
        assert result.exit_code == code, result.output
        (entry,) = json.loads(result.stdout)["files"]
        target = entry["target"]
        pixels = None if target is None else np.asarray(Image.open(target).convert("RGB"))
        return entry, pixels

    return of


def error(run, photo: Path, *options: object) -> str:
    result = run("anonymize", photo, *options)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


def test_methods(made, bundle: Path, photo: Path) -> None:
    source = np.asarray(Image.open(photo))
    entry, filled = made("--method", "fill")
    assert entry["status"] == "covered"
    assert (filled[20:40, 48:64] == FILL_COLOUR).all()
    entry, mosaic = made("--method", "pixelate")
    assert entry["status"] == "covered"
    assert len(np.unique(mosaic[20:40, 48:64].reshape(-1, 3), axis=0)) < 30
    entry, avatar = made("--method", "avatar", "--bundle", bundle)
    assert entry["status"] == "replaced"
    for picture in (filled, mosaic, avatar):
        assert (picture[20:40, 48:64] != source[20:40, 48:64]).any(axis=2).mean() > 0.95
        assert (picture[100:, 100:] == source[100:, 100:]).all()


def test_reorganize_is_the_default_and_the_demo_refuses_a_photograph(made, bundle: Path) -> None:
    entry, _ = made("--bundle", bundle, "--threshold", "0.5")  # the toy bundle takes all
    assert entry["status"] == "replaced"
    assert entry["faces"][0]["result"]["epsilon"] == 1
    assert entry["epsilon"] == 1
    entry, picture = made(code=1)
    assert picture is None
    assert "use a bundle for such faces" in entry["reason"]


def test_settings_reach_the_faces(made, bundle: Path) -> None:
    options = ["--bundle", bundle, "--hide", "identity,age", "--keep", "gender", "--epsilon", "2"]
    entry, _ = made(*options, "--threshold", "0.5")
    result = entry["faces"][0]["result"]
    assert (result["hidden"], result["kept"]) == (["identity", "age"], ["gender"])
    assert result["epsilon"] == 2
    entry, _ = made("--bundle", bundle, "--budget", "0.5", "--threshold", "0.5", code=1)
    assert entry["status"] == "filled"
    assert "budget" in entry["reason"]


def test_threshold(made) -> None:
    assert len(made("--method", "fill", "--threshold", "0.05")[0]["faces"]) > 1
    assert len(made("--method", "fill", "--threshold", "0.5")[0]["faces"]) == 1
    entry, picture = made("--method", "fill", "--threshold", "0.99", code=1)
    assert entry["status"] == "no face found"
    assert picture is None


def test_allow_no_face(made, photo: Path) -> None:
    options = ["--method", "fill", "--threshold", "0.99", "--allow-no-face"]
    entry, picture = made(*options)
    assert entry["status"] == "no face found"
    assert (picture == np.asarray(Image.open(photo))).all()


def test_longest_side(run, tmp_path: Path) -> None:
    """A person of whom 64 pixels of the picture's width leave nothing."""
    picture = Image.new("RGB", (900, 600), (90, 90, 90))
    picture.paste(Image.fromarray(skimage.data.astronaut()).reduce(8), (500, 300))
    picture.save(tmp_path / "large.png")
    arguments = ["anonymize", tmp_path / "large.png", "--method", "fill", "--threshold", "0.3"]
    assert run(*arguments, "-o", tmp_path / "a").exit_code == 0
    assert run(*arguments, "-o", tmp_path / "b", "--longest-side", "64").exit_code == 1


def test_feather_and_colour_match(made, bundle: Path) -> None:
    """On an FFHQ-like bundle; both leave the inside of the mask to the new face."""
    # Nothing is drawn, so two runs are equal.
    base = ["--bundle", bundle, "--threshold", "0.5", "--hide", "age"]
    base += ["--attribute-rule", "farthest"]
    _, first = made(*base)
    _, again = made(*base)
    assert (first == again).all()
    for option in (["--feather", "0.9"], ["--no-colour-match"]):
        _, other = made(*base, *option)
        assert (first != other).any()


def test_faces(run, made, photo: Path, bundle: Path, tmp_path: Path) -> None:
    """A picture of exactly the bundle's size is an aligned face unless it is said to be a scene."""
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((RESOLUTION, RESOLUTION, 3), np.uint8)).save(small)
    arguments = ["anonymize", small, "--bundle", bundle, "--json"]
    as_face = run(*arguments, "-o", tmp_path / "a")
    assert json.loads(as_face.stdout)["counts"]["replaced"] == 1
    as_scene = run(*arguments, "-o", tmp_path / "b", "--faces", "scene")
    assert json.loads(as_scene.stdout)["counts"]["no face found"] == 1
    entry, _ = made("--bundle", bundle, "--faces", "aligned")
    assert entry["track"] is not None
    assert entry["faces"] == []


def test_a_detector_of_the_user(run, photo: Path, tmp_path: Path) -> None:
    """One that sees a face at one place of its 32 x 32 pixels."""
    count = 2 * (4 * 4 + 2 * 2 + 1)
    scores = np.zeros((1, count, 2))
    scores[..., 0] = 1
    scores[0, 10] = [0.1, 0.9]
    outputs = {
        "loc": np.zeros((1, count, 4)),
        "conf": scores,
        "landms": np.tile([-1, -1, 1, -1, 0, 0, -1, 1, 1, 1], (1, count, 1)) * 1.0,
    }
    path = constant_onnx(tmp_path / "r.onnx", outputs, (32, 32))
    small = tmp_path / "small.png"
    Image.open(photo).reduce(2).save(small)
    arguments = ["anonymize", small, "--method", "fill", "--json", "--detector", path]
    found = run(*arguments, "-o", tmp_path / "a")
    assert len(json.loads(found.stdout)["files"][0]["faces"]) > 10
    named = run(*arguments, "-o", tmp_path / "b", "--detector-kind", "retinaface")
    assert json.loads(named.stdout)["files"][0]["faces"]
    wrong = run(*arguments, "-o", tmp_path / "c", "--detector-kind", "yunet")
    assert wrong.exit_code == 1
    assert "name its kind" in json.loads(wrong.stdout)["files"][0]["reason"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "fill", "--bundle", "demo"], "--bundle has no effect"),
        (["--method", "pixelate", "--device", "cpu"], "--device has no effect"),
        (["--method", "fill", "--budget", "1"], "--budget has no effect"),
        (["--method", "fill", "--keep", "age"], "keep has no effect"),
        (["--method", "fill", "--clip", "a:b"], "--clip has no effect"),
        (["--method", "avatar", "--epsilon", "1"], "epsilon has no effect"),
        (["--method", "avatar", "--keep", "gender"], "give one with --clip"),
        (["--method", "avatar", "--faces", "aligned"], "for scenes"),
        (["--faces", "aligned", "--threshold", "0.5"], "--threshold has no effect"),
        (["--faces", "aligned", "--allow-no-face"], "--allow-no-face has no effect"),
        (["--detector-kind", "yunet"], "--detector-kind has no effect"),
        (["--detector", "nothing.onnx"], "not a file"),
        (["--method", "fill", "--threshold", "0"], "threshold"),
        (["--method", "fill", "--longest-side", "3"], "longest_side"),
        (["--method", "fill", "--workers", "0"], "workers"),
        (["--method", "fill", "--resume"], "needs the report"),
    ],
)
def test_what_has_no_effect_or_no_sense(run, photo: Path, options: list[str], words: str) -> None:
    assert words in error(run, photo, *options)
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_workers_and_resume(run, photo: Path, tmp_path: Path) -> None:
    for number in range(3):
        (photo.parent / f"{number}.png").write_bytes(photo.read_bytes())
    report = tmp_path / "r.json"
    arguments = ["anonymize", photo.parent, "-o", tmp_path / "out", "--method", "fill"]
    arguments += ["--threshold", "0.5", "--report", report, "--workers", "2"]
    assert run(*arguments).exit_code == 0
    first = json.loads(report.read_bytes())
    assert first["counts"]["covered"] == 4
    (photo.parent / "late.png").write_bytes(photo.read_bytes())
    assert run(*arguments, "--resume").exit_code == 0
    again = json.loads(report.read_bytes())
    earlier = {Path(entry["source"]).name: entry["earlier"] for entry in again["files"]}
    assert earlier == {name: name != "late.png" for name in earlier}
    assert len(earlier) == 5
    changed = run(*arguments, "--resume", "--threshold", "0.4")
    assert changed.exit_code == 2
    assert "other settings" in changed.stderr
