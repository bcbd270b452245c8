"""Sealed faces back into a whole picture, laid in as their new faces were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lreorg_fast.errors import LReorgError, SealError
from lreorg_fast.faces.alignment import Alignment
from lreorg_fast.faces.blending import draw_order
from lreorg_fast.media.pictures import Picture
from lreorg_fast.result import RecoveryKey
from lreorg_fast.scene.canvas import Canvas, DrawnLayer, canvas_of
from lreorg_fast.scene.reorganize import new_face_shapes
from lreorg_fast.scene.sealed import SealedCrop, SealedFeature

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer

OTHER_BUNDLE = (
    "the seal's features do not fit this bundle, or its places this picture; give the bundle that "
    "made the output"
)


def put_features_back(
    anonymizer: Anonymizer, picture: Picture, faces: Sequence[SealedFeature]
) -> Picture:
    """A copy of the picture in which the faces look as their key features say, approximately.

    Args:
        anonymizer: with the bundle that made the new faces.
        picture: (H, W, 3) uint8 RGB, as it was given out.
        faces: all that are known of it.

    Raises:
        SealError: features of another bundle, or places that are none of this picture.
    """
    canvas = canvas_of(picture)
    try:
        layers = [_layer(anonymizer, canvas, face) for face in faces]
    except (LReorgError, RuntimeError, ValueError) as error:
        raise SealError(OTHER_BUNDLE) from error
    order = draw_order([face.place.detection for face in faces])
    return np.asarray(canvas.composed([layers[i] for i in order]).image)


def put_crops_back(picture: Picture, faces: Sequence[SealedCrop]) -> Picture:
    """A copy of the picture with the original pixels; SealError if they do not lie in it."""
    made = np.array(picture)
    try:
        for face in faces:
            face.put_back(made)
    except ValueError as error:
        raise SealError("the seal opens, but is of another picture; it was made wrongly") from error
    return made


def _layer(anonymizer: Anonymizer, canvas: Canvas, face: SealedFeature) -> DrawnLayer:
    domain = anonymizer.bundle.manifest.domain
    alignment = Alignment.of_domain(domain.kind, domain.alignment)
    place, blending = face.place, face.blending
    cut = canvas.cut(place.quad, anonymizer.resolution)
    restored = anonymizer.restore_on_device(cut, RecoveryKey(face.features))
    shapes = new_face_shapes(place.detection, blending.feather, alignment, place.quad)
    # As the method "reorganize" does: a portrait brings its own background.
    matches = blending.colour_match and not alignment.portrait
    return canvas.paste(restored, place.quad, shapes, matches)
