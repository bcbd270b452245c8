"""FFHQ's alignment: the published pixels exactly, geometry, and what must be refused."""

from __future__ import annotations

import json
import platform
from typing import Any

import numpy as np
import published
import pytest
from golden import DATA, arrays
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, ImageError
from lreorg_fast.faces.align import MAX_SIZE, cut_region
from lreorg_fast.faces.gaussian import gaussian_filter

GOLDEN = arrays("align")
CASES = {
    case["case"]: case
    for case in json.loads((DATA / "align.json").read_text())["cases"]
    if f"{case['case']}_lm" in GOLDEN
}
# An upright face of 5 points around (0, 0), whose square has sides of 4 times 20.
FIVE = np.array([[-10.0, 0], [10, 0], [0, 12], [-8, 20], [8, 20]])


def photo(case: str) -> NDArray[np.uint8]:
    made = published.photo(f"photo.{case}", *CASES[case]["image_hw"])
    assert isinstance(made, np.ndarray)
    return made


def sixty_eight(five: NDArray[np.float64]) -> NDArray[np.float64]:
    """68 points whose eyes are small hexagons around those of the 5, the others NaN-free noise."""
    points = np.random.default_rng(0).normal(size=(68, 2)) * 100
    angles = np.arange(6) * np.pi / 3
    hexagon = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points[36:42], points[42:48] = five[0] + hexagon, five[1] + hexagon
    points[48], points[54] = five[3], five[4]
    return points


# --- the published code -------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_quad_and_pixels_are_exactly_those_of_e4e(case: str) -> None:
    landmarks = GOLDEN[f"{case}_lm"]
    face = lf.faces.align(photo(case), landmarks, 256)
    np.testing.assert_array_equal(lf.faces.ffhq_quad(landmarks), GOLDEN[f"{case}_quad"])
    np.testing.assert_array_equal(face.quad, GOLDEN[f"{case}_quad"])
    np.testing.assert_array_equal(face.image, GOLDEN[f"{case}_e4e256"])


@pytest.mark.parametrize("case", CASES)
def test_the_region_is_exactly_that_of_e4e(case: str) -> None:
    quad = GOLDEN[f"{case}_quad"]
    side = float(np.hypot(*(quad[3] - quad[0])))
    assert side == CASES[case]["qsize"]
    region, moved = cut_region(Image.fromarray(photo(case)), quad, side, 256)
    assert list(region.size) == CASES[case]["shrunk_or_padded_size_before_transform"]
    np.testing.assert_array_equal((moved + 0.5).flatten(), GOLDEN[f"{case}_quad_to_transform"])


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_exactly_those_of_ffhq(case: str) -> None:
    face = lf.faces.align(photo(case), GOLDEN[f"{case}_lm"], 256, transform_size=1024)
    np.testing.assert_array_equal(face.image, GOLDEN[f"{case}_ffhq256_1024"])


@pytest.mark.parametrize("case", [case for case in CASES if f"{case}_ffhq1024_4096_crop" in GOLDEN])
def test_pixels_are_exactly_those_of_ffhq_at_full_size(case: str) -> None:
    image = lf.faces.align(photo(case), GOLDEN[f"{case}_lm"], 1024, transform_size=4096).image
    np.testing.assert_array_equal(image[480:608, 440:568], GOLDEN[f"{case}_ffhq1024_4096_crop"])
    np.testing.assert_array_equal(image[:96, :96], GOLDEN[f"{case}_ffhq1024_4096_corner"])


@pytest.mark.parametrize(
    ("shape", "sigma"),
    [((1, 1, 3), 4.0), ((7, 9, 3), 5.0), ((2, 90, 3), 0.1), ((130, 87, 3), 2.3), ((40, 900, 1), 9)],
)
def test_the_blur_is_scipys(shape: tuple[int, int, int], sigma: float) -> None:
    scipy_ndimage = pytest.importorskip("scipy.ndimage")
    picture = published.uniform("blur", shape, 0, 255)
    wanted = scipy_ndimage.gaussian_filter(picture, [sigma, sigma, 0])
    # Where a compiler fuses SciPy's multiply and add, a last bit may differ.
    last_bit = 0.0 if platform.machine() in ("x86_64", "AMD64") else 2e-7
    np.testing.assert_allclose(gaussian_filter(picture, sigma), wanted, rtol=last_bit)


# --- geometry -----------------------------------------------------------------------------


