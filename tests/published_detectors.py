"""Raw outputs of detectors, made from a seed, in the published forms of the files.

``tests/data/published/detectors.json`` holds what the published code made of them: the class SCRFD
of deepinsight/insightface (detection/scrfd/tools/scrfd.py at 41bf106), PriorBox, decode and
decode_landm of biubug6/Pytorch_Retinaface (at 3c31dcd), and OpenCV 5.0's FaceDetectorYN without
suppression of overlaps. None of that code is here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# (height, width) of the tile: not square, so that rows and columns cannot be mistaken.
SIZES = {
    "yunet": (96, 160),
    "scrfd": (96, 160),
    "scrfd batched": (96, 160),
    "scrfd five": (128, 256),
    "retinaface": (96, 160),
}
_SEEDS = {name: seed for seed, name in enumerate(SIZES)}
_THRESHOLDS = {"yunet": 0.9, "scrfd five": 0.97}


def raw(name: str) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Outputs in the order of the file, and a threshold that leaves about ten of them."""
    rng = np.random.default_rng(_SEEDS[name])
    outputs = _retinaface(rng) if name == "retinaface" else _levels(name, rng)
    return {key: v.astype(np.float32) for key, v in outputs.items()}, _THRESHOLDS.get(name, 0.985)


def _levels(name: str, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    kind, _, form = name.partition(" ")
    strides = (8, 16, 32, 64, 128) if form == "five" else (8, 16, 32)
    anchors = 2 if kind == "scrfd" and form != "five" else 1
    parts = {"bbox": 4, "kps": 10}
    scores = ("cls", "obj") if kind == "yunet" else ("score",)
    outputs = {}
    for part, width in {**dict.fromkeys(scores, 1), **parts}.items():
        for stride in strides:
            count = anchors * math.prod(math.ceil(side / stride) for side in SIZES[name])
            shape = (count, width) if kind == "scrfd" and form != "batched" else (1, count, width)
            values = rng.random(shape)
            if part == "bbox" and kind == "scrfd":
                values *= 3  # strides from a point to the four sides
            elif part in parts:
                values = 3 * values - 1.5
            outputs[f"{part}_{stride}"] = values
    return outputs


def _retinaface(rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    height, width = SIZES["retinaface"]
    count = 2 * sum(math.ceil(height / s) * math.ceil(width / s) for s in (8, 16, 32))
    face = rng.random((1, count, 1))
    # The names that torch.onnx gives by convert_to_onnx.py: one is named, two are numbers.
    return {
        "output0": 4 * rng.random((1, count, 4)) - 2,
        "585": np.concatenate([1 - face, face], axis=2),
        "584": 4 * rng.random((1, count, 10)) - 2,
    }
