"""Clips of avatars: the truth that is told about them is what can be seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lreorg_fast.avatars import (
    PATHS,
    AvatarClip,
    SceneConfig,
    landmarks,
    render,
    sample_avatars,
)
from lreorg_fast.errors import ConfigError

EVERYBODY = SceneConfig(frames=24, paths=tuple(PATHS))


def test_pupils_are_where_the_landmarks_say() -> None:
    """Pupils are black; off by 2% of the portrait there is none."""
    size = 256
    avatars = sample_avatars(20, torch.Generator().manual_seed(3)).with_attributes(expression=-0.3)
    pictures = render(avatars, size)
    points = (landmarks(avatars)[:, :2] * size).long()
    for picture, eyes in zip(pictures, points, strict=True):
        for x, y in eyes.tolist():
            assert float(picture[:, y - 2 : y + 3, x - 2 : x + 3].amin()) < 0.15


def test_the_points_have_the_order_of_detectors() -> None:
    left, right, nose, mouth_left, mouth_right = landmarks(
        sample_avatars(50, torch.Generator().manual_seed(1))
    ).unbind(dim=1)
    assert (left[:, 0] < nose[:, 0]).all()
    assert (right[:, 0] > nose[:, 0]).all()
    assert (mouth_left[:, 0] < mouth_right[:, 0]).all()
    assert (left[:, 1] < nose[:, 1]).all()
    assert (nose[:, 1] < mouth_right[:, 1]).all()


def test_a_frame_is_a_pure_function_of_its_number() -> None:
    first, second = AvatarClip(EVERYBODY), AvatarClip(EVERYBODY)
    list(first)
    assert np.array_equal(first.picture(7), second.picture(7))
    assert not np.array_equal(first.picture(7), first.picture(8))
    assert not np.array_equal(
        first.picture(7), AvatarClip(SceneConfig(frames=24, paths=tuple(PATHS), seed=1)).picture(7)
    )


def test_the_paths_hold_what_they_promise() -> None:
    clip = AvatarClip(EVERYBODY)
    seen = np.array([[face.visible for face in faces] for _, faces in clip])
    names = list(EVERYBODY.paths)
    behind, gone, border = (
        seen[:, names.index(name)]
        for name in ("crossing", "leaving and returning", "at the border")
    )
    assert behind.min() < 0.1  # hidden by the person in front, and back afterwards
    assert behind[0] == 1
    assert behind[-1] > 0.7
    assert gone[0] == gone[-1] == 1
    assert gone.min() == 0  # has left the picture
    assert 0.2 < border[0] < 0.8
    assert (seen[:, names.index("waiting")] == 1).all()


def test_boxes_hold_the_landmarks_and_move_with_the_portrait() -> None:
    clip = AvatarClip(EVERYBODY)
    for _, faces in clip:
        for face in faces:
            assert (face.landmarks > face.box[:2]).all()
            assert (face.landmarks < face.box[2:]).all()
    inside = clip.faces(0)[-1]
    x0, y0, x1, y1 = inside.box.round().astype(int)
    background = AvatarClip(SceneConfig(frames=24, paths=())).picture(0)
    changed = (clip.picture(0)[y0:y1, x0:x1] != background[y0:y1, x0:x1]).any(axis=2)
    assert changed.mean() > 0.95


@pytest.mark.parametrize(
    "wrong", [{"width": 4}, {"height": 9999}, {"size": 8}, {"frames": 0}, {"paths": ("up",)}]
)
def test_what_cannot_be_rendered_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SceneConfig(**wrong)
