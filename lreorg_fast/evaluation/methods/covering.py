"""What needs no network: something drawn over the face, in portraits and in whole pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageFilter

from lreorg_fast.faces.blending import (
    Layer,
    compose,
    draw_order,
    fill_layer,
    masks,
    pixelate_layer,
)
from lreorg_fast.faces.detection import Detection, Detector
from lreorg_fast.faces.regions import Shape, face_shape, head_shapes, window_of
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene.settings import DEFAULT_THRESHOLD

# One face: its shapes, and the longer side of its box in pixels.
Place = tuple[tuple[Shape, ...], float]
Finder = Callable[[Picture], Sequence[Place]]

GAUSSIAN_DEVIATION = 0.1  # of the box's longer side: imagenet-face-obfuscation, blurring.py
# deface 1.5: its mask is 0.3 larger on each side of the box, and cv2.blur takes half of that.
MEAN_SIDE = 1.6 / 2
# Where the face is in an aligned portrait, in shares of its side. The box is the middle one of
# 2,000 avatars; FFHQ's alignment puts eyes and mouth within 0.04 of these places as well. The
# ellipse around it (FACE_SCALE) holds the faces of all those avatars however they stand.
PORTRAIT_BOX = (0.146, 0.217, 0.855, 0.960)
PORTRAIT_LANDMARKS = ((0.377, 0.498), (0.623, 0.498), (0.5, 0.609), (0.41, 0.712), (0.59, 0.712))


def in_portrait(picture: Picture) -> list[Place]:
    """The face of an aligned portrait, without looking for it.

    Only the face and not the whole head, which is all of a portrait: of a picture in one colour
    nothing could be measured. Hair and background stay, as in published baselines.
    """
    height, width = picture.shape[:2]
    size = np.array([width, height], dtype=np.float64)
    box = (np.array(PORTRAIT_BOX).reshape(2, 2) * size).reshape(4)
    known = Detection(box, 1.0, np.array(PORTRAIT_LANDMARKS) * size)
    return [((face_shape(known),), _longer_side(known))]


def in_scene(detector: Detector) -> Finder:
    """Every head in a whole picture, as ``lreorg anonymize`` covers it."""

    def find(picture: Picture) -> list[Place]:
        found = detector(picture, DEFAULT_THRESHOLD)
        return [(head_shapes(found[i]), _longer_side(found[i])) for i in draw_order(found)]

    return find


def covered(name: str, picture: Picture, places: Sequence[Place]) -> Picture:
    """A copy of the picture (H, W, 3) uint8 with its faces covered; ``name`` as in METHODS."""
    draw = _DRAWN[name]
    return compose(picture, [draw(picture, shapes, side) for shapes, side in places])


def _fill(picture: Picture, shapes: Sequence[Shape], side: float) -> Layer:
    return fill_layer(picture, shapes)


def _pixelate(picture: Picture, shapes: Sequence[Shape], side: float) -> Layer:
    return pixelate_layer(picture, shapes)


def _gaussian(picture: Picture, shapes: Sequence[Shape], side: float) -> Layer:
    deviation = max(1.0, GAUSSIAN_DEVIATION * side)
    return _filtered(picture, shapes, ImageFilter.GaussianBlur(deviation), 4 * deviation)


def _mean(picture: Picture, shapes: Sequence[Shape], side: float) -> Layer:
    radius = max(1.0, MEAN_SIDE * side / 2)
    return _filtered(picture, shapes, ImageFilter.BoxBlur(radius), radius)


def _filtered(
    picture: Picture, shapes: Sequence[Shape], blur: ImageFilter.Filter, reach: float
) -> Layer:
    """The shapes as ``blur`` shows them, which looks ``reach`` pixels far, with a hard border."""
    window = window_of(shapes, picture.shape[1::-1])
    _, core = masks(shapes, window)
    if window.empty:
        return fill_layer(picture, shapes)
    margin = int(np.ceil(reach))
    left, top = max(0, window.left - margin), max(0, window.top - margin)
    around = picture[top : window.bottom + margin, left : window.right + margin]
    seen = np.asarray(Image.fromarray(np.ascontiguousarray(around)).filter(blur))
    height, width = core.shape
    inside = seen[window.top - top :, window.left - left :][:height, :width]
    return Layer(window, np.ascontiguousarray(inside), core.astype(np.float32), core)


_DRAWN: Mapping[str, Callable[[Picture, Sequence[Shape], float], Layer]] = {
    "blur": _gaussian,
    "blur-strong": _mean,
    "pixelate": _pixelate,
    "fill": _fill,
}


def _longer_side(detection: Detection) -> float:
    return float((detection.box[2:] - detection.box[:2]).max())
