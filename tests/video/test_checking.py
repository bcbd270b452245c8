"""Judges: of one face after the encoder, of a whole result, and of how calm it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from clips import write_clip
from detectors import KnownFaces, detection
from hypothesis import given
from hypothesis import strategies as st
from stamped import Film, TrueDetector

import lreorg_fast as lf
from lreorg_fast.errors import ImageError, VideoError
from lreorg_fast.media import write_image
from lreorg_fast.media.pictures import FILL_COLOUR
from lreorg_fast.scene import SceneAnonymizer, SceneFace, SceneSettings
from lreorg_fast.video import anonymize_video, verify_pair
from lreorg_fast.video.checking import NOT_AS_MEANT, UNEDITED, FaceCheck
from lreorg_fast.video.flicker import Flicker, Jitter, Spread

FACE = detection(60, 50, 40)


def noise(seed: int = 0, level: int = 255) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, level, (100, 120, 3), dtype=np.uint8)


def check(status: str, meant: np.ndarray, source: np.ndarray | None = None) -> FaceCheck:
    face = SceneFace(FACE, "a", status)  # type: ignore[arg-type]
    made = FaceCheck.of_face(face, noise() if source is None else source, meant)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def scene() -> SceneAnonymizer:
    return SceneAnonymizer(None, KnownFaces([]), SceneSettings(method="pixelate"))


def filled() -> np.ndarray:
    picture = noise()
    picture[20:80, 30:90] = FILL_COLOUR
    return picture


def test_what_is_shown_as_meant_may_leave(scene: SceneAnonymizer) -> None:
    rough = (noise(1).astype(int) + np.random.default_rng(2).integers(-9, 10, (100, 120, 3))).clip(
        0, 255
    )
    assert check("pixelated", noise(1)).doubt(scene, noise(1)) is None
    assert check("pixelated", noise(1)).doubt(scene, rough.astype(np.uint8)) is None
    assert check("filled", filled()).doubt(scene, filled()) is None


def test_the_source_may_not_leave(scene: SceneAnonymizer) -> None:
    for status, meant in (("pixelated", noise(1)), ("filled", filled())):
        assert check(status, meant).doubt(scene, noise()) == NOT_AS_MEANT
        assert check(status, noise()).doubt(scene, noise()) == UNEDITED
    part = noise()
    part[40:50, 50:60] = 0  # a spot on a face does not hide it
    assert check("pixelated", part).doubt(scene, part) == UNEDITED
    faint = (noise(level=250) + 1).astype(np.uint8)
    made = check("pixelated", faint, noise(level=250))
    assert made.doubt(scene, faint) == UNEDITED


def test_a_face_that_had_the_colour_of_a_fill_is_no_doubt(scene: SceneAnonymizer) -> None:
    gray = np.full((100, 120, 3), FILL_COLOUR, np.uint8)
    assert check("filled", gray, gray).doubt(scene, gray) is None


@given(x=st.floats(-80, 200), y=st.floats(-80, 180), side=st.floats(2, 90))
def test_faces_at_and_beyond_the_border_are_judged_or_not_there(
    x: float, y: float, side: float
) -> None:
    scene = SceneAnonymizer(None, KnownFaces([]), SceneSettings(method="pixelate"))
    face = SceneFace(detection(x, y, side), "a", "pixelated")
    made = FaceCheck.of_face(face, noise(), noise(1))
    box = face.detection.box
    inside = (box[2:] > 0).all() and (box[:2] < (120, 100)).all()
    assert (made is not None) == inside
    if made is not None:
        assert made.doubt(scene, noise(1)) is None
        wide = np.rint(np.clip(box, 0, [120, 100, 120, 100]))
        if (wide[2:] - wide[:2]).min() >= 1:
            assert made.doubt(scene, noise()) is not None


def test_the_recognizer_judges_new_faces(tmp_path: Path) -> None:
    strict = lf.Anonymizer.load(toy_bundle(tmp_path / "s", calibration={"verify.similarity": -2.0}))
    scene = SceneAnonymizer(strict, KnownFaces([]), SceneSettings())
    reason = check("replaced", noise(1)).doubt(scene, noise(1))
    assert "still resembles" in str(reason)
    lenient = lf.Anonymizer.load(toy_bundle(tmp_path / "l"))
    scene = SceneAnonymizer(lenient, KnownFaces([]), SceneSettings())
    assert check("replaced", noise(1)).doubt(scene, noise(1)) is None


# ---- a stranger's look at a result


@pytest.fixture
def made(film: Film, source: Path) -> Path:
    target = source.with_name("filled.mp4")
    fill = SceneSettings(method="fill")
    anonymize_video(None, TrueDetector(film), source, target, scene=fill)
    return target


def test_a_filled_video_is_covered_and_the_source_is_exposed(
    film: Film, source: Path, made: Path
) -> None:
    report = verify_pair(source, made, TrueDetector(film))
    assert (report.frames, report.exposed, report.replaced) == (48, 0, 0)
    assert report.covered == report.faces > 80
    told = verify_pair(source, source, TrueDetector(film))
    assert told.exposed == told.faces == report.faces
    assert told.redetected == told.faces
    assert len(told.listed) == told.exposed
    assert told.listed[0].reason == "its pixels are those of the source"


def test_one_exposed_frame_is_found(
    film: Film, source: Path, made: Path, shown: Callable[[Path], list[np.ndarray]]
) -> None:
    pictures = shown(made)
    pictures[17] = shown(source)[17]
    pictures[30] = (shown(source)[30] * 0.6).astype(np.uint8)  # darker is not hidden
    leak = write_clip(source.with_name("leak.mp4"), pictures)
    report = verify_pair(source, leak, TrueDetector(film))
    assert {face.frame for face in report.listed} == {17, 30}
    assert report.exposed == len(film.known(17)) + len(film.known(30))
    assert "brightness" in {f.frame: f.reason for f in report.listed}[30]


def test_the_recognizer_has_a_word_where_it_knows(tmp_path: Path, film: Film, source: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", Film(seed=9).pictures())
    by_pixels = verify_pair(source, other, TrueDetector(film))
    assert by_pixels.exposed == 0
    assert by_pixels.recognizer is None
    strict = lf.Anonymizer.load(toy_bundle(tmp_path / "s", calibration={"verify.similarity": -2.0}))
    report = verify_pair(source, other, TrueDetector(film), strict)
    assert report.exposed == report.faces == by_pixels.faces
    assert "same person" in report.listed[0].reason
    blind = lf.Anonymizer.load(
        toy_bundle(tmp_path / "b", calibration={"verify.similarity": -2.0, "verify.face": 1e9})
    )
    report = verify_pair(source, other, TrueDetector(film), blind)
    assert report.exposed == 0
    assert report.unjudged == report.faces


def test_pictures_are_verified_too(tmp_path: Path) -> None:
    source, result = tmp_path / "a.png", tmp_path / "b.png"
    write_image(source, noise())
    write_image(result, filled())
    assert verify_pair(source, result, KnownFaces([FACE])).covered == 1
    assert verify_pair(source, source, KnownFaces([FACE])).exposed == 1
    write_image(result, noise()[:50], overwrite=True)
    with pytest.raises(ImageError, match="another size"):
        verify_pair(source, result, KnownFaces([FACE]))


def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, film: Film, source: Path
) -> None:
    short = write_clip(tmp_path / "short.mp4", list(film.pictures())[:20])
    with pytest.raises(VideoError, match="another number of frames"):
        verify_pair(source, short, TrueDetector(film))
    wide = write_clip(tmp_path / "wide.mp4", [p.repeat(2, axis=1) for p in film.pictures()])
    with pytest.raises(VideoError, match="another size"):
        verify_pair(source, wide, TrueDetector(film))


# ---- calm


@given(rows=st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=20))
def test_spread_is_the_deviation_from_the_mean(rows: list[list[float]]) -> None:
    spread = Spread()
    for row in rows:
        spread.add(np.array(row))
    values = np.array(rows)
    expected = np.sqrt(((values - values.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert spread.deviation == pytest.approx(expected, abs=1e-9)


def test_jitter_is_blind_for_even_motion_and_for_gaps() -> None:
    even, shaking, broken = Jitter(), Jitter(), Jitter()
    random = np.random.default_rng(0)
    for frame in range(30):
        points = np.arange(10).reshape(5, 2) + 3.0 * frame
        even.add(frame, points, 40)
        shaking.add(frame, points + random.normal(size=(5, 2)), 40)
        broken.add(2 * frame, points, 40)
    assert even.deviation == pytest.approx(0, abs=1e-12)
    assert shaking.deviation == pytest.approx(np.sqrt(6) / 40, rel=0.15)
    assert broken.deviation is None


def test_nothing_measured_is_said() -> None:
    assert Flicker().to_dict() is None
    flicker = Flicker()
    for vector in ([1.0, 0.0], [0.0, 1.0]):
        flicker.identity[1].add(np.array(vector))
    assert flicker.to_dict() == {
        "identity_source": None,
        "identity_result": 0.70711,
        "landmarks_source": None,
        "landmarks_result": None,
    }
