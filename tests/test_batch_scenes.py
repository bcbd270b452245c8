"""Whole pictures in files, with the real detector: what people have on their disks."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from detectors import KnownFaces, detection
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.batch import AlignedWork, AutoWork, BatchReport, SceneWork, anonymize_files
from lreorg_fast.faces import Detector
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.pipeline import Anonymizer

BOX = (46, 15, 67, 44)  # of the astronaut's face at a quarter of the size


@pytest.fixture(scope="module")
def detector() -> Detector:
    return lf.load_detector(threads=1)


@pytest.fixture(scope="module")
def demo() -> Anonymizer:
    return Anonymizer.load("demo")


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut()).reduce(4)


def work(detector: Detector, allow_no_face: bool = False, **settings: Any) -> SceneWork:
    # The rocket behind the astronaut looks at the default threshold a little like a face.
    settings = {"method": "fill", "threshold": 0.3, **settings}
    return SceneWork(
        lf.SceneAnonymizer(None, detector, lf.SceneSettings(**settings)), allow_no_face
    )


def run(tmp_path: Path, detector: Detector, **options: Any) -> BatchReport:
    return anonymize_files(work(detector, **options), [tmp_path / "in"], tmp_path / "out")


def pixels(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB"))


def face_is_filled(picture: Picture, box: tuple[int, int, int, int] = BOX) -> bool:
    left, top, right, bottom = box
    off = np.abs(picture[top:bottom, left:right].astype(int) - FILL_COLOUR).max()
    return bool(off <= 3)  # JPEG


def saved(portrait: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    portrait.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("p.png", "RGB"),
        ("p.jpg", "RGB"),
        ("p.webp", "RGB"),
        ("p.bmp", "RGB"),
        ("p.tif", "RGB"),
        ("gray.png", "L"),
        ("alpha.png", "RGBA"),
        ("palette.png", "P"),
        ("sixteen.png", "I;16"),
    ],
)
def test_formats_and_modes(
    tmp_path: Path, detector: Detector, portrait: Image.Image, name: str, mode: str
) -> None:
    if mode == "I;16":
        gray = np.asarray(portrait.convert("L")).astype(np.uint16) * 257
        picture = Image.fromarray(gray)
    else:
        picture = portrait.convert(mode)
    saved(picture, tmp_path / "in" / name)
    report = run(tmp_path, detector)
    assert report.complete
    assert [entry.status for entry in report.files] == ["covered"]
    assert len(report.files[0].faces) == 1
    made = pixels(tmp_path / "out" / name)
    assert face_is_filled(made)
    far = np.s_[90:, 90:]
    rgb = np.asarray(portrait.convert("L" if mode in ("L", "I;16") else "RGB").convert("RGB"))
    # JPEG and WebP, and the 256 colours of a palette, move pixels a little.
    assert np.abs(made[far].astype(int) - rgb[far]).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_that_lie_on_their_side(
    tmp_path: Path, detector: Detector, portrait: Image.Image, orientation: int
) -> None:
    """Phones store the picture as the sensor had it and note how it was held."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "Anna Musterfrau"
    stored = portrait.transpose(undo[orientation]) if orientation in undo else portrait
    saved(stored, tmp_path / "in" / "p.jpg", exif=exif, quality=95, comment=b"Anna")
    report = run(tmp_path, detector)
    assert report.complete
    assert face_is_filled(pixels(tmp_path / "out" / "p.jpg"))
    made = Image.open(tmp_path / "out" / "p.jpg")
    assert not made.getexif()
    assert b"Anna" not in (tmp_path / "out" / "p.jpg").read_bytes()


