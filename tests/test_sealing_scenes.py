"""Seals of whole pictures: every face that can come back does, and nothing else opens."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import toy_bundle
from detectors import KnownFaces, detection

import lreorg_fast as lf
from lreorg_fast.batch import AlignedWork, AutoWork, BatchReport, SceneWork, anonymize_files
from lreorg_fast.errors import ConfigError, LReorgError, SealError
from lreorg_fast.media import read_image, write_image
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.privacy import PrivateKey
from lreorg_fast.privacy.seal_bodies import packed
from lreorg_fast.privacy.seal_sets import SectionSealer, SetHeader
from lreorg_fast.privacy.sealed import STATEMENT
from lreorg_fast.privacy.subjects import picture_digest
from lreorg_fast.scene.restoring import put_features_back
from lreorg_fast.scene.sealed import Blending, Place, SealedFeature
from lreorg_fast.sealing import Sealer, opened_scene, restore_file, seal_path

FACES = [detection(40, 50, 30), detection(110, 60, 44, 0.8, turn=0.3), detection(80, 20, 20, 0.7)]
# One that overlaps its neighbour, and one that leaves the picture.
CROWD = [*FACES, detection(125, 75, 30, 0.6), detection(3, 100, 30, 0.5)]


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
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(1)
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / "in" / name, noise.integers(0, 256, (120, 160, 3), dtype=np.uint8))
    return tmp_path / "in"


def work(
    anonymizer: lf.Anonymizer | None,
    key: PrivateKey,
    kind: str,
    faces: list[Any] = CROWD,
    **settings: Any,
) -> SceneWork:
    sealer = Sealer(key.public, kind)
    scene = lf.SceneAnonymizer(
        anonymizer, KnownFaces(faces), lf.SceneSettings(**settings), recovery=sealer.recovery
    )
    return SceneWork(scene, sealer=sealer)


def run(made_by: Any, folder: Path, **more: Any) -> BatchReport:
    return anonymize_files(made_by, [folder], folder.parent / "out", **more)


def changed(a: Picture, b: Picture) -> np.ndarray:
    return np.asarray((a != b).any(axis=2))


def test_crops_bring_the_whole_picture_back(
    anonymizer: lf.Anonymizer, folder: Path, key: PrivateKey
) -> None:
    report = run(work(anonymizer, key, "crop"), folder)
    assert report.counts["replaced"] == 2
    assert report.sealed == STATEMENT
    for entry in report.files:
        assert entry.seal == f"{entry.target}.seal"
        output, source = read_image(str(entry.target)), read_image(entry.source)
        picture, kind = restore_file(str(entry.target), key, lambda: anonymizer)
        assert kind == "crop"
        assert changed(output, source).any()
        if entry.target.endswith(".png"):
            assert np.array_equal(picture, source)
        else:  # exact where a face was, and the JPEG elsewhere
            inside = ~changed(picture, source)
            assert all(inside[int(y), int(x)] for x, y in _middles(CROWD))
            assert np.array_equal(picture[~inside], output[~inside])


def _middles(faces: list[Any]) -> list[np.ndarray]:
    return [(face.box[:2] + face.box[2:]) / 2 for face in faces]


def test_features_come_back_in_their_places(
    anonymizer: lf.Anonymizer, folder: Path, key: PrivateKey
) -> None:
    """Each face is what its own recovery key restores; between the faces nothing moves."""
    report = run(work(anonymizer, key, "feature", FACES), folder)
    entry = report.files[0]
    output, source = read_image(str(entry.target)), read_image(entry.source)
    picture, kind = restore_file(str(entry.target), key, lambda: anonymizer)
    assert kind == "feature"
    moved = changed(picture, output)
    assert all(
        moved[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4].any() for x, y in _middles(FACES)
    )
    # The border is soft, and a pixel may be what it was by chance.
    assert (moved & ~changed(output, source)).sum() < 0.02 * moved.sum()
    content = seal_path(str(entry.target)).read_bytes()
    header, faces = opened_scene(content, output, key)
    assert header.count == len(faces) == len(FACES)
    assert [list(face.features) for face in faces] == [["identity"]] * 3
    # Of one who was sealed as another: the same place, other features.
    others = [
        SealedFeature(a.place, b.features, a.blending)
        for a, b in zip(faces, [*faces[1:], faces[0]], strict=True)
    ]
    assert changed(put_features_back(anonymizer, output, others), picture).any()


def test_a_filled_face_has_a_crop_and_no_features(
    tmp_path: Path, folder: Path, key: PrivateKey
) -> None:
    strict = lf.Anonymizer.load(toy_bundle(tmp_path / "s", calibration={"verify.similarity": -2.0}))
    report = run(work(strict, key, "feature"), folder)
    assert report.counts["filled"] == 2
    assert all(entry.seal is None for entry in report.files)
    report = run(work(strict, key, "crop"), folder, overwrite=True)
    picture, _ = restore_file(str(report.files[0].target), key, lambda: strict)
    assert np.array_equal(picture, read_image(report.files[0].source))


@pytest.mark.parametrize("method", ["fill", "pixelate"])
def test_covered_faces_come_back_from_crops_without_networks(
    folder: Path, key: PrivateKey, method: str
) -> None:
    report = run(work(None, key, "crop", method=method), folder)
    output = str(report.files[0].target)
    assert changed(read_image(output), read_image(report.files[0].source)).any()
    picture, _ = restore_file(output, key, lambda: pytest.fail("no networks are needed"))
    assert np.array_equal(picture, read_image(report.files[0].source))


def test_a_whole_picture_that_was_filled_comes_back(
    anonymizer: lf.Anonymizer, folder: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = work(anonymizer, key, "crop")

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(made_by.scene, "_finish", broken)
    report = run(made_by, folder)
    output = read_image(str(report.files[0].target))
    assert (output == FILL_COLOUR).all()
    picture, _ = restore_file(str(report.files[0].target), key, lambda: anonymizer)
    assert np.array_equal(picture, read_image(report.files[0].source))


def test_a_picture_without_a_face_has_no_seal(folder: Path, key: PrivateKey) -> None:
    made_by = work(None, key, "crop", [], method="fill")
    made_by.allow_no_face = True
    report = run(made_by, folder)
    assert [entry.status for entry in report.files] == ["no face found"] * 2
    assert all(entry.seal is None for entry in report.files)


def test_features_need_the_method_that_has_them(key: PrivateKey, anonymizer: Any) -> None:
    for method in ("fill", "avatar"):
        with pytest.raises(ConfigError, match="'crop'"):
            work(anonymizer, key, "feature", method=method)
    plain = lf.SceneAnonymizer(anonymizer, KnownFaces(FACES), lf.SceneSettings())
    with pytest.raises(ConfigError, match="recovery"):
        SceneWork(plain, sealer=Sealer(key.public))


def test_pictures_of_both_kinds_in_one_run(
    anonymizer: lf.Anonymizer, folder: Path, key: PrivateKey
) -> None:
    side = anonymizer.resolution
    write_image(folder / "face.png", np.full((side, side, 3), 90, np.uint8))
    whole = work(anonymizer, key, "feature")
    both = AutoWork(AlignedWork(anonymizer, None, whole.subjects, whole.sealer), whole)
    report = run(both, folder)
    assert report.counts["replaced"] == 3
    for entry in report.files:
        picture, kind = restore_file(str(entry.target), key, lambda: anonymizer)
        assert kind == "feature"
        assert picture.shape == read_image(entry.source).shape


# ---- what must not open


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, key: PrivateKey) -> tuple[Path, Picture, bytes]:
    """An output, its pixels and its seal of two faces: 8,418 bytes."""
    folder = tmp_path_factory.mktemp("small")
    write_image(folder / "a.png", np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
    faces = [detection(15, 20, 10), detection(45, 40, 12)]
    report = anonymize_files(
        work(None, key, "crop", faces, method="fill"), [folder / "a.png"], folder / "out"
    )
    output = Path(str(report.files[0].target))
    return output, read_image(output), seal_path(output).read_bytes()


def refused(content: bytes, picture: Picture, key: PrivateKey) -> None:
    with pytest.raises(SealError):
        opened_scene(content, picture, key)


def test_every_byte_flipped_is_refused(small: Any, key: PrivateKey) -> None:
    _, picture, content = small
    opened_scene(content, picture, key)
    for i in range(len(content)):
        edited = bytearray(content)
        edited[i] ^= 1 << (i % 8)
        refused(bytes(edited), picture, key)


def test_a_thousand_wrong_keys_are_refused(small: Any) -> None:
    _, picture, content = small
    for _ in range(1000):
        refused(content, picture, PrivateKey.generate())


def test_parts_that_are_missing_moved_or_anothers_are_refused(
    small: Any, key: PrivateKey, tmp_path: Path
) -> None:
    output, picture, content = small
    head = len(SetHeader.fresh("crop", "picture", 1).raw)
    size = (len(content) - head) // 2
    first, second = content[head : head + size], content[head + size :]
    for cut in (0, 1, head, head + 96, head + size, len(content) - 1):
        refused(content[:cut], picture, key)
    for body in (second + first, first + first, second, first + second + first, content):
        refused(content[:head] + body, picture, key)
    refused(content + b"\0", picture, key)
    # One face only, by somebody who says that there is only one.
    header = SetHeader.read(BytesIO(content))
    refused(SetHeader("crop", "picture", 1, 0, header.identity).raw + first, picture, key)
    # The same faces of the same output, sealed once more: another file all the same.
    (tmp_path / "in").mkdir()
    again = anonymize_files(
        work(None, key, "crop", [detection(15, 20, 10), detection(45, 40, 12)], method="fill"),
        [output.parents[1] / "a.png"],
        tmp_path / "out",
    )
    other = seal_path(str(again.files[0].target)).read_bytes()
    assert np.array_equal(read_image(str(again.files[0].target)), picture)
    opened_scene(other, picture, key)
    refused(content[: head + size] + other[head + size :], picture, key)
    edited = picture.copy()
    edited[59, 0, 2] ^= 1
    refused(content, edited, key)
    refused(content, picture[:-1], key)


@pytest.mark.parametrize(
    "body",
    [
        packed([0, 0, 60, 61], [np.zeros((60, 61, 3), np.uint8)]),
        packed([50, 0, 20, 20], [np.zeros((20, 20, 3), np.uint8)]),
        packed([-1, 0, 20, 20], [np.zeros((20, 20, 3), np.uint8)]),
        packed([0, 0, 1 << 40, 1 << 40], []),
        packed([0, 0, 2, 2], [np.ones((3, 3, 3), np.uint8)]),
        packed([0.5, 0, 2, 2], [np.zeros((2, 2, 3), np.uint8)]),
        packed({"left": 0}, []),
        packed(None, []),
        bytes(4096),
        b"\xff" * 4096,
    ],
    ids=range(10),
)
def test_what_opens_and_holds_no_crop_is_refused(
    small: Any, key: PrivateKey, tmp_path: Path, body: bytes
) -> None:
    output, picture, _ = small
    header = SetHeader.fresh("crop", "picture", 1)
    section = SectionSealer(header, 0, "t", key.public)
    content = header.raw + section.head + section.last(body, picture_digest(picture))
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(SealError, match="wrongly"):
        restore_file(output, key, lambda: pytest.fail("no networks"), tmp_path / "s")


def test_features_of_another_bundle_and_odd_places_are_errors(
    small: Any, key: PrivateKey, tmp_path: Path, anonymizer: lf.Anonymizer
) -> None:
    output, picture, _ = small
    quad = np.array([[10.0, 10], [10, 40], [40, 40], [40, 10]])
    face = detection(25, 25, 20)
    good = {"identity": np.ones((8, 16), np.float32)}
    blending = Blending(0.2, True)
    hostile = [
        ({"hat": good["identity"]}, quad),
        ({"identity": np.ones((3, 5), np.float32)}, quad),
        (good, quad * [1, 3]),
        (good, quad * 0),
        (good, quad + 1e8),
        (good, quad[::-1]),
    ]
    for features, corners in hostile:
        body = SealedFeature(Place(face, corners), features, blending).body
        header = SetHeader.fresh("feature", "picture", 1)
        section = SectionSealer(header, 0, "t", key.public)
        content = header.raw + section.head + section.last(body, picture_digest(picture))
        (tmp_path / "s").write_bytes(content)
        with pytest.raises(LReorgError, match=r"this bundle|wrongly"):
            restore_file(output, key, lambda: anonymizer, tmp_path / "s")
