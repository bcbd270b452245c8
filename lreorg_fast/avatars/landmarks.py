"""Where the features of an avatar are: shared by the renderer, which draws them there, and by
alignment, which looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lreorg_fast.avatars.traits import IDENTITY_TRAITS, NUISANCE_DIM, Avatars

ZOOM = 0.83
_BOX = (-0.56, -0.46, 0.56, 0.72)  # of a face, in head coordinates, wide enough for everybody


class Pose(NamedTuple):
    """From the frame, [-1, 1] on both sides, to the coordinates of the head and of the face."""

    scale: Tensor
    shift: tuple[Tensor, Tensor]
    rotation: tuple[Tensor, Tensor]  # cosine, sine
    face: tuple[Tensor, Tensor]  # where the face is on the head


class Features(NamedTuple):
    """In the coordinates of the face: what the renderer and the landmarks agree on."""

    eye_x: Tensor
    eye_y: Tensor
    nose_y: Tensor
    mouth_width: Tensor
    mouth_y: Tensor
    mouth_bend: Tensor  # curvature of the line of the mouth


def pose(noise: list[Tensor]) -> Pose:
    """``noise``: the nuisance values, one tensor each."""
    return Pose(
        ZOOM / (1.0 + 0.05 * noise[0]),
        (0.04 * noise[1], 0.04 * noise[2]),
        (torch.cos(0.10 * noise[3]), torch.sin(0.10 * noise[3])),
        (0.07 * noise[4], 0.015 * noise[5]),
    )


def features(who: Mapping[str, Tensor], smile: Tensor, sad: Tensor) -> Features:
    """``who``: identity traits by name; ``smile`` and ``sad`` in [0, 1]."""
    width = (0.150 + 0.022 * who["mouth_width"]) * (1 + 0.28 * smile - 0.08 * sad)
    return Features(
        0.205 + 0.030 * who["eye_distance"],
        -0.02 + 0.03 * who["eye_height"],
        0.165 + 0.035 * who["nose_length"],
        width,
        0.335 + 0.035 * who["mouth_height"],
        (2.6 * smile - 2.8 * sad) * width.square(),
    )


def landmarks(avatars: Avatars) -> Tensor:
    """``(N, 5, 2)`` float32: eyes, tip of the nose, corners of the mouth, each pair from left to
    right, as (x, y) shares of the portrait's side. Times ``size`` less 0.5 they are pixels."""
    who = {name: avatars.identity[:, i] for i, name in enumerate(IDENTITY_TRAITS)}
    noise = [avatars.nuisance[:, i] for i in range(NUISANCE_DIM)]
    mood = avatars.attributes["expression"]
    smile, sad = mood.clamp(min=0), (-mood).clamp(min=0)
    at, found = pose(noise), features(who, smile, sad)
    zero = torch.zeros_like(mood)
    corner_y = found.mouth_y + 0.02 * smile - found.mouth_bend * (1 - 0.35)
    x = torch.stack([-found.eye_x, found.eye_x, zero, -found.mouth_width, found.mouth_width], dim=1)
    y = torch.stack([found.eye_y, found.eye_y, found.nose_y, corner_y, corner_y], dim=1)
    face_x, face_y = (offset[:, None] for offset in at.face)
    return _seen(at, x + face_x, y + face_y)


def face_boxes(avatars: Avatars) -> Tensor:
    """``(N, 4)`` float32 x0, y0, x1, y1: what detectors of faces mark, from the hair line to below
    the chin and from ear to ear, in the units of :func:`landmarks`."""
    at = pose([avatars.nuisance[:, i] for i in range(NUISANCE_DIM)])
    x0, y0, x1, y1 = _BOX
    corners = torch.tensor([[x0, y0], [x1, y0], [x0, y1], [x1, y1]])
    points = _seen(at, *(corners[:, i].expand(len(avatars), 4) for i in range(2)))
    return torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)


def _seen(at: Pose, x: Tensor, y: Tensor) -> Tensor:
    """Head coordinates ``(N, P)`` to shares of the portrait, ``(N, P, 2)``."""
    x, y = x / at.scale[:, None], y / at.scale[:, None]
    cosine, sine = (part[:, None] for part in at.rotation)
    frame_x = cosine * x - sine * y + at.shift[0][:, None]
    frame_y = sine * x + cosine * y + 0.02 + at.shift[1][:, None]
    return (torch.stack([frame_x, frame_y], dim=2) + 1) / 2


def mean_landmarks() -> list[list[float]]:
    """(5, 2): of avatars whose traits and circumstances are all in the middle."""
    middle = torch.zeros(1, len(IDENTITY_TRAITS))
    plain = {"expression": torch.zeros(1)}
    found = landmarks(Avatars(middle, plain, torch.zeros(1, NUISANCE_DIM)))[0]
    return [[round(float(value), 5) for value in point] for point in found]
