"""From the raw outputs of published face detectors to boxes, scores and five points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import CheckpointError
from lreorg_fast.media.pictures import Picture

Array = NDArray[np.float32]
Outputs = Mapping[str, Array]
Shapes = Mapping[str, Sequence["int | None"]]


@dataclass(frozen=True, eq=False)
class Candidates:
    """N faces in pixels of the tile: boxes (N, 4), scores (N,), points (N, 5, 2)."""

    boxes: Array
    scores: Array
    points: Array

    @property
    def finite(self) -> bool:
        return all(bool(np.isfinite(a).all()) for a in (self.boxes, self.scores, self.points))


@dataclass(frozen=True)
class Decoder:
    """How to talk to one kind of network.

    Attributes:
        name: of the kind.
        prepare: tile (H, W, 3) uint8 RGB -> (1, 3, H, W) float32 as the network was trained on.
        decode: (outputs, threshold, (height, width) of the tile) -> candidates.
        matches: whether outputs of these names and shapes are this kind's.
        convolutional: sizes stated in a file may be ignored.
    """

    name: str
    prepare: Callable[[Picture], Array]
    decode: Callable[[Outputs, float, tuple[int, int]], Candidates]
    matches: Callable[[Shapes], bool]
    convolutional: bool = False


def infer_decoder(shapes: Shapes) -> Decoder | None:
    """The kind whose outputs have these names and shapes, if there is exactly one."""
    found = [decoder for decoder in DECODERS.values() if decoder.matches(shapes)]
    return found[0] if len(found) == 1 else None


def _planes(tile: Picture) -> Array:
    return np.ascontiguousarray(tile.transpose(2, 0, 1)[None], dtype=np.float32)


# ---- CenterFace: Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point"
# (2019), prj-python/centerface.py of Star-Clouds/CenterFace. RGB, 0 to 255. One candidate per
# cell of 4 x 4 pixels: heat (1), log of height and width in cells (2), offset of the centre in
# cells, y then x (2), and the points as (y, x) in shares of the box (10).

_CELL = 4


def _decode_centerface(outputs: Outputs, threshold: float, size: tuple[int, int]) -> Candidates:
    heat, scale, offset, points = _centerface_maps(outputs)
    rows, columns = np.nonzero(heat[0, 0] >= threshold)
    height, width = np.exp(np.minimum(scale[0][:, rows, columns], 20.0)) * _CELL
    down, right = offset[0][:, rows, columns]
    left = (columns + right + 0.5) * _CELL - width / 2
    top = (rows + down + 0.5) * _CELL - height / 2
    shares = points[0][:, rows, columns].reshape(5, 2, -1)
    x, y = shares[:, 1] * width + left, shares[:, 0] * height + top
    return Candidates(
        np.stack([left, top, left + width, top + height], axis=1).astype(np.float32),
        heat[0, 0][rows, columns].clip(0, 1),
        np.stack([x, y], axis=2).transpose(1, 0, 2).astype(np.float32),
    )


def _centerface_maps(outputs: Outputs) -> tuple[Array, Array, Array, Array]:
    """In the file's order: both scale and offset have two channels, so order tells them apart."""
    maps = list(outputs.values())
    if [m.shape[1] if m.ndim == 4 else 0 for m in maps] != [1, 2, 2, 10]:
        raise CheckpointError(
            f"the detector's outputs have the shapes {[m.shape for m in maps]}, which are not "
            "CenterFace's maps of 1, 2, 2 and 10 channels; name its kind"
        )
    heat, scale, offset, points = maps
    return heat, scale, offset, points


def _is_centerface(shapes: Shapes) -> bool:
    return [s[1] if len(s) == 4 else None for s in shapes.values()] == [1, 2, 2, 10]


DECODERS: dict[str, Decoder] = {
    decoder.name: decoder
    for decoder in (
        Decoder("centerface", _planes, _decode_centerface, _is_centerface, convolutional=True),
    )
}
