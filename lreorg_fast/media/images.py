"""Pictures in and out: hostile bytes are refused before they are decoded, metadata never leaves.

Reading decides by the content of a file, never by its name. Writing starts from raw pixels, so
nothing that the source carried beside them (EXIF, GPS, XMP, comments, colour profile, and above
all the thumbnail, which is the original face) can survive.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from lreorg_fast.errors import ImageError, OutputError
from lreorg_fast.files import atomic_file

MAX_PIXELS = 40_000_000

# What is written for each suffix. The sub-sampling of JPEG's and WebP's colour planes is the
# first thing one sees on lips and eyes, so it is off.
ENCODERS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95, "use_sharp_yuv": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_FORMAT_NAMES = "PNG, JPEG, WebP, BMP or single-page TIFF"

# No encoding of a picture is larger than 8 bytes per pixel plus this.
_CONTAINER_BYTES = 16 * 2**20
_TIFF_TILE_SIZE = (322, 323)


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read one still picture as it should be seen.

    Accepted: PNG, JPEG, WebP, BMP and TIFF with exactly one frame. The orientation tag is
    applied. Gray, bilevel and palette pictures become RGB; 16-bit samples are rounded to 8 bits;
    transparent pixels are laid over white (what hides under them is dropped). CMYK, Lab, 32-bit
    and floating-point pictures are refused, because their way to RGB depends on a profile or a
    range that the file need not state. Colour profiles are not applied.

    Args:
        path: the file. Its name decides nothing.
        max_pixels: largest width x height, checked on the header before anything is decoded.

    Returns:
        (height, width, 3) uint8 array, RGB.

    Raises:
        ImageError: missing, unreadable, not a picture of these formats, damaged, truncated,
            animated or too large. Truncated pictures are never filled up.
    """
    source = Path(path)
    with _open_regular(source) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            raise ImageError(f"'{source}' is empty; copy it again from its source")
        if size > 8 * max_pixels + _CONTAINER_BYTES:
            raise ImageError(
                f"'{source}' has {size} bytes, more than a picture of {max_pixels} pixels can "
                "need; raise max_pixels if it is trusted"
            )
        return _decode(stream, source, max_pixels)


def write_image(
    path: str | os.PathLike[str], array: NDArray[np.uint8], overwrite: bool = False
) -> None:
    """Write ``array`` and nothing else; the file appears whole or not at all.

    Args:
        path: target; its suffix decides the format (.png .jpg .jpeg .webp .bmp .tif .tiff).
            JPEG and WebP are written at quality 95.
        array: (height, width, 3) uint8, RGB.
        overwrite: replace an existing file (a symbolic link is replaced, not followed).

    Raises:
        ImageError: the array is not such a picture.
        OutputError: unknown suffix, existing file, missing or unwritable folder, or a picture
            too large for the format.
    """
    target = Path(path)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"cannot write an array of shape {array.shape} and type {array.dtype} as a picture; "
            "give (height, width, 3) uint8"
        )
    encoder = ENCODERS.get(target.suffix.lower())
    if encoder is None:
        raise OutputError(
            f"cannot write '{target}': the suffix '{target.suffix}' is not one of "
            f"{', '.join(ENCODERS)}"
        )
    format_name, options = encoder
    encoded = BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(array)).save(encoded, format_name, **options)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"cannot write '{target}': {array.shape[1]} x {array.shape[0]} pixels do not fit "
            f"into {format_name} ({error}); choose another suffix"
        ) from error
    with atomic_file(target, overwrite) as stream:
        stream.write(encoded.getbuffer())


class _WholeFilesOnly:
    """Switch off Pillow's filling of truncated files, which many training scripts switch on.

    The switch is global, so the threads that read at the same time share one change of it.
    """

    _lock = threading.Lock()
    _readers = 0
    _before = False

    def __enter__(self) -> None:
        kind = type(self)
        with kind._lock:
            if kind._readers == 0:
                kind._before = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            kind._readers += 1

    def __exit__(self, *_: object) -> None:
        kind = type(self)
        with kind._lock:
            kind._readers -= 1
            if kind._readers == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = kind._before


def _open_regular(source: Path) -> BinaryIO:
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer for ever.
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read '{source}': {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError(f"cannot read '{source}': it is not a regular file; name a picture")
    return os.fdopen(descriptor, "rb")


def _decode(stream: BinaryIO, source: Path, max_pixels: int) -> NDArray[np.uint8]:
    try:
        with _WholeFilesOnly(), Image.open(stream, formats=FORMATS) as image:
            _check_header(image, source, max_pixels)
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright, source)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"'{source}' is not a picture that can be read; convert it to {_FORMAT_NAMES}"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(source, f"{error}", max_pixels) from error
    except Exception as error:  # whatever a decoder raises on hostile bytes is a refusal
        raise ImageError(
            f"'{source}' is damaged or truncated ({error}); copy it again from its source"
        ) from error


def _check_header(image: Image.Image, source: Path, max_pixels: int) -> None:
    """Everything that must hold before the first pixel is decoded."""
    # Above its own limit Pillow only warns; here that is a refusal too, whatever the filters say.
    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    width, height = image.size
    # A small TIFF may claim one huge tile, for which the decoder would reserve memory.
    tags = getattr(image, "tag_v2", {})
    tile_width, tile_height = (int(tags.get(tag, 1)) for tag in _TIFF_TILE_SIZE)
    for columns, rows in ((width, height), (tile_width, tile_height)):
        if columns * rows > limit:
            raise _too_large(source, f"{columns} x {rows} pixels", limit)
    # Not n_frames: that walks through all pages of a TIFF, and a file can chain millions of them.
    try:
        image.seek(1)
    except EOFError:
        return
    raise ImageError(
        f"'{source}' has several frames or pages and only still pictures are read; export the "
        "wanted frame"
    )


def _too_large(source: Path, what: str, limit: int) -> ImageError:
    return ImageError(
        f"'{source}' is too large ({what}, at most {limit} are decoded); scale it down or raise "
        "max_pixels"
    )


def _over_white(image: Image.Image) -> NDArray[np.uint8]:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, rgba).convert("RGB"))


def _opaque(image: Image.Image) -> NDArray[np.uint8]:
    if "transparency" in image.info:  # a palette entry or one colour marked as transparent
        return _over_white(image)
    return np.array(image.convert("RGB"))


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint8]:
    samples = np.asarray(image).astype(np.uint32)
    samples[samples == image.info.get("transparency", -1)] = 65535
    gray = (samples * 255 + 32767) // 65535
    return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)


_CONVERTERS: dict[str, Callable[[Image.Image], NDArray[np.uint8]]] = {
    "1": _opaque,
    "L": _opaque,
    "P": _opaque,
    "RGB": _opaque,
    "YCbCr": _opaque,
    "LA": _over_white,
    "PA": _over_white,
    "RGBA": _over_white,
    "I;16": _sixteen_bits,
    "I;16B": _sixteen_bits,
    "I;16L": _sixteen_bits,
    "I;16N": _sixteen_bits,
}


def _to_rgb(image: Image.Image, source: Path) -> NDArray[np.uint8]:
    converter = _CONVERTERS.get(image.mode)
    if converter is None:
        raise ImageError(
            f"'{source}' has the colour mode {image.mode}, which has no single meaning in RGB; "
            "convert it to 8-bit RGB"
        )
    return converter(image)
