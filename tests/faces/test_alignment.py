"""The square of a domain: found again under every similarity."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.avatars.landmarks import landmarks, mean_landmarks
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import sample_avatars
from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.faces import align, ffhq_quad
from lreorg_fast.faces.align import align_square
from lreorg_fast.faces.alignment import AVATAR_POINTS, Alignment
from lreorg_fast.weights import BundleManifest, Domain, open_bundle
from lreorg_fast.weights.manifest import manifest_from_json, manifest_to_json

AVATARS = Alignment.of_domain("avatars")
UNIT = np.array([[0.0, 0], [0, 1], [1, 1], [1, 0]])


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.5, 900), st.floats(-np.pi, np.pi))
def test_a_moved_template_gives_the_moved_square(
    x: float, y: float, size: float, turn: float
) -> None:
    matrix = size * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    moved = np.array(AVATAR_POINTS) @ matrix + (x, y)
    np.testing.assert_allclose(AVATARS.quad(moved), UNIT @ matrix + (x, y), atol=1e-8 * (1 + size))


def test_other_landmarks_give_the_nearest_square() -> None:
    """Compared with the least squares of numpy on the four unknowns of a similarity."""
    random = np.random.default_rng(0)
    points = np.array(AVATAR_POINTS)
    seen = points * 100 + random.normal(0, 3, (5, 2))
    rows = [[x, -y, 1, 0] for x, y in points] + [[y, x, 0, 1] for x, y in points]
    a, b, right, down = np.linalg.lstsq(np.array(rows), np.concatenate(seen.T), rcond=None)[0]
    expected = UNIT @ np.array([[a, b], [-b, a]]) + (right, down)
    np.testing.assert_allclose(AVATARS.quad(seen), expected, atol=1e-9)


def test_domains() -> None:
    assert Alignment.of_domain("ffhq") == Alignment()
    assert AVATARS.points == AVATAR_POINTS
    assert AVATARS.portrait
    own = Alignment.of_domain("cartoons", AVATAR_POINTS)
    assert own.points == AVATAR_POINTS
    assert not own.portrait
    face = np.array(AVATAR_POINTS) * 80
    np.testing.assert_array_equal(Alignment().quad(face), ffhq_quad(face))


@pytest.mark.parametrize("wrong", [np.zeros((5, 2)), np.ones((4, 2)), np.full((5, 2), np.nan)])
def test_no_face(wrong: np.ndarray) -> None:
    for alignment in (AVATARS, Alignment()):
        with pytest.raises(ConfigError):
            alignment.quad(wrong)


def test_cutting_by_corners_is_cutting_by_landmarks() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for points in (np.array(AVATAR_POINTS) * 60 + 30, np.array(AVATAR_POINTS) * 300 - 100):
        expected = align(picture, points, 48)
        made = align_square(picture, ffhq_quad(points), 48)
        # Corners are sums of the axes, so a sampling position moves by rounding.
        assert np.abs(made.image.astype(int) - expected.image).max() <= 1
        np.testing.assert_allclose(made.transform, expected.transform, atol=1e-9)


@pytest.mark.parametrize(
    "corners",
    [UNIT * 9 + [[1, 0], [0, 0], [0, 0], [0, 0]], UNIT[::-1] * 9, UNIT[:3], UNIT * np.nan],
)
def test_corners_that_are_no_square(corners: np.ndarray) -> None:
    with pytest.raises(ConfigError):
        align_square(np.zeros((20, 20, 3), dtype=np.uint8), corners, 8)


# ---- the demo's avatars


def test_the_template_is_the_mean_avatar() -> None:
    np.testing.assert_allclose(AVATAR_POINTS, mean_landmarks(), atol=1e-9)
    many = landmarks(sample_avatars(4000, torch.Generator().manual_seed(0)))
    # Smiles lift the corners of the mouth by 0.9% of the side on average.
    np.testing.assert_allclose(many.mean(0).numpy(), AVATAR_POINTS, atol=0.012)


def test_landmarks_are_where_the_renderer_draws() -> None:
    """The pupils are the darkest points of the eyes."""
    avatars = sample_avatars(20, torch.Generator().manual_seed(4)).with_attributes(
        glasses=0.0, length=0.0, makeup=0.0
    )
    size = 256
    pictures = render(avatars, size).mean(dim=1)
    places = landmarks(avatars) * size - 0.5
    for picture, points in zip(pictures, places, strict=True):
        for x, y in points[:2].round().int().tolist():
            assert picture[y - 3 : y + 4, x - 6 : x + 7].min() < 0.1


# ---- the manifest


def test_the_domain_of_a_manifest_takes_points() -> None:
    listed = [list(point) for point in AVATAR_POINTS]
    assert Domain("avatars", 64, "", listed).alignment == AVATAR_POINTS  # type: ignore[arg-type]
    assert Domain("avatars", 64).alignment is None


@pytest.mark.parametrize(
    "wrong", ["ffhq", [], [[0, 0]] * 5, [[0.1, 0.2]] * 4, [[0, 1, 2]] * 5, [[2, 0]] * 5, 7, [1] * 5]
)
def test_a_domain_with_other_points_is_refused(wrong: object) -> None:
    with pytest.raises(BundleError, match="five different points"):
        Domain("avatars", 64, "", wrong)  # type: ignore[arg-type]


def test_the_points_survive_the_manifest_and_may_be_missing() -> None:
    manifest = BundleManifest("b", "MIT", Domain("avatars", 64, "", AVATAR_POINTS))
    written = json.loads(json.dumps(manifest_to_json(manifest)))
    assert manifest_from_json(written).domain == manifest.domain
    del written["domain"]["alignment"]  # as before there was one
    assert manifest_from_json(written).domain.alignment is None
    demo = open_bundle("demo").manifest.domain
    assert Alignment.of_domain(demo.kind, demo.alignment) == AVATARS
