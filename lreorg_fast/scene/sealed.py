"""What a seal holds of the faces of a whole picture: key features with their places, or crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.regions import Window
from lreorg_fast.media.pictures import Picture
from lreorg_fast.privacy.seal_bodies import Spec, arrays_of, description_of, packed
from lreorg_fast.privacy.sealed import MOST_KEYWORDS, check_features
from lreorg_fast.scene.faces import SceneFace
from lreorg_fast.scene.settings import SceneSettings

PLACE_NUMBERS = 22  # box, landmarks, corners of the square
Features = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Blending:
    """How new faces were laid into a picture; see :class:`lreorg_fast.scene.SceneSettings`."""

    feather: float
    colour_match: bool

    @classmethod
    def of_settings(cls, settings: SceneSettings) -> Blending:
        """Of what was asked for."""
        return cls(settings.feather, settings.colour_match)

    def described(self) -> list[Any]:
        """JSON-able; of the settings, not of a face."""
        return [self.feather, self.colour_match]

    @classmethod
    def parsed(cls, value: Any) -> Blending:
        """ValueError for anything odd."""
        feather, match = value
        if type(feather) not in (int, float) or not 0 <= feather <= 1 or type(match) is not bool:
            raise ValueError("not a blending")
        return cls(float(feather), match)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a new face lies: as it was detected, and the (4, 2) corners of its square."""

    detection: Detection
    quad: NDArray[np.float64]

    @property
    def row(self) -> NDArray[np.float64]:
        """(22,)."""
        found = self.detection
        return np.concatenate([found.box, found.landmarks.ravel(), self.quad.ravel()])

    @classmethod
    def of_row(cls, row: NDArray[np.float64]) -> Place:
        """ConfigError or ValueError for numbers that are none of a face."""
        if row.shape != (PLACE_NUMBERS,) or not (np.abs(row) < 1e9).all():
            raise ValueError("not a place")
        return cls(Detection(row[:4], 1.0, row[4:14].reshape(5, 2)), row[14:].reshape(4, 2))


@dataclass(frozen=True, eq=False)
class SealedFeature:
    """A face that comes back approximately."""

    place: Place
    features: Features = field(repr=False)
    blending: Blending

    @property
    def body(self) -> bytes:
        """For a seal."""
        description = {"blending": self.blending.described(), "keywords": shapes_of(self.features)}
        return packed(description, [self.place.row.astype("<f8"), *numbers_of(self.features)])

    @classmethod
    def parsed(cls, body: bytes) -> SealedFeature:
        """ValueError, TypeError, KeyError or ConfigError for anything odd."""
        content = dict(description_of(body))
        specs = specs_of(content["keywords"])
        row, *arrays = arrays_of(body, [("<f8", (PLACE_NUMBERS,)), *specs])
        features = features_of(content["keywords"], arrays)
        return cls(Place.of_row(row), features, Blending.parsed(content["blending"]))


@dataclass(frozen=True, eq=False)
class SealedCrop:
    """Pixels of the original, (h, w, 3) uint8, whose upper left corner was at (left, top)."""

    left: int
    top: int
    pixels: Picture = field(repr=False)

    @property
    def body(self) -> bytes:
        """For a seal."""
        return packed([self.left, self.top, *self.pixels.shape[:2]], [self.pixels])

    @classmethod
    def parsed(cls, body: bytes) -> SealedCrop:
        """ValueError, TypeError, KeyError or ConfigError for anything odd."""
        left, top, height, width = description_of(body)
        if type(left) is not int or type(top) is not int or min(left, top) < 0:
            raise ValueError("not a window")
        (pixels,) = arrays_of(body, [("u1", (height, width, 3))])
        return cls(left, top, pixels)

    def put_back(self, picture: Picture) -> None:
        """In place; ValueError if it does not lie in the picture."""
        height, width = self.pixels.shape[:2]
        part = picture[self.top : self.top + height, self.left : self.left + width]
        if part.shape != self.pixels.shape:
            raise ValueError("a crop beyond the picture")
        part[:] = self.pixels


SealedFace = SealedFeature | SealedCrop
PARSERS: Mapping[str, Callable[[bytes], SealedFace]] = {
    "feature": SealedFeature.parsed,
    "crop": SealedCrop.parsed,
}


def sealed_face(
    kind: str, face: SceneFace, original: Picture, blending: Blending
) -> SealedFace | None:
    """What would bring a face back; None for features of a face that was not replaced, and for a
    crop of one that lies outside of the picture."""
    if kind == "crop":
        return crop_of(face.window, original)
    key = None if face.result is None else face.result.recovery_key
    if face.status != "replaced" or face.quad is None or key is None:
        return None
    return SealedFeature(Place(face.detection, face.quad), key.features, blending)


def crop_of(window: Window | None, original: Picture) -> SealedCrop | None:
    """The pixels of a window, all for None; None for an empty one."""
    if window is None:
        return SealedCrop(0, 0, original)
    if window.empty:
        return None
    return SealedCrop(window.left, window.top, np.array(original[window.slices]))


# ---- key features among the numbers of a body


def shapes_of(features: Features) -> list[list[Any]]:
    """Keyword, rows and size of each."""
    return [[name, *array.shape] for name, array in features.items()]


def numbers_of(features: Features) -> list[NDArray[np.float32]]:
    """The arrays, as they are written."""
    return [np.asarray(array, "<f4") for array in features.values()]


def specs_of(shapes: Any) -> list[Spec]:
    """Of :func:`shapes_of`; ValueError for anything odd."""
    if not isinstance(shapes, list) or not 0 < len(shapes) <= MOST_KEYWORDS:
        raise ValueError("not a list of features")
    if any(len(entry) != 3 or not isinstance(entry[0], str) for entry in shapes):
        raise ValueError("not the shape of a feature")
    if len({entry[0] for entry in shapes}) != len(shapes):
        raise ValueError("a keyword twice")
    return [("<f4", tuple(entry[1:])) for entry in shapes]


def features_of(shapes: Any, arrays: list[NDArray[Any]]) -> Features:
    """The inverse of both; ConfigError for numbers that are none of a face."""
    features = {entry[0]: array for entry, array in zip(shapes, arrays, strict=True)}
    check_features(features)
    return features
