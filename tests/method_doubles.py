"""What tests of methods share: lists of them, a collection in memory, where a face is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from detectors import detection

from lreorg_fast.evaluation.methods import METHODS
from lreorg_fast.faces.blending import masks
from lreorg_fast.faces.regions import window_of
from lreorg_fast.media.pictures import Picture

COVERING = [name for name, info in METHODS.items() if info.kind == "covering"]
NETWORKS = [name for name, info in METHODS.items() if info.kind == "network"]
ALIGNED = [name for name in METHODS if name != "avatar"]
FACES = [detection(40, 50, 30), detection(110, 60, 44, 0.6, turn=0.3)]


class Album:
    """A collection in memory."""

    name, domain = "album", "avatars"
    attributes: Mapping[str, Any] = MappingProxyType({})
    groups: Mapping[str, Sequence[str]] = MappingProxyType({})

    def __init__(self, names: Sequence[str], pictures: Sequence[Picture]) -> None:
        self.names, self.pictures = names, pictures
        self.subjects = np.arange(len(names))

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> Picture:
        return self.pictures[index]

    def fingerprint(self, index: int) -> str:
        return str(index)


def covered_by(shapes: Sequence[Any], picture: Picture) -> np.ndarray:
    """(H, W) where the shapes are."""
    window = window_of(shapes, picture.shape[1::-1])
    inside = np.zeros(picture.shape[:2], dtype=bool)
    inside[window.slices] = masks(shapes, window)[1]
    return inside


def leaks(made: Sequence[Picture | None], sources: Sequence[Picture]) -> bool:
    return any(
        out is not None and out.shape == source.shape and bool((out == source).all())
        for out in made
        for source in sources
    )
