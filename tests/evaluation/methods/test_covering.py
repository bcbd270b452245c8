"""Covering methods: the region, the whole region and nothing but the region."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectors import KnownFaces, detection
from method_doubles import COVERING, FACES, covered_by
from PIL import Image, ImageFilter

from lreorg_fast.avatars import sample_people
from lreorg_fast.avatars.landmarks import face_boxes
from lreorg_fast.demo.figures import People
from lreorg_fast.evaluation.methods import make_method
from lreorg_fast.evaluation.methods.covering import in_portrait
from lreorg_fast.faces.regions import Window, head_shapes
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.scene import SceneAnonymizer, SceneSettings


@pytest.mark.parametrize("name", COVERING)
def test_only_the_face_of_a_portrait_changes(people: People, name: str) -> None:
    picture = people.probes[0]
    ((shapes, _),) = in_portrait(picture)
    inside = covered_by(shapes, picture)
    (made,) = make_method(name)([picture])
    assert made is not None
    assert (made[~inside] == picture[~inside]).all()
    changed = (made != picture).any(axis=2)[inside].mean()
    assert changed > 0.8
    assert 0.4 < inside.mean() < 0.75


def test_the_region_of_portraits_holds_every_avatars_face() -> None:
    avatars = sample_people(500, 2, torch.Generator().manual_seed(5))
    ((shapes, _),) = in_portrait(np.zeros((200, 200, 3), np.uint8))
    angles = np.linspace(0, 2 * np.pi, 60)
    for box in face_boxes(avatars).double().numpy()[::5] * 200:
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        rim = np.stack([np.cos(angles), np.sin(angles)], axis=1) * half + centre
        for x, y in rim:
            column, row = round(x), round(y)
            pixel = Window(column, row, column + 1, row + 1)
            assert shapes[0].radius(pixel)[0, 0] < 1.03


def test_fill_leaves_one_colour_and_mosaics_and_blurs_less_detail(people: People) -> None:
    picture = people.probes[3]
    inside = covered_by(in_portrait(picture)[0][0], picture)
    made = {name: make_method(name)([picture])[0] for name in COVERING}
    assert (made["fill"][inside] == FILL_COLOUR).all()  # type: ignore[index]

    def detail(image: Any) -> float:
        across = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)
        return float(across[inside[:, 1:] & inside[:, :-1]].mean())

    assert detail(made["blur"]) < 0.4 * detail(picture)
    assert detail(made["blur-strong"]) < 0.7 * detail(made["blur"])
    shown = made["pixelate"][inside]  # type: ignore[index]
    assert len(np.unique(shown, axis=0)) <= 64 < len(np.unique(picture[inside], axis=0))


def test_a_blur_is_as_strong_as_the_face_is_large(people: People) -> None:
    """Of a picture of twice the size it is the same picture in twice the size."""
    small = people.probes[1]
    large = np.repeat(np.repeat(small, 4, axis=0), 4, axis=1)
    for name in ("blur", "blur-strong"):
        method = make_method(name)
        (a,), (b,) = method([small]), method([large])
        assert a is not None
        assert b is not None
        centre = (slice(24, 48), slice(20, 44))
        means = b.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
        assert np.abs(means[centre] - a[centre]).max() < 12


def test_a_blur_looks_beyond_the_covered_pixels(photograph: Picture) -> None:
    """As if the whole picture were blurred and seen through the region."""
    face = FACES[1]
    deviation = 0.1 * float((face.box[2:] - face.box[:2]).max())
    whole = np.asarray(Image.fromarray(photograph).filter(ImageFilter.GaussianBlur(deviation)))
    (made,) = make_method("blur", None, KnownFaces([face]), faces="scene")([photograph])
    assert made is not None
    inside = covered_by(head_shapes(face), photograph)
    assert np.abs(made[inside].astype(int) - whole[inside]).max() <= 1


@pytest.mark.parametrize("name", COVERING)
def test_every_head_of_a_photograph_is_covered_and_nothing_else(
    photograph: Picture, name: str
) -> None:
    (made,) = make_method(name, None, KnownFaces(FACES), faces="scene")([photograph])
    assert made is not None
    inside = np.zeros(photograph.shape[:2], dtype=bool)
    for face in FACES:
        inside |= covered_by(head_shapes(face), photograph)
    assert (made[~inside] == photograph[~inside]).all()
    assert (made != photograph).any(axis=2)[inside].mean() > 0.95


@pytest.mark.parametrize("name", ["pixelate", "fill"])
def test_covered_photographs_are_those_of_lreorg_anonymize(photograph: Picture, name: Any) -> None:
    detector = KnownFaces(FACES)
    (made,) = make_method(name, None, detector, faces="scene")([photograph])
    wanted = SceneAnonymizer(None, detector, SceneSettings(method=name))(photograph)
    assert (made == wanted.image).all()


def test_a_face_at_the_border_and_a_tiny_one_are_covered() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for face in (detection(0, 0, 30), detection(49, 39, 12), detection(20, 20, 1)):
        for name in COVERING:
            (made,) = make_method(name, None, KnownFaces([face]), faces="scene")([picture])
            assert made is not None
            inside = covered_by(head_shapes(face), picture)
            assert (made != picture).any(axis=2)[inside].mean() > 0.7
            assert (made[~inside] == picture[~inside]).all()
