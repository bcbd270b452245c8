"""Faces out of whole pictures, each for itself: one that cannot be cut does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import LReorgError
from lreorg_fast.faces.align import align_square
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene.faces import KnownFace


@dataclass(frozen=True, eq=False)
class Cut:
    """A face cut out: its square's corners (4, 2) in the picture, and (R, R, 3) uint8 pixels."""

    quad: NDArray[np.float64]
    image: Picture


Place = Callable[[KnownFace], NDArray[np.float64]]


def cut_faces(
    picture: Picture, faces: Sequence[KnownFace], place: Place, size: int
) -> list[Cut | str]:
    """A cut per face, or the reason why there is none.

    ``place`` gives the corners of a face's square; it may raise an :class:`LReorgError`.
    """
    return [_cut(picture, face, place, size) for face in faces]


def _cut(picture: Picture, face: KnownFace, place: Place, size: int) -> Cut | str:
    try:
        quad = place(face)
        return Cut(quad, align_square(picture, quad, size).image)
    except LReorgError as error:
        return str(error)
    except (ValueError, OSError, MemoryError) as error:  # of numpy and Pillow, at odd shapes
        return f"the face could not be cut out ({type(error).__name__})"
