"""Finding faces of any size: a network that was told, and the real one on a photograph."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from detectors import detection
from PIL import Image

from lreorg_fast.errors import ConfigError
from lreorg_fast.faces import Detection, load_detector
from lreorg_fast.faces.decoders import Candidates
from lreorg_fast.faces.detection import Detector, merged, overlap
from lreorg_fast.faces.pyramid import _MAX_TILE_PIXELS, PyramidDetector
from lreorg_fast.media.pictures import Picture


class Squares:
    """A network that finds bright squares of 16 to 60 pixels, whole ones in the tile only."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self.size = size
        self.tiles: list[tuple[int, int]] = []

    def __call__(self, tile: Picture, threshold: float) -> Candidates:
        self.tiles.append(tile.shape[:2])
        bright = tile[:, :, 0] > 127
        boxes = []
        for label in range(1, int(tile[:, :, 1].max()) + 1):  # green numbers the squares
            rows, columns = np.nonzero(bright & (tile[:, :, 1] == label))
            if len(rows) == 0:
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            cut = 0 in box[:2] or box[2] == tile.shape[1] or box[3] == tile.shape[0]
            if 16 <= box[2] - box[0] <= 60 and not cut:
                boxes.append(box)
        array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        middle = (array[:, None, :2] + array[:, None, 2:]) / 2
        steps = np.linspace(-0.2, 0.2, 5)[None, :, None]
        points = middle + steps * (array[:, None, 2:] - array[:, None, :2])
        return Candidates(array, np.full(len(array), 0.7), points)


def squares(
    height: int, width: int, places: list[tuple[int, int, int]]
) -> tuple[Picture, list[np.ndarray]]:
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for label, (x, y, side) in enumerate(places, 1):
        picture[y : y + side, x : x + side] = (255, label, 0)
    return picture, [np.array([x, y, x + side, y + side]) for x, y, side in places]


@pytest.mark.parametrize("fixed", [None, (320, 320)])
def test_faces_of_every_size_in_a_large_picture(fixed: tuple[int, int] | None) -> None:
    """Among them on the borders of tiles, and one as large as the picture is high."""
    places = [(1000, 1000, 30), (10, 10, 20), (2950, 1950, 40), (1010, 400, 150), (1200, 20, 1400)]
    picture, boxes = squares(2000, 3000, places)
    network = Squares(fixed)
    # Exactly numbered colours do not survive a reduction, so levels are made by leaving out.
    found = _PickedDetector(network)(picture, 0.5)
    assert len(found) == len(places)
    for box in boxes:
        best = max(overlap(box.astype(float), face.box) for face in found)
        assert best > 0.8
    assert max(h * w for h, w in network.tiles) <= (
        fixed[0] * fixed[1] if fixed else _MAX_TILE_PIXELS
    )
    if fixed is None:
        assert all(h % 32 == 0 and w % 32 == 0 for h, w in network.tiles)
    else:
        assert set(network.tiles) == {fixed}


class _PickedDetector(PyramidDetector):
    def _levels(self, picture):  # type: ignore[no-untyped-def]
        for step in range(6):
            yield np.ascontiguousarray(picture[:: 2**step, :: 2**step])


def test_levels_halve_down_to_a_small_picture() -> None:
    network = Squares()
    PyramidDetector(network, per_halving=1)(np.zeros((600, 800, 3), dtype=np.uint8), 0.5)
    assert network.tiles == [(608, 800), (320, 416), (160, 224), (96, 128)]
    network.tiles.clear()
    PyramidDetector(network, 200, 1)(np.zeros((600, 800, 3), dtype=np.uint8), 0.5)
    assert network.tiles == [(160, 224), (96, 128)]
    network.tiles.clear()
    PyramidDetector(network)(np.zeros((96, 96, 3), dtype=np.uint8), 0.5)
    assert network.tiles == [(192, 192), (160, 160), (96, 96)]  # a small one is enlarged


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (33, 7)])
def test_pictures_of_odd_shapes(size: tuple[int, int]) -> None:
    assert PyramidDetector(Squares())(np.zeros((*size, 3), dtype=np.uint8), 0.5) == []


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        PyramidDetector(Squares())(np.zeros((9, 9, 3), dtype=np.uint8), threshold)
    with pytest.raises(ConfigError, match="per_halving"):
        PyramidDetector(Squares(), per_halving=0)
    with pytest.raises(ConfigError, match="longest_side"):
        PyramidDetector(Squares(), 63)


def test_one_face_at_two_scales_is_one() -> None:
    small, large = detection(100, 100, 40, 0.6), detection(101, 101, 60, 0.9)
    neighbour, behind = detection(160, 100, 40, 0.5), detection(100, 100, 8, 0.4)
    assert merged([small, neighbour, large, behind]) == [large, neighbour, behind]
    assert merged([]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"box": [0, 0, 1]},
        {"box": [0, 0, 0, 5]},
        {"box": [5, 0, 1, 5]},
        {"box": [0, 0, np.nan, 5]},
        {"box": [0, 0, np.inf, 5]},
        {"landmarks": np.full((5, 2), np.nan)},
        {"landmarks": np.zeros((4, 2))},
        {"score": 1.1},
        {"score": float("nan")},
    ],
)
def test_what_is_no_detection(change: dict[str, object]) -> None:
    good = {"box": [0, 0, 4, 5], "score": 0.5, "landmarks": np.ones((5, 2))}
    Detection(**good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Detection(**{**good, **change})  # type: ignore[arg-type]


# ---- the real detector


@pytest.fixture(scope="module")
def centerface() -> Detector:
    return load_detector(threads=1)


@pytest.fixture(scope="module")
def astronaut() -> Picture:
    return np.asarray(skimage.data.astronaut())


EYES = np.array([[204.0, 102.0], [247.0, 104.0]])  # looked at


def test_the_astronaut(centerface: Detector, astronaut: Picture) -> None:
    (face,) = centerface(astronaut, 0.5)
    assert face.score > 0.9
    np.testing.assert_allclose(face.landmarks[:2], EYES, atol=4)
    assert (face.landmarks[3:, 1] > face.landmarks[2, 1]).all()  # the mouth is below the nose
    assert face.landmarks[3, 0] < face.landmarks[4, 0]


@pytest.mark.parametrize("scale", [0.07, 0.25, 2.0])
def test_the_astronaut_at_other_sizes(
    centerface: Detector, astronaut: Picture, scale: float
) -> None:
    """From a face of 8 pixels to one of 240."""
    side = round(512 * scale)
    picture = np.asarray(Image.fromarray(astronaut).resize((side, side), Image.Resampling.BOX))
    face = centerface(picture, 0.15)[0]
    np.testing.assert_allclose(face.landmarks[:2] / scale, EYES, atol=max(6, 1 / scale))


def test_a_small_face_in_a_large_picture(centerface: Detector, astronaut: Picture) -> None:
    small = np.asarray(Image.fromarray(astronaut).resize((80, 80), Image.Resampling.BOX))
    picture = np.full((700, 1300, 3), 90, dtype=np.uint8)
    picture[600:680, 1100:1180] = small
    face = centerface(picture, 0.3)[0]
    np.testing.assert_allclose(face.landmarks[0], (1100, 600) + EYES[0] * 80 / 512, atol=3)


def test_a_cat_is_nobody(centerface: Detector) -> None:
    assert centerface(np.asarray(skimage.data.chelsea()), 0.15) == []
