"""Frames in torch against pictures in numpy: the same masks exactly, colours within rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectors import detection
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lreorg_fast.errors import ConfigError
from lreorg_fast.faces import blending, on_device
from lreorg_fast.faces.align import align_square
from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.regions import Shape, face_shape, head_shapes, tilt, window_of
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.pixels import to_bytes, to_tensor
from tolerances import tolerance

WIDTH, HEIGHT = 90, 70


def smooth(size: tuple[int, int], seed: int = 0) -> Picture:
    """Without detail finer than a few pixels: there resampling filters agree."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def frame_of(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def picture_of(frame: torch.Tensor) -> Picture:
    return frame.permute(1, 2, 0).numpy()


def square(face: Detection, scale: float = 1.2) -> np.ndarray:
    right = tilt(face) * face.size * scale
    down = np.array([-right[1], right[0]])
    centre = (face.box[:2] + face.box[2:]) / 2
    return np.stack(
        [centre - right - down, centre - right + down, centre + right + down, centre + right - down]
    )


@st.composite
def faces(draw: st.DrawFn) -> Detection:
    return detection(
        draw(st.floats(-30, WIDTH + 30)),
        draw(st.floats(-30, HEIGHT + 30)),
        draw(st.floats(3, 80)),
        turn=draw(st.floats(-np.pi, np.pi)),
    )


@settings(max_examples=100, deadline=None)
@given(faces(), st.floats(0, 0.6), st.sampled_from([2.0, 6.0, np.inf]))
def test_masks(face: Detection, feather: float, power: float) -> None:
    ellipse = face_shape(face, feather)
    other = Shape(ellipse.centre + 3, ellipse.right, ellipse.down, power, 1.2)
    shapes = [ellipse, other, *head_shapes(face)]
    window = window_of(shapes, (WIDTH, HEIGHT))
    alpha, core = blending.masks(shapes, window)
    made_alpha, made_core = on_device.masks(shapes, window, torch.device("cpu"))
    limit = tolerance("mask", "float32")
    np.testing.assert_allclose(made_alpha.numpy(), alpha, atol=limit)
    # A pixel within rounding of the border may fall on either side.
    assert (made_core.numpy() != core).sum() <= 0.001 * core.size + 1


def test_without_a_tie_masks_are_equal() -> None:
    face = detection(45.3, 35.1, 40.7, turn=0.23)
    window = window_of(head_shapes(face), (WIDTH, HEIGHT))
    _, core = blending.masks(head_shapes(face), window)
    assert (
        on_device.masks(head_shapes(face), window, torch.device("cpu"))[1].numpy() == core
    ).all()


@pytest.mark.parametrize("colour_match", [False, True])
@pytest.mark.parametrize("side", [12, 40, 64])
def test_paste_and_compose(side: int, colour_match: bool) -> None:
    """Enlarged, as it is, and reduced; two faces that overlap, one beyond the border."""
    picture = smooth((WIDTH, HEIGHT))
    known = [detection(30, 35, 24, turn=0.4), detection(80, 30, 40, turn=-0.2)]
    layers, tensors = [], []
    for i, face in enumerate(known):
        new = smooth((side, side), seed=i + 1)
        shapes = [face_shape(face, 0.3)]
        layers.append(blending.paste_layer(picture, new, square(face), shapes, colour_match))
        tensor = to_tensor([new])[0]
        tensors.append(
            on_device.paste_layer(frame_of(picture), tensor, square(face), shapes, colour_match)
        )
    made = picture_of(on_device.compose(frame_of(picture), tensors)).astype(int)
    expected = blending.compose(picture, layers).astype(int)
    apart = np.abs(made - expected)
    assert apart.max() <= tolerance("paste largest", "uint8")
    assert apart.mean() <= tolerance("paste mean", "uint8")
    assert (expected != picture).any()
    untouched = np.ones((HEIGHT, WIDTH), dtype=bool)
    for layer in layers:
        untouched[layer.window.slices] &= layer.alpha == 0
    assert (made[untouched] == picture[untouched]).all()


@pytest.mark.parametrize("make", ["fill_layer", "pixelate_layer"])
def test_covers(make: str) -> None:
    picture = smooth((WIDTH, HEIGHT))
    for face in (detection(45, 35, 30, turn=0.3), detection(2, 68, 50), detection(400, 400, 9)):
        layer = getattr(blending, make)(picture, head_shapes(face))
        tensor = getattr(on_device, make)(frame_of(picture), head_shapes(face))
        made = picture_of(on_device.compose(frame_of(picture), [tensor]))
        expected = blending.compose(picture, [layer])
        assert np.abs(made.astype(int) - expected).max() <= 1  # halves round to even in one


@pytest.mark.parametrize("size", [16, 48, 100])
@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_cut(size: int, turn: float) -> None:
    """Inside of the frame; beyond it the two fill up differently."""
    picture = smooth((400, 300))
    quad = square(detection(200, 150, 90, turn=turn), 0.8)
    expected = align_square(picture, quad, size).image
    made = to_bytes(on_device.cut_square(frame_of(picture), quad, size)).permute(1, 2, 0).numpy()
    apart = np.abs(made.astype(int) - expected)
    assert apart.max() <= tolerance("cut largest", "uint8")
    assert apart.mean() <= tolerance("cut mean", "uint8")


@settings(max_examples=60, deadline=None)
@given(faces())
def test_cut_at_the_border_gives_numbers_or_a_reason(face: Detection) -> None:
    frame, quad = frame_of(smooth((WIDTH, HEIGHT))), square(face)
    if (quad.max(axis=0) <= 0).any() or (quad.min(axis=0) >= (WIDTH, HEIGHT)).any():
        with pytest.raises(ConfigError, match="cannot be cut out"):
            on_device.cut_square(frame, quad, 24)
        return
    made = on_device.cut_square(frame, quad, 24)
    assert made.shape == (3, 24, 24)
    assert float(made.abs().max()) <= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(faces(), min_size=1, max_size=3))
def test_no_source_pixel_of_a_core_is_left(known: list[Detection]) -> None:
    frame = frame_of(np.random.default_rng(3).integers(0, 100, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    new = torch.full((3, 8, 8), 0.9)
    layers = []
    for i, face in enumerate(known):
        if i % 2:
            layers.append(on_device.fill_layer(frame, head_shapes(face)))
        else:
            shapes = [face_shape(face, 0.3)]
            layers.append(on_device.paste_layer(frame, new, square(face, 0.4), shapes))
    made = on_device.compose(frame, layers)
    for layer in layers:
        rows, columns = layer.window.slices
        assert (made[:, rows, columns][:, layer.core] >= 100).all()