def test_what_is_refused_says_why(
    tmp_path: Path, detector: Detector, portrait: Image.Image
) -> None:
    other = Image.fromarray(np.asarray(portrait)[::-1])
    saved(portrait.convert("CMYK"), tmp_path / "in" / "print.jpg")
    for name in ("moving.webp", "moving.png", "pages.tif"):
        saved(portrait, tmp_path / "in" / name, save_all=True, append_images=[other])
    frame = BytesIO()
    portrait.save(frame, "GIF", save_all=True, append_images=[other])
    (tmp_path / "in" / "gif.png").write_bytes(frame.getvalue())
    report = run(tmp_path, detector)
    reasons = {Path(entry.source).name: str(entry.reason) for entry in report.files}
    assert {entry.status for entry in report.files} == {"refused"}
    assert "CMYK" in reasons.pop("print.jpg")
    assert "not a picture that can be read" in reasons.pop("gif.png")
    assert all("several frames" in reason for reason in reasons.values())
    assert not (tmp_path / "out").exists()


def test_no_face_is_written_only_on_request(tmp_path: Path, detector: Detector) -> None:
    saved(Image.fromarray(skimage.data.chelsea()).reduce(2), tmp_path / "in" / "cat.png")
    report = run(tmp_path, detector)
    assert report.counts["no face found"] == 1
    assert not report.complete
    assert "may have been missed" in report.files[0].sentence
    assert not (tmp_path / "out").exists()
    report = run(tmp_path, detector, allow_no_face=True)
    assert report.counts["no face found"] == 1
    assert report.complete
    assert (pixels(tmp_path / "out" / "cat.png") == pixels(tmp_path / "in" / "cat.png")).all()


def test_many_people(tmp_path: Path, detector: Detector, portrait: Image.Image) -> None:
    crowd = Image.new("RGB", (6 * 128, 4 * 128))
    for i in range(24):
        crowd.paste(portrait, ((i % 6) * 128, (i // 6) * 128))
    saved(crowd, tmp_path / "in" / "crowd.png")
    report = run(tmp_path, detector)
    (entry,) = report.files
    assert len(entry.faces) == 24
    made = pixels(tmp_path / "out" / "crowd.png")
    for i in range(24):
        left, top = (i % 6) * 128, (i // 6) * 128
        assert face_is_filled(made[top : top + 128, left : left + 128])
    assert json.dumps(entry.to_dict())


def test_the_demo_bundle_refuses_a_photograph_and_names_the_remedies(
    tmp_path: Path, detector: Detector, demo: Anonymizer, portrait: Image.Image
) -> None:
    saved(portrait, tmp_path / "in" / "p.png")
    whole = SceneWork(lf.SceneAnonymizer(demo, detector, lf.SceneSettings()))
    report = anonymize_files(whole, [tmp_path / "in"], tmp_path / "out")
    assert report.counts["refused"] == 1
    assert "'avatar', 'fill' or 'pixelate'" in str(report.files[0].reason)
    assert not (tmp_path / "out").exists()
    avatars = SceneWork(lf.SceneAnonymizer(demo, detector, lf.SceneSettings(method="avatar")))
    report = anonymize_files(avatars, [tmp_path / "in"], tmp_path / "out")
    assert report.complete
    assert report.counts["replaced"] == 1
    assert report.filled_share == 0


def test_auto_takes_pictures_of_the_bundles_size_as_faces(tmp_path: Path, demo: Anonymizer) -> None:
    """Others are looked through, so a detector is asked for those only."""
    known = KnownFaces([detection(40, 40, 30)])
    whole = SceneWork(lf.SceneAnonymizer(demo, known, lf.SceneSettings()))
    both = AutoWork(AlignedWork(demo), whole)
    random = np.random.default_rng(0)
    assert both.default
    both(random.integers(0, 256, (64, 64, 3), dtype=np.uint8), Path("any.png"))
    assert known.thresholds == []
    assert both.default
    with pytest.raises(lf.errors.ImageError, match="kind of the bundle"):
        both(random.integers(0, 256, (80, 90, 3), dtype=np.uint8), Path("any.png"))
    assert known.thresholds == [lf.SceneSettings().threshold]
    assert not both.default  # the measured figures are about aligned faces
