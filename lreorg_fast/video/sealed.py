"""Seals of videos: a section per segment, made while the segment is, and bound to what it shows.

The kind ``crop`` holds the original pixels of every edited window of every frame. The kind
``feature`` holds one key feature per person and segment (the mean over their frames) and where
the face is in each frame. Nothing of it is ever on the disk without being sealed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.batch.work import SceneWork
from lreorg_fast.errors import ConfigError, SealError
from lreorg_fast.files import atomic_file
from lreorg_fast.media.pictures import Picture
from lreorg_fast.privacy.keys import PrivateKey
from lreorg_fast.privacy.seal_bodies import arrays_of, description_of, packed
from lreorg_fast.privacy.seal_sets import SectionSealer, SetHeader, opened_section
from lreorg_fast.scene.faces import SceneFace
from lreorg_fast.scene.sealed import (
    PLACE_NUMBERS,
    Blending,
    Place,
    SealedCrop,
    SealedFace,
    SealedFeature,
    crop_of,
    features_of,
    numbers_of,
    sealed_face,
    shapes_of,
    specs_of,
)
from lreorg_fast.sealing import Sealer, seal_path
from lreorg_fast.video.checkpoint import Checkpoint

# Crops are sealed in pieces of about this size, which bounds memory.
_PIECE_BYTES = 4 << 20
_ROW = 2 + PLACE_NUMBERS  # frame of the segment, person of the segment, place


@dataclass(frozen=True)
class VideoSealer:
    """Seals the segments of one video.

    Args:
        sealer: kind and recipient.
        header: of the whole file; an interrupted run goes on with it.
        blending: how new faces are laid in.
    """

    sealer: Sealer
    header: SetHeader
    blending: Blending

    def section(self, number: int, stream: BinaryIO) -> SegmentSeal:
        """That of one segment, written to ``stream`` while it is made."""
        section = SectionSealer(self.header, number, f"segment-{number}", self.sealer.recipient)
        kind = _Features if self.sealer.kind == "feature" else _Crops
        return SegmentSeal(self, kind(section, stream, self.blending), stream)


def agreed_seals(
    work: Checkpoint, pictures: SceneWork, frames: int, span: int
) -> VideoSealer | None:
    """Of a video of so many frames, in segments of ``span``; the interrupted run's if one goes on.

    None where nothing is sealed.
    """
    if pictures.sealer is None:
        return None
    fresh = SetHeader.fresh(pictures.sealer.kind, "video", -(-frames // span), span)
    kept = bytes.fromhex(work.agreed("seal", {"header": fresh.raw.hex()})["header"])
    blending = Blending.of_settings(pictures.scene.settings)
    return VideoSealer(pictures.sealer, SetHeader.read(BytesIO(kept)), blending)


class SegmentSeal:
    """One section on its way; see :meth:`VideoSealer.section`."""

    def __init__(self, by: VideoSealer, content: _Features | _Crops, stream: BinaryIO) -> None:
        self._by, self._content = by, content
        self._stream = stream
        stream.write(content.section.head)

    def frame(
        self,
        index: int,
        original: Picture,
        faces: Sequence[tuple[int, SceneFace]],
        blanked: bool,
    ) -> None:
        """One frame of the segment, in order.

        Args:
            index: from the beginning of the segment.
            original: (H, W, 3) uint8 RGB, upright.
            faces: number of the track and what became of the face.
            blanked: the whole frame was filled.
        """
        results = [face.result for _, face in faces if face.result is not None]
        self._by.sealer.refuse_tests([t for result in results for t in result.guarantee.values()])
        self._content.frame(index, original, faces, blanked)

    def finish(self, shown: str) -> None:
        """``shown``: SHA-256 of the samples of the segment as they are decoded, hexadecimal."""
        self._stream.write(self._content.section.last(self._content.rest(), bytes.fromhex(shown)))
        self._stream.flush()


class _Crops:
    """Pixels, sealed as soon as there are enough."""

    def __init__(self, section: SectionSealer, stream: BinaryIO, blending: Blending) -> None:
        self.section, self._stream = section, stream
        self._crops: list[tuple[int, SealedCrop]] = []
        self._bytes = 0

    def frame(
        self, index: int, original: Picture, faces: Sequence[tuple[int, SceneFace]], blanked: bool
    ) -> None:
        windows = {None} if blanked else {face.window for _, face in faces}
        # A window of all pixels has every other in it.
        for window in {None} if None in windows else windows:
            crop = crop_of(window, original)
            if crop is not None:
                self._crops.append((index, crop))
                self._bytes += crop.pixels.nbytes
        if self._bytes >= _PIECE_BYTES:
            self._stream.write(self.section.chunk(self.rest()))

    def rest(self) -> bytes:
        """What is not sealed yet, as a body."""
        description = [
            [index, crop.left, crop.top, *crop.pixels.shape[:2]] for index, crop in self._crops
        ]
        body = packed(description, [crop.pixels for _, crop in self._crops])
        self._crops, self._bytes = [], 0
        return body


class _Features:
    """Places of every frame, and sums of key features."""

    def __init__(self, section: SectionSealer, stream: BinaryIO, blending: Blending) -> None:
        self.section, self._blending = section, blending
        self._rows: list[NDArray[np.float64]] = []
        self._sums: dict[int, tuple[dict[str, NDArray[np.float64]], int]] = {}

    def frame(
        self, index: int, original: Picture, faces: Sequence[tuple[int, SceneFace]], blanked: bool
    ) -> None:
        for track, face in faces:
            found = sealed_face("feature", face, original, self._blending)
            if not isinstance(found, SealedFeature):
                continue
            sums, count = self._sums.get(track, ({}, 0))
            for name, array in found.features.items():
                sums[name] = sums.get(name, 0.0) + array.astype(np.float64)
            self._sums[track] = (sums, count + 1)
            slot = list(self._sums).index(track)
            self._rows.append(np.concatenate([[index, slot], found.place.row]))

    def rest(self) -> bytes:
        """All of it."""
        if not self._rows:
            return packed({"rows": 0}, [])
        means = [
            {name: (total / count).astype(np.float32) for name, total in sums.items()}
            for sums, count in self._sums.values()
        ]
        description = {
            "rows": len(self._rows),
            "people": len(means),
            "keywords": shapes_of(means[0]),
            "blending": self._blending.described(),
        }
        numbers = [array for mean in means for array in numbers_of(mean)]
        return packed(description, [np.stack(self._rows).astype("<f8"), *numbers])


def write_seal(work: Checkpoint, target: Path, segments: int, overwrite: bool) -> Path:
    """Beside ``target``, from the sections of all segments; returns it.

    Raises:
        OutputError: it cannot be written.
    """
    path = seal_path(target)
    header = work.agreed("seal", {})["header"]
    with atomic_file(path, overwrite) as stream:
        stream.write(bytes.fromhex(header))
        for number in range(segments):
            with work.seal_path(number).open("rb") as section:
                shutil.copyfileobj(section, stream)
    return path


# ---- opening


Item = tuple[int, SealedFace]


def opened_segment(
    stream: BinaryIO, header: SetHeader, number: int, frames: int, key: PrivateKey, shown: bytes
) -> Iterator[list[Item]]:
    """The faces of one segment, piece by piece: (frame of the segment, face), frames rising.

    What :func:`lreorg_fast.privacy.seal_sets.opened_section` says holds here too: use nothing
    before the iteration has ended once.

    Args:
        stream: at the beginning of the section.
        header: of the file.
        number: of the segment.
        frames: that the segment has.
        key: private key.
        shown: SHA-256 of the samples of the segment.

    Raises:
        SealError: it does not open, or holds something else.
    """
    parse = {"feature": parsed_features, "crop": parsed_crops}[header.kind]
    latest = 0
    for body in opened_section(stream, header, number, key, shown):
        try:
            # Anybody can seal anything for a public key, so what is inside is looked at as well.
            items = parse(body)
            for index, _ in items:
                if not latest <= index < frames:
                    raise ValueError("a frame in disorder")
                latest = index
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            raise SealError("the seal opens, but holds no original; it was made wrongly") from error
        yield items


def parsed_crops(body: bytes) -> list[Item]:
    """ValueError, TypeError, KeyError or ConfigError for anything odd."""
    description = description_of(body)
    if any(type(n) is not int or n < 0 for entry in description for n in entry[:3]):
        raise ValueError("not windows")
    crops = arrays_of(body, [("u1", (height, width, 3)) for *_, height, width in description])
    return [
        (index, SealedCrop(left, top, pixels))
        for (index, left, top, _, _), pixels in zip(description, crops, strict=True)
    ]


def parsed_features(body: bytes) -> list[Item]:
    """As :func:`parsed_crops`."""
    content = dict(description_of(body))
    if content["rows"] == 0:
        arrays_of(body, [])
        return []
    specs, people = specs_of(content["keywords"]), content["people"]
    # A feature has a number at least, which bounds the list of arrays that are looked for.
    if type(people) is not int or not 0 < people * len(specs) <= len(body) // 4:
        raise ValueError("not a number of people")
    rows, *arrays = arrays_of(body, [("<f8", (content["rows"], _ROW)), *(specs * people)])
    size = len(specs)
    features = [
        features_of(content["keywords"], arrays[i * size : (i + 1) * size]) for i in range(people)
    ]
    blending = Blending.parsed(content["blending"])
    return list(_faces(rows, features, blending))


def _faces(
    rows: NDArray[np.float64], features: Sequence[Any], blending: Blending
) -> Iterable[Item]:
    for row in rows:
        if not (np.abs(row) < 1e9).all():
            raise ValueError("not a row of numbers")
        index, slot = (int(n) for n in row[:2])
        if slot not in range(len(features)):
            raise ValueError("nobody's place")
        yield index, SealedFeature(Place.of_row(row[2:]), features[slot], blending)