def test_the_quad_by_hand() -> None:
    quad = lf.faces.ffhq_quad(FIVE)
    # Eyes 20 apart, mouth 20 below: half a side is 2 x 20, the centre a tenth of the way down.
    np.testing.assert_allclose(quad, [[-40, -38], [-40, 42], [40, 42], [40, -38]], atol=1e-12)
    long_face = FIVE * [1, 1.5]
    assert lf.faces.ffhq_quad(long_face)[2, 0] == pytest.approx(1.8 * 30)


def test_five_and_sixty_eight_points_agree() -> None:
    np.testing.assert_allclose(
        lf.faces.ffhq_quad(FIVE), lf.faces.ffhq_quad(sixty_eight(FIVE)), atol=1e-12
    )
    nose_elsewhere = FIVE + np.eye(5)[:, [2]] * 50
    np.testing.assert_array_equal(lf.faces.ffhq_quad(FIVE), lf.faces.ffhq_quad(nose_elsewhere))


@given(
    seed=st.integers(0, 2**32 - 1),
    angle=st.floats(-np.pi, np.pi),
    scale=st.floats(0.01, 100),
    shift=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    five=st.booleans(),
)
def test_the_quad_moves_with_the_face_and_is_a_square(
    seed: int, angle: float, scale: float, shift: tuple[float, float], five: bool
) -> None:
    points = FIVE + np.random.default_rng(seed).normal(size=(5, 2)) * 2
    points = points if five else sixty_eight(points)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    quad = lf.faces.ffhq_quad(points)
    moved = lf.faces.ffhq_quad(points @ turn + shift)
    np.testing.assert_allclose(moved, quad @ turn + shift, atol=1e-9 * (scale * 100 + 1e4))
    sides = np.roll(quad, -1, axis=0) - quad
    np.testing.assert_allclose((sides * np.roll(sides, -1, axis=0)).sum(axis=1), 0, atol=1e-9)
    assert np.ptp(np.hypot(*sides.T)) < 1e-9


@pytest.mark.parametrize("angle", [0, 25, 90, 180])
def test_the_transform_says_where_each_pixel_comes_from(angle: float) -> None:
    """On two ramps bilinear sampling is exact, so colours are coordinates."""
    radians = np.deg2rad(angle)
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    x, y = np.meshgrid(np.arange(250), np.arange(250))
    ramps = np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)
    face = lf.faces.align(ramps, FIVE @ turn + 125, 64)
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    homogeneous = np.stack([columns, rows, np.ones_like(rows)])
    source = np.einsum("ij,jyx->yxi", face.transform, homogeneous)
    lost = source - face.image[:, :, :2]  # Pillow truncates to a byte
    assert lost.min() > -1e-4
    assert lost.max() < 1 + 1e-4
    corners = face.transform @ np.array(
        [[-0.5, -0.5, 63.5, 63.5], [-0.5, 63.5, 63.5, -0.5], [1] * 4]
    )
    np.testing.assert_allclose(corners.T, face.quad, atol=1e-9)


@given(shift=st.tuples(st.integers(0, 60), st.integers(0, 60)))
@settings(max_examples=10, deadline=None)
def test_a_shifted_picture_gives_the_same_face(shift: tuple[int, int]) -> None:
    picture = photo("A_front")
    landmarks = FIVE + 150
    moved = np.roll(picture, shift, axis=(1, 0))
    first = lf.faces.align(picture, landmarks, 48).image
    second = lf.faces.align(moved, landmarks + shift, 48).image
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("width", "padded"), [(169, False), (168, True)])
def test_padding_begins_where_the_margin_is_half_used_up(width: int, padded: bool) -> None:
    """Sides of 80 from 85 to 165, so a margin of 8, of which 4 may be missing."""
    quad = lf.faces.ffhq_quad(FIVE + 125)
    region, _ = cut_region(Image.new("RGB", (width, 300)), quad, 80.0, 64)
    inside = (min(165 + 8, width) - (85 - 8), (167 + 8) - (87 - 8))
    assert region.size == ((inside[0] + 48, inside[1] + 48) if padded else inside)


def test_what_lies_beyond_the_picture_is_filled_without_black() -> None:
    white = np.full((120, 100, 3), 255, dtype=np.uint8)
    for point in ([0, 0], [99, 0], [0, 119], [99, 119]):
        assert (lf.faces.align(white, FIVE + point, 32).image == 255).all()


def test_the_callers_arrays_are_left_alone() -> None:
    picture, landmarks = photo("C_border"), GOLDEN["C_border_lm"].copy()
    before = picture.copy()
    face = lf.faces.align(picture, landmarks, 64)
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(landmarks, GOLDEN["C_border_lm"])
    face.image[:] = 0  # its own memory, and writable


