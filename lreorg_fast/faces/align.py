"""The FFHQ alignment: the square around a face that StyleGAN's generators were trained on.

Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks"
(2019), appendix C, as published in NVlabs/ffhq-dataset and repeated by encoder4editing, pixel by
pixel. Coordinates are (x, y) in pixels, with a pixel's centre at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lreorg_fast.errors import ConfigError, ImageError
from lreorg_fast.faces.gaussian import gaussian_filter

MAX_SIZE = 8192
# Beyond the picture's border the face is filled up with a mirrored, blurred copy. Its largest size
# bounds memory at about 3 GB; a face of 4096 pixels, turned by 45 degrees, needs 82 million.
MAX_PADDED_PIXELS = 100_000_000

_MIN_FACE = 2.0  # pixels; below it the padding would have no width
_ROWS_AT_ONCE = 256

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

# Points of the 68 (Multi-PIE, dlib): [first, last) of the eyes, and the corners of the mouth.
_EYES_68 = ((36, 42), (42, 48))
_MOUTH_68 = (48, 54)
# The eyes and the corners of the mouth among the 5.
_EYES_5 = (0, 1)
_MOUTH_5 = (3, 4)


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face cut out of a picture.

    Attributes:
        image: ``(size, size, 3)`` uint8 RGB.
        quad: ``(4, 2)`` float64, the corners of the cut in the source: top left, bottom left,
            bottom right, top right as seen in ``image``.
        transform: ``(2, 3)`` float64; ``transform @ (x, y, 1)`` is where in the source the pixel
            (x, y) of ``image`` comes from. A face that is shrunk first (from about four times
            ``size``) comes from up to half a pixel of ``image`` beside it, as published.
    """

    image: Picture
    quad: Floats
    transform: Floats


def ffhq_quad(landmarks: ArrayLike) -> Floats:
    """The square of FFHQ around a face.

    Args:
        landmarks: (68, 2) points in the order of dlib; or (5, 2): the centres of the eyes, the
            nose, the corners of the mouth, each pair from left to right in an upright picture
            (insightface's order; the nose is not used). The centre of an eye among the 5 is not
            exactly the mean of its contour among the 68.

    Returns:
        (4, 2) float64 corners: top left, bottom left, bottom right, top right of the upright face.
        They may lie outside of the picture.

    Raises:
        ConfigError: another shape, NaN, infinity, or points that do not make a face, such as all
            in one place.
    """
    return _corners(*_centre_and_axes(_checked_landmarks(landmarks)))


def align(
    image: Picture | Image.Image,
    landmarks: ArrayLike,
    size: int,
    transform_size: int | None = None,
) -> AlignedFace:
    """Cut a face out, upright and of FFHQ's proportions.

    ``align(image, landmarks, 256)`` is what encoder4editing feeds to its encoder, and
    ``align(image, landmarks, 1024, transform_size=4096)`` is how FFHQ itself was made. Where the
    square reaches beyond the picture, it is filled up with a mirrored copy that fades into the
    median colour.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, or a PIL image of mode RGB.
        landmarks: in pixels of ``image``, as for :func:`ffhq_quad`.
        size: of the result, 1 to 8192 pixels.
        transform_size: the square is sampled at this size first (bilinear) and then reduced
            (Lanczos); at least ``size``, which is the default.

    Raises:
        ImageError: another kind of picture.
        ConfigError: landmarks as refused by :func:`ffhq_quad`; a face that is smaller than 2
            pixels, lies outside of the picture or would need too much padding; a size out of
            range.
    """
    picture = _checked_picture(image)
    transform_size = _checked_sizes(size, transform_size)
    return _cut(picture, *_centre_and_axes(_checked_landmarks(landmarks)), size, transform_size)


def align_square(image: Picture | Image.Image, quad: ArrayLike, size: int) -> AlignedFace:
    """Cut a square out as :func:`align` does that of FFHQ.

    Args:
        image: as for :func:`align`.
        quad: (4, 2) corners of a square in ``image``: top left, bottom left, bottom right, top
            right of the result.
        size: of the result, 1 to 8192 pixels.

    Raises:
        ImageError, ConfigError: as :func:`align`; corners that are not those of a square.
    """
    picture = _checked_picture(image)
    corners = np.asarray(quad, dtype=np.float64)
    if corners.shape != (4, 2) or not (np.abs(corners) < 1e9).all():
        raise ConfigError("the corners of a face must be (4, 2) finite pixels")
    right, down = (corners[3] - corners[0]) / 2, (corners[1] - corners[0]) / 2
    turned = np.array([-right[1], right[0]])
    if not np.allclose(down, turned, atol=1e-6 * max(1.0, float(np.abs(corners).max()))):
        raise ConfigError("the corners of a face are not those of a square; check their order")
    return _cut(picture, corners.mean(axis=0), right, turned, size, _checked_sizes(size, None))


