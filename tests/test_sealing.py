"""Seals beside outputs, on a bundle of tiny networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.batch import anonymize_files
from lreorg_fast.errors import ConfigError, SealError
from lreorg_fast.media import read_image, write_image
from lreorg_fast.privacy import InsecureTestSampler, Original, PrivateKey, seal
from lreorg_fast.privacy.sealed import KINDS, STATEMENT
from lreorg_fast.sealing import Sealer, restore_file, seal_path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="module")
def anonymizer(bundle: Path) -> lf.Anonymizer:
    return lf.Anonymizer.load(bundle)


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    generator = np.random.default_rng(5)
    for name in ("a.png", "b.jpg"):
        pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        write_image(tmp_path / "in" / name, pixels)
    return tmp_path / "in"


def sealed(anonymizer, faces: Path, key: PrivateKey, kind: str, **more):
    sealer = Sealer(key.public, kind)
    return anonymize_files(anonymizer, [faces], faces.parent / "out", sealer=sealer, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_every_output_gets_a_seal_that_its_holder_can_open(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey, kind: str
) -> None:
    report = sealed(anonymizer, faces, key, kind)
    assert report.counts["replaced"] == 2
    assert report.sealed == STATEMENT
    assert report.to_dict()["sealed"] == STATEMENT
    for entry in report.files:
        assert entry.seal == f"{entry.target}.seal"
        picture, found = restore_file(str(entry.target), key, lambda: anonymizer)
        assert found == kind
        original = read_image(entry.source)
        assert picture.shape == original.shape
        assert np.array_equal(picture, original) == (kind == "crop")
        assert not np.array_equal(picture, read_image(str(entry.target)))


def test_a_feature_comes_back_through_the_networks_inverse(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey
) -> None:
    """The seal holds the recovery key: what it restores is what the key restores."""
    report = sealed(anonymizer, faces, key, "feature")
    output = Path(str(report.files[0].target))
    picture, _ = restore_file(output, key, lambda: anonymizer)
    source = read_image(report.files[0].source)
    recovery = anonymizer(source, recovery=True).faces[0].recovery_key
    assert recovery is not None
    assert np.array_equal(picture, anonymizer.restore(read_image(output), recovery))


def test_off_by_default(anonymizer: lf.Anonymizer, faces: Path) -> None:
    report = anonymize_files(anonymizer, [faces], faces.parent / "out")
    assert report.sealed is None
    assert all(entry.seal is None for entry in report.files)
    assert not list((faces.parent / "out").glob("*.seal"))


def test_edited_moved_and_exchanged_outputs_are_refused(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey, tmp_path: Path
) -> None:
    report = sealed(anonymizer, faces, key, "crop")
    first, second = (Path(str(entry.target)) for entry in report.files)

    def refused(path: Path, seal_file: Path, by: PrivateKey = key) -> None:
        with pytest.raises(SealError):
            restore_file(path, by, lambda: anonymizer, seal_file)

    refused(first, seal_path(second))
    refused(first, seal_path(first), PrivateKey.generate())
    pixels = read_image(first)
    pixels[3, 3, 1] ^= 1
    write_image(tmp_path / "edited.png", pixels)
    refused(tmp_path / "edited.png", seal_path(first))
    refused(first, tmp_path / "missing.seal")
    refused(first, faces)
    # Another name and place of the same pixels are the same output.
    moved = tmp_path / "elsewhere.png"
    first.rename(moved)
    assert restore_file(moved, key, lambda: anonymizer, seal_path(first))[1] == "crop"


def test_a_test_sampler_cannot_seal(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LREORG_INSECURE_TEST", "1")
    picture = read_image(faces / "a.png")
    result = anonymizer(picture, recovery=True, sampler=InsecureTestSampler(1))
    face = result.faces[0]
    assert (face.to_dict()["privacy"], face.to_dict()["epsilon"]) == ("none", "inf")
    output = faces / "out.png"
    for kind in KINDS:
        write_image(output, result.image)
        with pytest.raises(SealError, match="InsecureTestSampler"):
            Sealer(key.public, kind).write(output, picture, face)
        assert not seal_path(output).exists()
        assert not output.exists()


def test_a_filled_face_has_a_crop_and_no_features(
    tmp_path: Path, faces: Path, key: PrivateKey
) -> None:
    strict = lf.Anonymizer.load(toy_bundle(tmp_path / "s", calibration={"verify.face": 1e9}))
    report = sealed(strict, faces, key, "feature")
    assert report.counts["filled"] == 2
    assert all(entry.seal is None for entry in report.files)
    report = sealed(strict, faces, key, "crop", overwrite=True)
    for entry in report.files:
        picture, _ = restore_file(str(entry.target), key, lambda: strict)
        assert np.array_equal(picture, read_image(entry.source))


def test_no_output_without_its_seal(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr("lreorg_fast.sealing.seal", fail)
    report = sealed(anonymizer, faces, key, "crop")
    assert report.counts["refused"] == 2
    assert list((faces.parent / "out").iterdir()) == []


def test_an_earlier_seal_stays_unless_asked_and_nothing_is_drawn(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey
) -> None:
    out = faces.parent / "out"
    out.mkdir()
    (out / "a.png.seal").write_bytes(b"the only one")
    report = sealed(anonymizer, faces, key, "crop")
    assert [entry.status for entry in report.files] == ["refused", "replaced"]
    assert report.files[0].track is None
    assert (out / "a.png.seal").read_bytes() == b"the only one"
    assert not (out / "a.png").exists()
    assert sealed(anonymizer, faces, key, "crop", overwrite=True).counts["replaced"] == 2


def test_a_resumed_run_says_that_a_seal_is_missing_and_what_helps(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey
) -> None:
    how = {"report": faces.parent / "r.json"}
    report = sealed(anonymizer, faces, key, "crop", **how)
    first, second = report.files
    Path(str(first.seal)).rename(faces.parent / "elsewhere")
    again = sealed(anonymizer, faces, key, "crop", resume=True, **how)
    assert [(entry.status, entry.earlier) for entry in again.files] == [
        ("refused", False),
        ("replaced", True),
    ]
    reason = str(again.files[0].reason)
    assert all(words in reason for words in (str(first.seal), "missing", "--force"))
    assert Path(str(first.target)).is_file()  # it stays, and so does the other pair
    assert restore_file(str(second.target), key, lambda: anonymizer)[1] == "crop"


def test_a_seal_that_was_put_back_or_made_again_lets_the_run_go_on(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey
) -> None:
    how = {"report": faces.parent / "r.json"}
    first = sealed(anonymizer, faces, key, "crop", **how).files[0]
    lost = Path(str(first.seal))
    content = lost.read_bytes()
    lost.unlink()
    made = sealed(anonymizer, faces, key, "crop", resume=True, overwrite=True, **how)
    assert [(entry.status, entry.earlier) for entry in made.files] == [
        ("replaced", False),
        ("replaced", True),
    ]
    assert lost.read_bytes() != content
    assert restore_file(str(first.target), key, lambda: anonymizer)[1] == "crop"


def test_features_of_another_bundle_are_an_error(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey, tmp_path: Path
) -> None:
    output = faces / "a.png"
    for features in (
        {"identity": np.ones((3, 5), np.float32)},
        {"hat": np.ones((8, 16), np.float32)},
    ):
        content = seal(Original(features=features), read_image(output), "t", key.public)
        (tmp_path / "s").write_bytes(content)
        with pytest.raises((SealError, ConfigError), match="this bundle"):
            restore_file(output, key, lambda: anonymizer, tmp_path / "s")


def test_unknown_kinds_are_refused(key: PrivateKey) -> None:
    with pytest.raises(ConfigError, match="feature, crop"):
        Sealer(key.public, "latent")


def test_a_seal_holds_no_picture_and_no_name(
    anonymizer: lf.Anonymizer, faces: Path, key: PrivateKey
) -> None:
    (faces / "b.jpg").unlink()
    (faces / "a.png").rename(faces / "Anna-Musterfrau.png")
    report = sealed(anonymizer, faces, key, "crop")
    content = Path(str(report.files[0].seal)).read_bytes()
    assert b"Anna" not in content
    original = np.asarray(Image.open(report.files[0].source)).tobytes()
    assert original[:12] not in content
