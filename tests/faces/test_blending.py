"""Masks and borders: what must be new is new, and what must not change does not."""

from __future__ import annotations

import numpy as np
import pytest
from detectors import detection
from hypothesis import given, settings
from hypothesis import strategies as st

from lreorg_fast.faces.blending import (
    Layer,
    compose,
    draw_order,
    fill_layer,
    paste_layer,
    pixelate_layer,
)
from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.regions import Shape, Window, face_shape, head_shapes, tilt, window_of
from lreorg_fast.media.pictures import FILL_COLOUR, Picture

WIDTH, HEIGHT = 60, 45


@st.composite
def faces(draw: st.DrawFn) -> Detection:
    """Anywhere, also far outside, from a pixel to larger than the picture, at any turn."""
    return detection(
        draw(st.floats(-40, WIDTH + 40)),
        draw(st.floats(-40, HEIGHT + 40)),
        draw(st.floats(0.5, 120)),
        turn=draw(st.floats(-np.pi, np.pi)),
    )


def noise(seed: int = 0) -> Picture:
    """No pixel of it has the fill colour, or that of :func:`new_face`."""
    random = np.random.default_rng(seed)
    return random.integers(0, 100, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def new_face(value: int = 200) -> Picture:
    return np.full((16, 16, 3), value, dtype=np.uint8)


def in_box(face: Detection) -> np.ndarray:
    """(H, W): pixels that the box touches, written without the code under test."""
    x0, y0, x1, y1 = face.box
    x, y = np.arange(WIDTH)[None, :], np.arange(HEIGHT)[:, None]
    return (x + 0.5 > x0) & (x - 0.5 < x1) & (y + 0.5 > y0) & (y - 0.5 < y1)


def quad_of(face: Detection, scale: float) -> np.ndarray:
    right = tilt(face) * face.size * scale
    down = np.array([-right[1], right[0]])
    centre = (face.box[:2] + face.box[2:]) / 2
    return np.stack(
        [centre - right - down, centre - right + down, centre + right + down, centre + right - down]
    )


@settings(max_examples=200, deadline=None)
@given(faces())
def test_fill_leaves_nothing_of_the_box(face: Detection) -> None:
    picture = noise()
    layer = fill_layer(picture, head_shapes(face))
    made = compose(picture, [layer])
    assert (made[in_box(face)] == FILL_COLOUR).all()
    changed = (made != picture).any(axis=2)
    mask = np.zeros(changed.shape, dtype=bool)
    mask[layer.window.slices] = layer.core
    assert (changed == mask).all()  # no pixel of the noise has the fill colour
    assert (picture == noise()).all()


@settings(max_examples=100, deadline=None)
@given(faces())
def test_pixelate_touches_the_head_only_and_all_of_it(face: Detection) -> None:
    picture = noise()
    layer = pixelate_layer(picture, head_shapes(face))
    made = compose(picture, [layer])
    outside = np.ones((HEIGHT, WIDTH), dtype=bool)
    outside[layer.window.slices] = ~layer.core
    assert (made[outside] == picture[outside]).all()
    assert layer.core[in_box(face)[layer.window.slices]].all()
    # A mosaic: blocks of at least 4 x 4 pixels, as far as they are inside.
    block = layer.pixels[:4, :4]
    assert block.size == 0 or (block == block[0, 0]).all()


@settings(max_examples=200, deadline=None)
@given(faces(), st.floats(0.2, 2.0), st.floats(0, 0.5), st.booleans())
def test_paste_covers_the_face_and_changes_nothing_else(
    face: Detection, scale: float, feather: float, colour_match: bool
) -> None:
    """Also where the new picture is smaller than the face: the rest is one colour."""
    picture, shape = noise(), face_shape(face, feather)
    layer = paste_layer(picture, new_face(), quad_of(face, scale), [shape], colour_match)
    made = compose(picture, [layer])
    everything = Window(0, 0, WIDTH, HEIGHT)
    radius = shape.radius(everything)
    core = radius <= 1
    assert not (made[core] == picture[core]).all(axis=1).any()
    assert (made[radius > shape.outer] == picture[radius > shape.outer]).all()
    if not colour_match:
        new = (made[core] == 200).all(axis=1) | (made[core] == FILL_COLOUR).all(axis=1)
        assert new.all()


@settings(max_examples=100, deadline=None)
@given(st.lists(faces(), min_size=2, max_size=4), st.data())
def test_no_source_pixel_of_any_face_whatever_overlaps(
    known: list[Detection], data: st.DataObject
) -> None:
    """Filled and replaced ones in one picture: cores are new, and the nearer face is whole."""
    picture = noise()
    layers = []
    order = draw_order(known)
    for i in order:
        if data.draw(st.booleans()):
            layers.append(fill_layer(picture, head_shapes(known[i])))
        else:
            quad = quad_of(known[i], 1.5)
            layers.append(
                paste_layer(picture, new_face(150 + i), quad, [face_shape(known[i], 0.4)])
            )
    made = compose(picture, layers)
    for layer in layers:
        inside = made[layer.window.slices][layer.core]
        assert (inside >= 100).all()
    nearest = layers[-1]
    drawn = made[nearest.window.slices]
    assert (drawn[nearest.core] == nearest.pixels[nearest.core]).all()
    touched = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for layer in layers:
        touched[layer.window.slices] |= layer.alpha > 0
    assert (made[~touched] == picture[~touched]).all()


def test_a_soft_border_stops_at_a_neighbour() -> None:
    """The crop of the nearer face shows its neighbour as it was: not a bit of that is pasted."""
    picture = np.zeros((50, 100, 3), dtype=np.uint8)
    far, near = detection(30, 25, 20), detection(62, 25, 36)
    shapes = face_shape(far), face_shape(near, 1.0)
    first = fill_layer(picture, [shapes[0]])
    second = paste_layer(picture, new_face(), quad_of(near, 2.0), [shapes[1]])
    made = compose(picture, [first, second])
    far_core = first.core
    assert (made[first.window.slices][far_core] == FILL_COLOUR).all()
    alone = compose(picture, [second])
    assert (alone[first.window.slices][far_core] != 0).any()  # it would have reached it


def test_order_is_by_size() -> None:
    assert draw_order([detection(0, 0, 9), detection(0, 0, 3), detection(5, 5, 9)]) == [1, 0, 2]


def test_the_new_face_is_where_its_quad_is() -> None:
    """A face picture with four colours, turned by a right angle."""
    face = np.zeros((8, 8, 3), dtype=np.uint8)
    face[:4, :4], face[:4, 4:], face[4:, :4], face[4:, 4:] = 50, 100, 150, 200
    quad = np.array([[39.5, -0.5], [-0.5, -0.5], [-0.5, 39.5], [39.5, 39.5]])
    shape = Shape(np.array([19.5, 19.5]), np.array([0.0, 20]), np.array([-20.0, 0]), np.inf)
    made = compose(
        np.zeros((40, 40, 3), np.uint8),
        [paste_layer(np.zeros((40, 40, 3), np.uint8), face, quad, [shape])],
    )
    corners = made[[5, 5, 35, 35], [5, 35, 5, 35], 0]
    assert corners.tolist() == [150, 50, 200, 100]


def test_colours_are_matched_within_limits() -> None:
    picture = np.full((80, 80, 3), 120, dtype=np.uint8)
    face = detection(40, 40, 30)
    shape = face_shape(face, 0.5)

    def centre(value: int, match: bool) -> int:
        layer = paste_layer(picture, new_face(value), quad_of(face, 2.0), [shape], match)
        return int(compose(picture, [layer])[40, 40, 0])

    assert centre(110, False) == 110
    assert centre(110, True) == 120
    assert centre(10, True) == 36  # another picture, not another light


@pytest.mark.parametrize("power", [2.0, 6.0, np.inf])
def test_shapes(power: float) -> None:
    shape = Shape(np.array([20.0, 10.0]), np.array([8.0, 0.0]), np.array([0.0, 4.0]), power, 1.5)
    window = window_of([shape], (100, 100))
    assert window == Window(8, 4, 33, 17)
    radius = shape.radius(window)
    assert radius[10 - window.top, 28 - window.left] == pytest.approx(1)
    assert radius[14 - window.top, 20 - window.left] == pytest.approx(1)
    assert radius[10 - window.top, 20 - window.left] == 0
    corner = radius[14 - window.top, 28 - window.left]
    assert corner == pytest.approx(2 ** (1 / power) if np.isfinite(power) else 1)
    assert window_of([shape], (5, 5)).empty


@pytest.mark.parametrize("turn", [0.0, 0.4, -1.2, np.pi / 2, np.pi])
def test_the_head_turns_with_the_landmarks(turn: float) -> None:
    face = detection(30, 30, 20, turn=turn)
    np.testing.assert_allclose(tilt(face), [np.cos(turn), np.sin(turn)], atol=1e-6)
    head = head_shapes(face)[0]
    above = head.centre - (30, 30)
    assert above @ np.array([np.sin(turn), -np.cos(turn)]) > 0  # more room above than below


def test_landmarks_in_one_point_give_an_upright_head() -> None:
    face = Detection(np.array([0.0, 0, 20, 24]), 0.5, np.full((5, 2), 10.0))
    assert tilt(face).tolist() == [1, 0]


def test_layers_are_data() -> None:
    empty = Layer(Window(0, 0, 0, 0), np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0)), np.zeros(0))
    assert (compose(noise(), [empty]) == noise()).all()
