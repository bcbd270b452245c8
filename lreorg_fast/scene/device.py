"""Frames that are tensors: they are cut, pasted and composed where they are.

Not yet run on a GPU: tested on CPU tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.errors import ImageError
from lreorg_fast.faces import on_device
from lreorg_fast.faces.regions import Shape
from lreorg_fast.media.pictures import FILL_COLOUR, Picture

Floats = NDArray[np.float64]


class FrameCanvas:
    """Of a frame ``(3, H, W)`` uint8; a :class:`lreorg_fast.scene.canvas.Canvas`."""

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def picture(self) -> Picture:
        """A copy in memory: detectors run there."""
        return np.ascontiguousarray(self.image.permute(1, 2, 0).cpu().numpy())

    def cut(self, quad: Floats, size: int) -> Tensor:
        """See :class:`lreorg_fast.scene.canvas.Canvas`."""
        return on_device.cut_square(self.image, quad, size)

    def fill(self, shapes: Sequence[Shape]) -> on_device.TensorLayer:
        """See :class:`lreorg_fast.scene.canvas.Canvas`."""
        return on_device.fill_layer(self.image, shapes)

    def pixelate(self, shapes: Sequence[Shape]) -> on_device.TensorLayer:
        """See :class:`lreorg_fast.scene.canvas.Canvas`."""
        return on_device.pixelate_layer(self.image, shapes)

    def paste(
        self, face: Tensor, quad: Floats, shapes: Sequence[Shape], colour_match: bool = False
    ) -> on_device.TensorLayer:
        """See :class:`lreorg_fast.scene.canvas.Canvas`."""
        face = face.to(self.image.device)
        return on_device.paste_layer(self.image, face, quad, shapes, colour_match)

    def composed(self, layers: Sequence[on_device.TensorLayer]) -> FrameCanvas:
        """See :class:`lreorg_fast.scene.canvas.Canvas`."""
        return FrameCanvas(on_device.compose(self.image, layers))

    def blank(self) -> Tensor:
        """See :class:`lreorg_fast.scene.canvas.Canvas`."""
        colour = torch.tensor(FILL_COLOUR, dtype=torch.uint8, device=self.image.device)
        return colour[:, None, None].expand_as(self.image).clone()


def frame_canvas(image: Tensor) -> FrameCanvas:
    """Raises ImageError if it is not a frame."""
    good = image.dtype == torch.uint8 and image.dim() == 3 and image.shape[0] == 3
    if not good or image.numel() == 0:
        raise ImageError(
            f"a frame is {tuple(image.shape)} {image.dtype}, but must be (3, height, width) uint8 "
            "RGB"
        )
    return FrameCanvas(image)
