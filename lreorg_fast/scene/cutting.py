"""Faces out of whole pictures, each for itself: one that cannot be cut does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.errors import LReorgError
from lreorg_fast.scene.canvas import Canvas
from lreorg_fast.scene.faces import KnownFace

Place = Callable[[KnownFace], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Cut:
    """A face cut out: its square's corners (4, 2) in the picture, and (3, R, R) in [-1, 1]."""

    quad: NDArray[np.float64]
    image: Tensor


def cut_faces(
    canvas: Canvas, faces: Sequence[KnownFace], place: Place, size: int
) -> list[Cut | str]:
    """A cut per face, or the reason why there is none.

    ``place`` gives the corners of a face's square; it may raise an :class:`LReorgError`.
    """
    return [_cut(canvas, face, place, size) for face in faces]


def _cut(canvas: Canvas, face: KnownFace, place: Place, size: int) -> Cut | str:
    try:
        quad = place(face)
        return Cut(quad, canvas.cut(quad, size))
    except LReorgError as error:
        return str(error)
    except (ValueError, OSError, MemoryError) as error:  # of numpy and Pillow, at odd shapes
        return f"the face could not be cut out ({type(error).__name__})"
