"""A contact sheet: labelled rows of faces, one column per person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lreorg_fast.media.pictures import Picture, resized

_MARGIN, _GAP, _TEXT_WIDTH, _FONT_SIZE = 16, 4, 190, 15


def contact_sheet(rows: Mapping[str, Sequence[Picture]], side: int = 96) -> Picture:
    """``rows``: label to pictures, all rows equally long; ``(H, W, 3)`` uint8."""
    columns = max(len(pictures) for pictures in rows.values())
    width = 2 * _MARGIN + _TEXT_WIDTH + columns * (side + _GAP)
    height = 2 * _MARGIN + len(rows) * (side + _GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for row, (label, pictures) in enumerate(rows.items()):
        top = _MARGIN + row * (side + _GAP)
        draw.text((_MARGIN, top + side / 2), label, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            left = _MARGIN + _TEXT_WIDTH + column * (side + _GAP)
            sheet.paste(Image.fromarray(resized(picture, (side, side))), (left, top))
    return np.asarray(sheet)
