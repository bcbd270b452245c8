"""``lreorg keygen``, ``restore``, ``pseudonyms``, and what ``anonymize`` does with their files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lreorg_fast.cli.app import lreorg
from lreorg_fast.privacy import LedgerFile, Pseudonyms

CANARY = "Anna-Musterfrau-7f3a"


def typed(*arguments: object, text: str):
    """The command with something typed at its prompts."""
    return CliRunner().invoke(lreorg, [str(a) for a in arguments], input=text)


@pytest.fixture
def pair(run, tmp_path: Path) -> Path:
    """tmp/me.pub and tmp/me.key, without a passphrase."""
    assert run("keygen", tmp_path / "me", "--no-passphrase").exit_code == 0
    return tmp_path / "me"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def anonymized(run, face: Path, bundle: Path, *options: object, code: int = 0):
    out = face.parents[1] / "out"
    result = run("anonymize", face, "-o", out, "--bundle", bundle, "--json", *options)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if result.stdout else result.stderr


@pytest.mark.parametrize(("kind", "exact"), [("feature", False), ("crop", True)])
def test_sealed_and_restored(run, face: Path, bundle: Path, pair: Path, kind, exact) -> None:
    report = anonymized(run, face, bundle, "--seal", f"{pair}.pub", "--seal-kind", kind)
    assert "not anonymous" in report["sealed"]
    (entry,) = report["files"]
    output = Path(entry["target"])
    result = run("restore", output, "--key", f"{pair}.key", "--bundle", bundle)
    assert result.exit_code == 0, result.output
    restored = output.with_name("face_restored.png")
    assert str(restored) in result.stdout
    assert np.array_equal(pixels(restored), pixels(face)) == exact
    # It is not replaced without being asked.
    again = ("restore", output, "--key", f"{pair}.key", "--bundle", bundle)
    assert run(*again).exit_code == 2
    assert run(*again, "--force").exit_code == 0


def test_a_passphrase_is_asked_for_and_needed(run, face: Path, bundle: Path, tmp_path) -> None:
    made = typed("keygen", tmp_path / "my", text="right\nright\n")
    assert made.exit_code == 0, made.output
    assert "right" not in made.output
    assert typed("keygen", tmp_path / "no", text="a\nb\n\n").exit_code != 0
    assert not (tmp_path / "no.key").exists()
    report = anonymized(run, face, bundle, "--seal", tmp_path / "my.pub", "--seal-kind", "crop")
    output = report["files"][0]["target"]
    command = ("restore", output, "--key", tmp_path / "my.key", "-o", tmp_path / "back.png")
    wrong = typed(*command, text="wrong\n")
    assert wrong.exit_code == 2
    assert "passphrase is wrong" in wrong.output
    assert not (tmp_path / "back.png").exists()
    assert typed(*command, text="right\n").exit_code == 0
    assert np.array_equal(pixels(tmp_path / "back.png"), pixels(face))


def test_a_wrong_key_and_a_moved_seal_are_one_sentence(
    run, face: Path, bundle: Path, pair: Path, tmp_path: Path
) -> None:
    report = anonymized(run, face, bundle, "--seal", f"{pair}.pub")
    output = report["files"][0]["target"]
    run("keygen", tmp_path / "other", "--no-passphrase")
    for arguments in (
        (output, "--key", tmp_path / "other.key"),
        (face, "--key", f"{pair}.key", "--seal", f"{output}.seal"),
        (output, "--key", f"{pair}.pub"),
        (output, "--key", f"{pair}.key", "--seal", tmp_path / "nothing"),
        (face, "--key", f"{pair}.key"),
    ):
        result = run("restore", *arguments, "--bundle", bundle, "-o", tmp_path / "back.png")
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "back.png").exists()
    result = run("restore", output, "--key", f"{pair}.key", "-o", output, "--force")
    assert result.exit_code == 2


def test_keys_are_never_replaced(run, pair: Path) -> None:
    before = Path(f"{pair}.key").read_bytes()
    result = run("keygen", pair, "--no-passphrase")
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert Path(f"{pair}.key").read_bytes() == before


def test_a_ledger_refuses_over_runs(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    assert "give a budget" in anonymized(run, face, bundle, "--ledger", ledger, code=2)
    first = anonymized(run, face, bundle, "--ledger", ledger, "--budget", 1.5)
    assert first["files"][0]["status"] == "replaced"
    assert first["files"][0]["track"].startswith("picture-")
    again = anonymized(run, face, bundle, "--ledger", ledger, "--force", code=1)
    assert again["files"][0]["status"] == "filled"
    assert "budget" in again["files"][0]["reason"]
    assert LedgerFile(ledger).report()["budget"] == 1.5
    assert "started with" in anonymized(
        run, face, bundle, "--ledger", ledger, "--budget", 9, "--force", code=2
    )


def test_a_damaged_ledger_stops_the_run(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("{}")
    text = anonymized(run, face, bundle, "--ledger", tmp_path / "ledger", code=2)
    assert "cannot be read" in text
    assert not (tmp_path / "out").exists()


@pytest.fixture
def people(face: Path) -> Path:
    """in/anna/{1,2}.png and in/bert/1.png, three different pictures."""
    generator = np.random.default_rng(7)
    face.unlink()
    for name in ("anna/1.png", "anna/2.png", "bert/1.png"):
        path = face.parent / name
        path.parent.mkdir(exist_ok=True)
        picture = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(path)
    return face.parent / "face.png"


def by_name(report: dict) -> dict[str, dict]:
    return {"/".join(Path(e["source"]).parts[-2:]): e for e in report["files"]}


def test_a_person_per_folder_is_drawn_once(run, people: Path, bundle: Path, tmp_path) -> None:
    out = tmp_path / "out"
    result = run(
        *("anonymize", people.parent, "-o", out, "--bundle", bundle, "--json"),
        *("--person-per-folder", "--budget", 1, "--faces", "aligned"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    found = by_name(report)
    assert found["anna/1.png"]["track"] == found["anna/2.png"]["track"]
    assert found["anna/1.png"]["track"] != found["bert/1.png"]["track"]
    assert list(report["ledger"]["tracks"].values()) == [1.0, 1.0]
    assert "counted together" in report["persons"]
    assert all("anna" not in track for track in report["ledger"]["tracks"])


def test_pseudonyms_are_the_same_in_every_run(run, face: Path, bundle: Path, tmp_path) -> None:
    keys = tmp_path / "people"
    assert run("pseudonyms", keys, "--create").exit_code == 0
    options = ("--pseudonyms", keys, "--person", CANARY, "--force")
    made = []
    for context in ((), (), ("--context", "2027")):
        report = anonymized(run, face, bundle, *options, *context)
        made.append(pixels(Path(report["files"][0]["target"])).tobytes())
        assert report["files"][0]["epsilon"] == 0
        assert "linkable by design" in report["persons"]
        assert CANARY not in json.dumps(report)
    assert made[0] == made[1]
    listed = json.loads(run("pseudonyms", keys, "--json").stdout)
    assert list(listed) == [CANARY]
    result = run("pseudonyms", keys, "--delete", CANARY)
    assert result.exit_code == 0
    assert Pseudonyms(keys).people == {}
    assert run("pseudonyms", keys, "--delete", CANARY).exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--person", "a", "--person-per-folder"], "contradict"),
        (["--person", ""], "--person is empty"),
        (["--context", "x"], "no effect"),
        (["--seal-kind", "crop"], "no effect"),
        (["--seal", "missing.pub"], "cannot be read"),
        (["--pseudonyms", "missing"], "--create"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together(run, face: Path, bundle: Path, options, said) -> None:
    assert said in anonymized(run, face, bundle, *options, code=2)
    assert not (face.parents[1] / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--mechanism", "window-rr"], "looks at the face"),
        (["--epsilon", "1"], "no effect"),
        (
            ["--hide", "identity,age", "--attribute-rule", "randomized"],
            "looks at the face",
        ),
    ],
)
def test_what_a_pseudonym_cannot_do_stops_the_run(
    run, face: Path, bundle: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    run("pseudonyms", tmp_path / "people", "--create")
    options = ("--pseudonyms", tmp_path / "people", "--person", "a")
    assert said in anonymized(run, face, bundle, *options, *more, code=2)
    assert not (tmp_path / "out").exists()


def test_pseudonyms_need_people(run, face: Path, bundle: Path, tmp_path: Path) -> None:
    run("pseudonyms", tmp_path / "people", "--create")
    assert "nobody is named" in anonymized(
        run, face, bundle, "--pseudonyms", tmp_path / "people", code=2
    )


def test_no_secret_and_no_name_is_printed_or_logged(
    run, face: Path, bundle: Path, pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys, ledger = tmp_path / "people", tmp_path / "ledger"
    with caplog.at_level(logging.DEBUG):
        outputs = [run("pseudonyms", keys, "--create").output]
        out = tmp_path / "out"
        anonymous = run(
            *("anonymize", face, "-o", out, "--bundle", bundle, "--pseudonyms", keys, "--debug"),
            *("--person", CANARY, "--ledger", ledger, "--budget", 1, "--seal", f"{pair}.pub"),
            *("--report", tmp_path / "report.json"),
        )
        assert anonymous.exit_code == 0, anonymous.output
        outputs.append(anonymous.output)
        restore = run("restore", out / "face.png", "--key", f"{pair}.key", "--bundle", bundle)
        outputs.append(restore.output)
    secret = json.loads(keys.read_text())["people"][CANARY]["key"]
    private = json.loads(Path(f"{pair}.key").read_text())["private"]
    texts = [*outputs, caplog.text, ledger.read_text(), (tmp_path / "report.json").read_text()]
    for text in texts:
        for canary in (CANARY, secret, private):
            assert canary not in text
