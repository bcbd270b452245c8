"""Where the five points of a portrait are: the renderer's geometry, solved for the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from lreorg_fast.avatars.renderer import ZOOM
from lreorg_fast.avatars.traits import IDENTITY_TRAITS, Avatars

# The box of a face in head coordinates, for everybody: from the hair line to below the chin and
# from ear to ear of the widest head; what detectors of faces mark.
_BOX = (-0.56, -0.46, 0.56, 0.72)


def landmarks(avatars: Avatars) -> Tensor:
    """Left eye, right eye, nose tip, mouth corners as seen: ``(N, 5, 2)`` x, y in [0, 1] of the
    portrait's side; float32."""
    who = {name: avatars.identity[:, i] for i, name in enumerate(IDENTITY_TRAITS)}
    n = avatars.nuisance
    smile, sad = (sign * avatars.attributes["expression"] for sign in (1, -1))
    eye_x = 0.205 + 0.030 * who["eye_distance"]
    eye_y = -0.02 + 0.03 * who["eye_height"]
    nose = 0.165 + 0.035 * who["nose_length"]
    mouth_x = 0.150 + 0.022 * who["mouth_width"]
    mouth_x = mouth_x * (1 + 0.28 * smile.clamp(min=0) - 0.08 * sad.clamp(min=0))
    mouth_y = 0.335 + 0.035 * who["mouth_height"]
    x = torch.stack([-eye_x, eye_x, torch.zeros_like(nose), -mouth_x, mouth_x], dim=1)
    y = torch.stack([eye_y, eye_y, nose, mouth_y, mouth_y], dim=1)
    return _seen(avatars, x + 0.07 * n[:, 4:5], y + 0.015 * n[:, 5:6])


def face_boxes(avatars: Avatars) -> Tensor:
    """Boxes ``(N, 4)`` x0, y0, x1, y1 of the faces in [0, 1] of the portrait's side; float32."""
    x0, y0, x1, y1 = _BOX
    corners = torch.tensor([[x0, y0], [x1, y0], [x0, y1], [x1, y1]])
    points = _seen(avatars, *(corners[:, i].expand(len(avatars), 4) for i in range(2)))
    return torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)


def _seen(avatars: Avatars, x: Tensor, y: Tensor) -> Tensor:
    """Head coordinates ``(N, P)`` to the portrait, as the renderer moves, turns and scales it."""
    n = avatars.nuisance
    scale = ZOOM / (1.0 + 0.05 * n[:, 0:1])
    cosine, sine = torch.cos(0.10 * n[:, 3:4]), torch.sin(0.10 * n[:, 3:4])
    moved_x = (cosine * x - sine * y) / scale + 0.04 * n[:, 1:2]
    moved_y = (sine * x + cosine * y) / scale + 0.02 + 0.04 * n[:, 2:3]
    return (torch.stack([moved_x, moved_y], dim=2) + 1) / 2
