"""A picture that faces are cut out of and drawn into: in memory as numpy, or a tensor on a device.

The methods know canvases only, so a frame that is on a GPU takes the same steps as a picture file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ImageError
from lreorg_fast.faces.align import align_square
from lreorg_fast.faces.blending import compose, fill_layer, paste_layer, pixelate_layer
from lreorg_fast.faces.regions import Shape
from lreorg_fast.media.pictures import FILL_COLOUR, Picture

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
# A face ready to be drawn; what it is, only the canvas that made it knows.
DrawnLayer = Any
Image = Any  # Picture, or a Tensor (3, H, W) uint8


class Canvas(Protocol):
    """Raises an LReorgError for a face that cannot be cut out."""

    @property
    def image(self) -> Image:
        """What it was made of."""

    def picture(self) -> Picture:
        """As numpy, for a detector."""

    def cut(self, quad: Floats, size: int) -> Tensor:
        """``(3, size, size)`` float32 in [-1, 1], upright, of a square with these corners."""

    def fill(self, shapes: Sequence[Shape]) -> DrawnLayer:
        """The shapes in one colour."""

    def pixelate(self, shapes: Sequence[Shape]) -> DrawnLayer:
        """The shapes as a mosaic."""

    def paste(
        self, face: Tensor, quad: Floats, shapes: Sequence[Shape], colour_match: bool = False
    ) -> DrawnLayer:
        """``(3, S, S)`` in [-1, 1], laid into the square and seen through the shapes."""

    def composed(self, layers: Sequence[DrawnLayer]) -> Canvas:
        """A copy with the layers drawn in their order."""

    def blank(self) -> Image:
        """A copy in the fill colour."""


class ArrayCanvas:
    """Of a picture ``(H, W, 3)`` uint8."""

    def __init__(self, image: Picture) -> None:
        self.image = image

    def picture(self) -> Picture:
        """See :class:`Canvas`."""
        return self.image

    def cut(self, quad: Floats, size: int) -> Tensor:
        """See :class:`Canvas`."""
        from lreorg_fast.models.pixels import to_tensor  # torch

        return to_tensor([align_square(self.image, quad, size).image])[0]

    def fill(self, shapes: Sequence[Shape]) -> DrawnLayer:
        """See :class:`Canvas`."""
        return fill_layer(self.image, shapes)

    def pixelate(self, shapes: Sequence[Shape]) -> DrawnLayer:
        """See :class:`Canvas`."""
        return pixelate_layer(self.image, shapes)

    def paste(
        self, face: Tensor, quad: Floats, shapes: Sequence[Shape], colour_match: bool = False
    ) -> DrawnLayer:
        """See :class:`Canvas`."""
        from lreorg_fast.models.pixels import to_pictures  # torch

        (portrait,) = to_pictures(face[None])
        return paste_layer(self.image, portrait, quad, shapes, colour_match)

    def composed(self, layers: Sequence[DrawnLayer]) -> ArrayCanvas:
        """See :class:`Canvas`."""
        return ArrayCanvas(compose(self.image, layers))

    def blank(self) -> Picture:
        """See :class:`Canvas`."""
        return np.full(self.image.shape, FILL_COLOUR, dtype=np.uint8)


def canvas_of(image: Any) -> Canvas:
    """For a picture ``(H, W, 3)`` uint8 numpy, or a frame ``(3, H, W)`` uint8 torch.

    Raises:
        ImageError: anything else.
    """
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return ArrayCanvas(image)
    elif type(image).__module__.partition(".")[0] == "torch":
        from lreorg_fast.scene.device import frame_canvas

        return frame_canvas(image)
    kind = f"{getattr(image, 'shape', '')} {getattr(image, 'dtype', type(image))}"
    raise ImageError(
        f"a picture is {kind}, but must be (height, width, 3) uint8 RGB numpy or (3, height, "
        "width) uint8 torch"
    )