def test_pil_and_views_are_taken_as_they_are() -> None:
    picture = photo("A_front")
    wanted = lf.faces.align(picture, GOLDEN["A_front_lm"], 64).image
    pil = lf.faces.align(Image.fromarray(picture), GOLDEN["A_front_lm"], 64).image
    backward = np.ascontiguousarray(picture[:, :, ::-1])[:, :, ::-1]
    view = lf.faces.align(backward, GOLDEN["A_front_lm"].tolist(), 64).image
    np.testing.assert_array_equal(pil, wanted)
    np.testing.assert_array_equal(view, wanted)


# --- hostile input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.zeros((68, 2)), "do not make a face"),
        (np.full((5, 2), 7.0), "do not make a face"),
        # The mouth as far above the eyes as these are apart: no direction is up.
        (np.array([[-10.0, 0], [10, 0], [0, 0], [-1, -20], [1, -20]]), "do not make a face"),
        (np.full((5, 2), np.nan), "NaN, infinity"),
        (np.where(np.arange(136).reshape(68, 2) == 135, np.inf, 1.0), "NaN, infinity"),
        (FIVE * 1e300, "NaN, infinity"),
        (np.zeros((68, 3)), "shape"),
        (np.zeros((2, 68)), "shape"),
        (np.zeros((1, 5, 2)), "shape"),
        (np.zeros((0, 2)), "shape"),
        (None, "shape|not numbers"),
        ([["a", "b"]] * 5, "not numbers"),
        ([[1, 2], [3]], "not numbers"),
    ],
)
def test_landmarks_are_refused(landmarks: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lf.faces.ffhq_quad(landmarks)
    with pytest.raises(ConfigError, match=message):
        lf.faces.align(np.zeros((64, 64, 3), dtype=np.uint8), landmarks, 32)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64), dtype=np.uint8),
        np.zeros((64, 64, 4), dtype=np.uint8),
        np.zeros((3, 64, 64), dtype=np.uint8),
        np.zeros((0, 64, 3), dtype=np.uint8),
        np.zeros((64, 64, 3), dtype=np.float32),
        Image.new("L", (64, 64)),
        Image.new("RGBA", (64, 64)),
        Image.new("CMYK", (64, 64)),
        Image.new("RGB", (0, 64)),
        "picture.png",
    ],
)
def test_pictures_are_refused(image: Any) -> None:
    with pytest.raises(ImageError, match="the picture"):
        lf.faces.align(image, FIVE + 32, 32)


@pytest.mark.parametrize("sizes", [(0,), (-1,), (MAX_SIZE + 1,), (256, 128), (256, MAX_SIZE + 1)])
def test_sizes_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="must be between"):
        lf.faces.align(np.zeros((64, 64, 3), dtype=np.uint8), FIVE + 32, *sizes)


@pytest.mark.parametrize("shift", [(-500, 0), (500, 0), (0, 500), (0, -500), (1e8, 1e8)])
def test_a_face_outside_of_the_picture_is_refused(shift: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="outside of the picture"):
        lf.faces.align(np.zeros((64, 64, 3), dtype=np.uint8), FIVE + shift, 32)


def test_a_face_of_less_than_two_pixels_is_refused() -> None:
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    with pytest.raises(ConfigError, match="must have at least"):
        lf.faces.align(picture, FIVE / 41 + 32, 32)
    assert lf.faces.align(picture, FIVE / 39 + 32, 32).image.shape == (32, 32, 3)


def test_padding_that_would_not_fit_into_memory_is_refused_before_it_is_made() -> None:
    with pytest.raises(ConfigError, match="choose a smaller size"):
        lf.faces.align(np.zeros((64, 64, 3), dtype=np.uint8), FIVE * 190, 4096)


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    zoom=st.floats(0.1, 1e6),
    angle=st.floats(-np.pi, np.pi),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.sampled_from([1, 16, 33]),
)
@settings(max_examples=60, deadline=None)
def test_any_face_in_any_picture_comes_out_in_the_pictures_colours(
    width: int, height: int, zoom: float, angle: float, at: tuple[float, float], size: int
) -> None:
    """From a line of pixels to a face a million times larger: a result, and no new colours."""
    picture = published.uniform("any", (height, width, 3), 100, 151).astype(np.uint8)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    landmarks = FIVE @ turn * zoom + np.array(at) * (width, height)
    face = lf.faces.align(picture, landmarks, size)
    assert face.image.shape == (size, size, 3)
    # Lanczos may overshoot a little.
    assert face.image.min() >= 80
    assert face.image.max() <= 170
