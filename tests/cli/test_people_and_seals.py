"""Seals, people and pseudonyms of whole pictures and videos, as the shell would ask for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from detectors import KnownFaces, detection
from PIL import Image
from stamped import Film, TrueDetector

import lreorg_fast.faces
from lreorg_fast.media import read_image
from lreorg_fast.media.video import VideoReader

FRAMES = 16
TWO = [detection(40, 40, 30), detection(110, 40, 30)]


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture of two faces."""
    monkeypatch.setattr(lreorg_fast.faces, "load_detector", lambda *_: KnownFaces(TWO))
    noise = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip of two people."""
    monkeypatch.setattr(lreorg_fast.faces, "load_detector", lambda *_: TrueDetector(Film(FRAMES)))
    return Film(FRAMES).write(tmp_path / "in.mp4")


@pytest.fixture
def pair(run, tmp_path: Path) -> Path:
    assert run("keygen", tmp_path / "me", "--no-passphrase").exit_code == 0
    return tmp_path / "me"


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("kind", ["feature", "crop"])
def test_a_whole_picture_is_sealed_and_restored(
    run, photo: Path, bundle: Path, pair: Path, kind: str
) -> None:
    seal = ("--seal", f"{pair}.pub", "--seal-kind", kind)
    said = good(run("anonymize", photo, "--bundle", bundle, *seal))
    assert "pseudonymised, not anonymous" in said
    out = photo.with_name("in_anonymized.png")
    assert out.with_name("in_anonymized.png.seal").is_file()
    good(run("restore", out, "--key", f"{pair}.key", "--bundle", bundle))
    back = read_image(out.with_name("in_anonymized_restored.png"))
    assert (back == read_image(photo)).all() == (kind == "crop")
    assert (back != read_image(out)).any()


@pytest.mark.parametrize(("kind", "method"), [("feature", "reorganize"), ("crop", "fill")])
def test_a_video_is_sealed_and_restored(
    run, video: Path, bundle: Path, pair: Path, kind: str, method: str
) -> None:
    networks = ("--bundle", bundle) if method == "reorganize" else ()
    seal = ("--seal", f"{pair}.pub", "--seal-kind", kind, "--method", method)
    said = good(run("anonymize", video, *networks, *seal, "--report", video.with_name("r.json")))
    assert "pseudonymised, not anonymous" in said
    out = video.with_name("in_anonymized.mp4")
    (report,) = json.loads(video.with_name("r.json").read_bytes())["videos"]
    assert report["seal"] == f"{out}.seal"
    assert report["settings"]["seal"]["kind"] == kind
    restore = ("restore", out, "--key", f"{pair}.key", *networks)
    assert "in_anonymized_restored.mp4" in good(run(*restore))
    back = VideoReader(out.with_name("in_anonymized_restored.mp4"))
    assert len(list(back.frames())) == FRAMES
    assert run(*restore).exit_code == 2  # it is there
    assert good(run(*restore, "--force", "-q", "-o", video.with_name("b.mp4"))) == ""
    assert video.with_name("b.mp4").is_file()
    run("keygen", video.with_name("other"), "--no-passphrase")
    wrong = run("restore", out, "--key", video.with_name("other.key"), "-o", "x.mp4", *networks)
    assert wrong.exit_code == 2
    assert "does not open" in wrong.stderr
    assert "Traceback" not in wrong.output


def test_people_by_a_table(run, photo: Path, bundle: Path, tmp_path: Path) -> None:
    keys, table = tmp_path / "keys", tmp_path / "people.csv"
    good(run("pseudonyms", keys, "--create"))
    table.write_text("file,person,x,y\nin.png,Anna,40,40\n")
    made = []
    for out in "ab":
        done = good(
            run(
                *("anonymize", photo, "--bundle", bundle, "-o", tmp_path / out, "--json"),
                *("--people", table, "--pseudonyms", keys),
            )
        )
        assert "Anna" not in done
        made.append([face["track"] for face in json.loads(done)["files"][0]["faces"]])
    assert made[0][0] == made[1][0] == json.loads(run("pseudonyms", keys, "--json").stdout)["Anna"]
    assert made[0][1] != made[1][1]
    table.write_text("file,person,x,y\nin.png,Anna,75,75\n")
    nobody = run("anonymize", photo, "--bundle", bundle, "-o", tmp_path / "c", "--people", table)
    assert nobody.exit_code == 1
    assert "there are faces around (40, 40), (110, 40)" in nobody.stderr
    table.write_text("file,person,x,y\nother.png,Anna,75,75\n")
    nothing = run("anonymize", photo, "--bundle", bundle, "-o", tmp_path / "c", "--people", table)
    assert nothing.exit_code == 2
    assert "does not exist" in nothing.stderr
    assert not (tmp_path / "c").exists()


def test_people_of_videos_by_a_table(run, video: Path, bundle: Path, tmp_path: Path) -> None:
    x, y = (TrueDetector(Film(FRAMES)).film.known(3)[0].box[:2] + 4).tolist()
    (tmp_path / "people.csv").write_text(f"file,person,x,y,seconds\nin.mp4,Anna,{x},{y},0.1\n")
    done = good(
        run(
            *(
                "anonymize",
                video,
                "--bundle",
                bundle,
                "--json",
                "--people",
                tmp_path / "people.csv",
            ),
            *("--ledger", tmp_path / "ledger", "--budget", 1),
        )
    )
    tracks = [track["track"] for track in json.loads(done)["videos"][0]["tracks"]]
    assert sorted(name.partition("-")[0] for name in tracks) == ["person", "video"]
    assert "Anna" not in done
    (tmp_path / "people.csv").write_text("file,person\nother.mp4,Anna\n")
    wrong = run("anonymize", video, "--bundle", bundle, "--people", tmp_path / "people.csv")
    assert wrong.exit_code == 2
    assert "does not exist" in wrong.stderr


# What make_work (pictures) and make_scene (videos) refuse, both with the same sentence.
REFUSED = {
    ("--method", "fill", "--person", "a"): "--person has no effect with the method 'fill'",
    ("--method", "fill", "--people", "p"): "--people has no effect with the method 'fill'",
    ("--method", "pixelate", "--pseudonyms", "p"): "--pseudonyms has no effect",
    ("--method", "fill", "--ledger", "l"): "--ledger has no effect",
    ("--method", "fill", "--clip", "a:b"): "--clip has no effect",
    ("--method", "fill", "--seal", "{pub}"): "seal the kind 'crop'",
    ("--method", "avatar", "--seal", "{pub}"): "seal the kind 'crop'",
    ("--method", "avatar", "--pseudonyms", "p"): "for the method 'reorganize'",
    ("--method", "avatar", "--keep", "age"): "give one with --clip",
    ("--detector-kind", "yunet"): "--detector-kind has no effect without --detector",
    ("--seal-kind", "crop"): "--seal-kind has no effect without --seal",
    ("--seal", "{pub}", "--seal-kind", "face"): "must be one of feature, crop",
    ("--seal", "missing.pub"): "cannot be read",
    ("--ledger", "missing"): "give a budget",
    ("--people", "missing.csv"): "cannot be read",
    ("--person", "a", "--people", "missing.csv"): "contradict each other",
    ("--pseudonyms", "missing", "--person", "a"): "--create",
    ("--context", "c"): "no effect without --pseudonyms",
    (
        "--hide",
        "shoes",
    ): "shoes",
    ("--epsilon", "30"): "epsilon",
}


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
@pytest.mark.parametrize("medium", ["photo", "video"])
def test_what_is_refused_for_both(
    run, request: pytest.FixtureRequest, bundle: Path, pair: Path, medium: str,
    options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # a ledger leaves its lock
    source = request.getfixturevalue(medium)
    before = sorted(source.parent.iterdir())
    networks = () if options[1] in ("fill", "pixelate") else ("--bundle", bundle)
    given = [option.replace("{pub}", f"{pair}.pub") for option in options]
    done = run("anonymize", source, *networks, *given)
    assert done.exit_code == 2, done.output
    assert REFUSED[options] in done.stderr
    assert "Traceback" not in done.output
    assert sorted(source.parent.iterdir()) == before
