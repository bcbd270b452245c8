"""Videos side by side: everybody is followed, and seen in both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stamped import Film, TrueDetector

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.evaluation.clips import track_pairs, with_surroundings
from lreorg_fast.evaluation.temporal import temporal
from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.pictures import Picture

WAITING = ("waiting", "crossing")


class Colours:
    """Takes the mean colour of the middle for who somebody is."""

    name, description, fingerprint = "colours", "the mean colour of the middle", "1"

    def embed(self, pictures: Sequence[Picture]) -> np.ndarray:
        rows = []
        for picture in pictures:
            side = len(picture)
            middle = picture[side // 3 : -side // 3, side // 3 : -side // 3].reshape(-1, 3)
            row = middle.mean(axis=0) - 127.5
            rows.append(row / np.linalg.norm(row))
        return np.array(rows)


@pytest.fixture(scope="module")
def film() -> Film:
    return Film(frames=24, paths=WAITING)


def painted(film: Film, flickers: bool) -> Film:
    """The same film with one colour over each face, or another one in every frame."""
    made = Film(frames=len(film), paths=WAITING)
    pictures = list(film.pictures())
    random = np.random.default_rng(1)
    for number, picture in enumerate(pictures):
        for face in film.known(number, least=0.0):
            (x0, y0), (x1, y1) = np.clip(face.box.reshape(2, 2), 0, (128, 88)).round().astype(int)
            colour = random.integers(0, 255, 3) if flickers else (200, 60, 60)
            picture[y0:y1, x0:x1] = colour
    made.pictures = lambda: iter(pictures)  # type: ignore[method-assign]
    return made


def flicker(film: Film, made: Film, folder: Path) -> dict[str, float]:
    source, result = film.write(folder / "in.mp4"), made.write(folder / "out.mp4")
    told: list[tuple[int, int]] = []
    pairs = track_pairs(
        source,
        result,
        TrueDetector(film),
        [Colours()],
        frames=20,
        progress=lambda *done: told.append(done),
    )
    assert told[-1] == (20, 20)
    assert len(pairs) == 2
    assert all(pair.frames.max() < 20 for pair in pairs)
    measured = temporal(pairs, SimpleNamespace(recognizers=(Colours(),)))  # type: ignore[arg-type]
    assert all(entry.figure is not None for entry in measured)
    return {entry.metric: entry.figure.value for entry in measured if entry.figure is not None}


def test_a_calm_result_and_one_with_a_new_face_in_every_frame(film: Film, tmp_path: Path) -> None:
    same = flicker(film, film, tmp_path)
    assert same["flicker_identity"] == pytest.approx(1, abs=0.05)
    wild = flicker(film, painted(film, flickers=True), tmp_path)
    assert wild["flicker_identity"] > 5
    calm = flicker(film, painted(film, flickers=False), tmp_path)
    assert calm["flicker_identity"] < 1


def test_who_is_not_found_in_the_result_has_no_landmarks_there(film: Film, tmp_path: Path) -> None:
    source = film.write(tmp_path / "in.mp4")
    calls: list[int] = []

    def first_only(number: int, found: list[Detection]) -> list[Detection]:
        calls.append(number)
        return found if len(calls) % 2 else []  # asked for the source, then for the result

    pairs = track_pairs(source, source, TrueDetector(film, first_only), [Colours()])
    assert pairs
    for pair in pairs:
        assert pair.source.found.all()
        assert not pair.result.found.any()
        assert np.isnan(pair.result.landmarks).all()


def test_what_does_not_belong_together_is_refused(film: Film, tmp_path: Path) -> None:
    source = film.write(tmp_path / "in.mp4")
    shorter = Film(frames=20, paths=WAITING).write(tmp_path / "short.mp4")
    text = tmp_path / "notes.txt"
    text.write_text("no video")
    look = TrueDetector(film)
    with pytest.raises(VideoError, match="another number of frames"):
        track_pairs(source, shorter, look, [Colours()])
    with pytest.raises(VideoError, match="is no video"):
        track_pairs(source, text, look, [Colours()])
    for frames in (0, 3_001):
        with pytest.raises(ConfigError, match="frames is"):
            track_pairs(source, source, look, [Colours()], frames=frames)


@pytest.mark.parametrize("corner", [(0, 0), (120, 0), (-30, 90), (60, 40)])
def test_surroundings_at_every_border(corner: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(1, 255, (96, 128, 3), dtype=np.uint8)
    low = np.array(corner, dtype=float)
    box = np.concatenate([low, low + 20])
    face = Detection(box, 0.9, low + np.array([[5, 5], [15, 5], [10, 10], [6, 15], [14, 15]]))
    made = with_surroundings(picture, face)
    assert made.shape == (60, 60, 3)
    for y, x in ((0, 0), (30, 30), (59, 59)):
        row, column = corner[1] - 20 + y, corner[0] - 20 + x
        inside = 0 <= row < 96 and 0 <= column < 128
        expected = picture[row, column] if inside else (0, 0, 0)
        assert tuple(made[y, x]) == tuple(expected)
