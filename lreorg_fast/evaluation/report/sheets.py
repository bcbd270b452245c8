"""Contact sheets inside of the page: one small picture per row of faces, bounded in size."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from lreorg_fast.errors import ImageError
from lreorg_fast.evaluation.report.document import Sheet, Strip
from lreorg_fast.media.pictures import FILL_COLOUR, Picture

SIDE = 96
MOST_COLUMNS = 12
MOST_ROWS = 48
_GAP = 2
_QUALITY = 82  # a face of 96 pixels is then 2 to 4 kB; noise, the worst, is 9 kB

Samples = Mapping[str, Sequence[Picture | None]]


def sheet(samples: Samples, labels: Mapping[str, str]) -> Sheet | None:
    """Rows by name, one column per original; None where nothing was released.

    Args:
        samples: (H, W, 3) uint8 RGB by the method's name or any other label of a row.
        labels: titles of the rows that have one.

    Raises:
        ImageError: something else than pictures.
    """
    if not samples:
        return None
    rows = list(samples.items())
    columns = max(len(pictures) for _, pictures in rows)
    cut = ""
    if len(rows) > MOST_ROWS or columns > MOST_COLUMNS:
        cut = (
            f" The page shows {min(len(rows), MOST_ROWS)} of {len(rows)} rows and "
            f"{min(columns, MOST_COLUMNS)} of {columns} columns."
        )
    strips = tuple(
        strip(labels.get(name, name), pictures[:MOST_COLUMNS])
        for name, pictures in rows[:MOST_ROWS]
        if pictures
    )
    caption = (
        "Each column is one original and what each method makes of it; a crossed square stands "
        f"where nothing was released as a face.{cut}"
    )
    return Sheet(caption, strips)


def strip(label: str, pictures: Sequence[Picture | None]) -> Strip:
    """A row of faces as one WebP."""
    width = len(pictures) * (SIDE + _GAP) - _GAP
    # Half way between the page's light and dark background, which the gaps then do not disturb.
    image = Image.new("RGB", (width, SIDE), FILL_COLOUR)
    for column, picture in enumerate(pictures):
        face = _crossed() if picture is None else _face(label, picture)
        image.paste(face, (column * (SIDE + _GAP), 0))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_QUALITY, method=4)
    source = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    absent = sum(picture is None for picture in pictures)
    alternative = f"{label}: {len(pictures)} pictures, {absent} of them not released"
    return Strip(label, source, width, SIDE, alternative)


def _face(label: str, picture: Picture) -> Image.Image:
    shape: tuple[int, ...] = getattr(picture, "shape", ())
    kind = getattr(picture, "dtype", type(picture).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ImageError(
            f"a sample of '{label}' is {kind} of the shape {shape}; give (H, W, 3) uint8 RGB, or "
            "None where nothing was released"
        )
    image = Image.fromarray(picture)
    return ImageOps.pad(image, (SIDE, SIDE), Image.Resampling.LANCZOS, color=FILL_COLOUR)


def _crossed() -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), FILL_COLOUR)
    draw = ImageDraw.Draw(image)
    draw.line([(8, 8), (SIDE - 9, SIDE - 9)], fill=(40, 40, 40), width=2)
    draw.line([(8, SIDE - 9), (SIDE - 9, 8)], fill=(40, 40, 40), width=2)
    return image