def _cut(
    picture: Image.Image,
    centre: Floats,
    right: Floats,
    down: Floats,
    size: int,
    transform_size: int,
) -> AlignedFace:
    """The square around ``centre``; ``right`` and ``down`` are half its sides."""
    quad = _corners(centre, right, down)
    _check_position(quad, 2 * float(np.hypot(*right)), picture)
    region, moved = cut_region(picture, quad, 2 * float(np.hypot(*right)), size)
    made = region.transform(
        (transform_size, transform_size),
        Image.Transform.QUAD,
        tuple((moved + 0.5).flatten()),
        Image.Resampling.BILINEAR,
    )
    if size < transform_size:
        made = made.resize((size, size), Image.Resampling.LANCZOS)
    steps = np.stack([2 * right, 2 * down], axis=1) / size
    origin = quad[0] + steps.sum(axis=1) / 2
    return AlignedFace(np.array(made), quad, np.concatenate([steps, origin[:, None]], axis=1))


def cut_region(
    picture: Image.Image, quad: Floats, side: float, size: int
) -> tuple[Image.Image, Floats]:
    """The surroundings of ``quad``, reduced if it is large and filled up beyond the picture.

    Args:
        picture: RGB.
        quad: (4, 2) corners of a square with sides of ``side`` pixels.
        size: of the result of the alignment, which decides how far is reduced.

    Returns:
        The region, and ``quad`` in its coordinates.
    """
    shrink = int(np.floor(side / size * 0.5))
    if shrink > 1:
        width, height = (max(1, int(np.rint(float(n) / shrink))) for n in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        quad, side = quad / shrink, side / shrink
    border = max(int(np.rint(side * 0.1)), 3)
    left, top, right, bottom = _box(quad)
    box = (
        max(left - border, 0),
        max(top - border, 0),
        min(right + border, picture.size[0]),
        min(bottom + border, picture.size[1]),
    )
    picture = picture.crop(box)
    quad = quad - box[:2]
    left, top, right, bottom = _box(quad)
    pad = (
        max(border - left, 0),
        max(border - top, 0),
        max(right - picture.size[0] + border, 0),
        max(bottom - picture.size[1] + border, 0),
    )
    if max(pad) <= border - 4:
        return picture, quad
    least = int(np.rint(side * 0.3))
    pad = (max(pad[0], least), max(pad[1], least), max(pad[2], least), max(pad[3], least))
    return Image.fromarray(_padded(np.asarray(picture), pad, side * 0.02)), quad + pad[:2]


def _padded(picture: Picture, pad: tuple[int, int, int, int], sigma: float) -> Picture:
    """Mirrored at its edges by ``pad`` (left, top, right, bottom), blurred and faded there."""
    left, top, right, bottom = pad
    width, height = picture.shape[1] + left + right, picture.shape[0] + top + bottom
    if width * height > MAX_PADDED_PIXELS:
        raise ConfigError(
            f"the face would need a picture of {width} x {height} pixels, more than "
            f"{MAX_PADDED_PIXELS}; choose a smaller size"
        )
    margins = ((top, bottom), (left, right), (0, 0))
    padded = np.pad(picture, margins, "reflect").astype(np.float32)
    blurred = gaussian_filter(padded, sigma)
    for rows in _row_blocks(height):
        share = np.clip(_outsideness(rows, width, height, pad) * 3.0 + 1.0, 0.0, 1.0)
        padded[rows] += (blurred[rows] - padded[rows]) * share
    median = np.stack([np.median(padded[:, :, channel]) for channel in range(3)])
    made = np.empty(padded.shape, dtype=np.uint8)
    for rows in _row_blocks(height):
        share = np.clip(_outsideness(rows, width, height, pad), 0.0, 1.0)
        padded[rows] += (median - padded[rows]) * share
        made[rows] = np.clip(np.rint(padded[rows]), 0, 255)
    return made


def _outsideness(
    rows: slice, width: int, height: int, pad: tuple[int, int, int, int]
) -> NDArray[np.float64]:
    """(rows, width, 1): 1 at the outermost pixels, 0 where the picture begins, then negative."""
    left, top, right, bottom = pad
    y, x = np.ogrid[rows, :width]
    across = np.minimum(x / left, (width - 1 - x) / right)
    along = np.minimum(y / top, (height - 1 - y) / bottom)
    return np.asarray(np.maximum(1.0 - across, 1.0 - along))[:, :, None]


def _row_blocks(height: int) -> list[slice]:
    return [
        slice(start, min(start + _ROWS_AT_ONCE, height))
        for start in range(0, height, _ROWS_AT_ONCE)
    ]


def _box(quad: Floats) -> tuple[int, int, int, int]:
    """Whole pixels around the corners: left, top, right, bottom."""
    low, high = np.floor(quad.min(axis=0)), np.ceil(quad.max(axis=0))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _centre_and_axes(points: Floats) -> tuple[Floats, Floats, Floats]:
    """Centre of the square, and half its width and height as vectors."""
    if len(points) == 68:
        left_eye, right_eye = (points[start:stop].mean(axis=0) for start, stop in _EYES_68)
        mouth = (points[_MOUTH_68[0]] + points[_MOUTH_68[1]]) * 0.5
    else:
        left_eye, right_eye = points[_EYES_5[0]], points[_EYES_5[1]]
        mouth = (points[_MOUTH_5[0]] + points[_MOUTH_5[1]]) * 0.5
    eyes = (left_eye + right_eye) * 0.5
    between, down_to_mouth = right_eye - left_eye, mouth - eyes
    right = between - down_to_mouth[::-1] * [-1, 1]
    length = float(np.hypot(*right))
    half = max(float(np.hypot(*between)) * 2.0, float(np.hypot(*down_to_mouth)) * 1.8)
    # The direction of a face whose eyes and mouth cancel out is rounding error.
    if not (np.isfinite(half) and length > 1e-6 * half):
        raise ConfigError(
            "the landmarks do not make a face: eyes and mouth have no direction; check their order"
        )
    right = right / length
    right = right * half
    down = right[::-1] * [-1, 1]
    return eyes + down_to_mouth * 0.1, right, down


def _corners(centre: Floats, right: Floats, down: Floats) -> Floats:
    corners = [
        centre - right - down,
        centre - right + down,
        centre + right + down,
        centre + right - down,
    ]
    return np.stack(corners)


def _checked_landmarks(landmarks: ArrayLike) -> Floats:
    try:
        points = np.asarray(landmarks, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the landmarks are not numbers ({error}); give (68, 2) or (5, 2)") from (
            error
        )
    if points.shape not in ((68, 2), (5, 2)):
        raise ConfigError(
            f"the landmarks have the shape {points.shape}, but must be (68, 2) or (5, 2) points"
        )
    # Squares of coordinates must not overflow.
    if not (np.abs(points) < 1e9).all():
        raise ConfigError(
            "the landmarks hold NaN, infinity or coordinates beyond 1e9; the detection has failed"
        )
    return points


def _checked_picture(image: Picture | Image.Image) -> Image.Image:
    if isinstance(image, Image.Image):
        if image.mode != "RGB" or 0 in image.size:
            raise ImageError(
                f"the picture has mode {image.mode} and {image.size[0]} x {image.size[1]} pixels; "
                "convert it to RGB"
            )
        return image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"the picture is {kind}, but must be uint8 RGB (H, W, 3) or PIL")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(f"the picture has the shape {image.shape}, but must be (H, W, 3)")
    return Image.fromarray(np.ascontiguousarray(image))


def _checked_sizes(size: int, transform_size: int | None) -> int:
    if transform_size is None:
        transform_size = size
    if not 1 <= size <= transform_size <= MAX_SIZE:
        raise ConfigError(
            f"size {size} and transform_size {transform_size} must be between 1 and {MAX_SIZE}, "
            "and size the smaller one"
        )
    return transform_size


def _check_position(quad: Floats, side: float, picture: Image.Image) -> None:
    if side < _MIN_FACE:
        raise ConfigError(f"the face is {side:.2g} pixels wide and must have at least {_MIN_FACE}")
    if (quad.max(axis=0) <= 0).any() or (quad.min(axis=0) >= picture.size).any():
        raise ConfigError(
            f"the face lies outside of the picture of {picture.size[0]} x {picture.size[1]} "
            "pixels; are the landmarks those of another picture?"
        )
