"""Was everybody replaced? A source and its result, looked at as a stranger would.

Nothing of the run that made the result is used: faces are found in the source anew, and each is
looked at in the result, by the pixels, by the bundle's recognizer, and by the detector.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import lreorg_fast
from lreorg_fast.errors import ConfigError, ImageError, VideoError
from lreorg_fast.faces.detection import Detection, Detector, overlap
from lreorg_fast.media.images import read_image
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.video import VideoLimits, VideoReader, container_of
from lreorg_fast.scene.settings import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.scene.judging import Recognition

Verdict = Literal["replaced", "covered", "exposed"]
# A face whose pixels moved by less, in levels of 255, or that is the same picture but for
# brightness, was passed through: an encoder at bad quality moves faces by 3 to 6 levels, and a new
# face on the same head correlates with the old one by up to 0.95.
_SAME_LEVELS, _SAME_PICTURE = 8.0, 0.985
# A region with less contrast than this, in levels, shows no face.
_FLAT = 6.0
_FOUND = 0.5  # overlap of a face that the detector finds in the result at the same place
_MOST_LISTED = 100


@dataclass(frozen=True)
class ExposedFace:
    """A face that can still be seen: frame (0 in a picture), box in pixels, and who says so."""

    frame: int
    box: tuple[float, float, float, float]
    reason: str


@dataclass(frozen=True)
class VerifyReport:
    """What became of every face of a source.

    Attributes:
        source, result: the files.
        frames: number of frames, 1 for a picture.
        faces: found in the source, frame by frame.
        replaced: another face, or none, is there.
        covered: a flat colour is there.
        exposed: can still be seen; the first of them are in ``listed``.
        unjudged: of the replaced ones, those that the recognizer does not know, because they are
            not of the bundle's domain: they were judged by their pixels only.
        redetected: faces of the source at whose place the detector finds a face in the result.
        recognizer: name of the bundle that judged; None if there was none.
    """

    source: str
    result: str
    frames: int
    faces: int
    replaced: int
    covered: int
    exposed: int
    unjudged: int
    redetected: int
    recognizer: str | None
    listed: tuple[ExposedFace, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"package_version": lreorg_fast.__version__, **asdict(self)}


def verify_pair(
    source: str | os.PathLike[str],
    result: str | os.PathLike[str],
    detector: Detector,
    anonymizer: Anonymizer | None = None,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    limits: VideoLimits | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> VerifyReport:
    """Look for every face of the source in the result.

    Args:
        source, result: two pictures or two videos, of the same size and number of frames.
        detector: finds the faces.
        anonymizer: its bundle's recognizer judges; without it the pixels do.
        threshold: least score of a face of the source.
        limits: of videos.
        progress: called with (frames done, frames in all or None).

    Raises:
        VideoError, ImageError: a file is refused, or the two do not belong together.
        ConfigError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold is {threshold}, but must be above 0, at most 1")
    recognition: Recognition | None = None
    if anonymizer is not None:
        from lreorg_fast.scene.judging import Recognition as Judge

        recognition = Judge(anonymizer, refined=True)
    judge = _Judge(detector, recognition, threshold)
    frames = 0
    for frames, (before, after) in enumerate(
        frame_pairs(Path(source), Path(result), limits), start=1
    ):
        judge.frame(frames - 1, before, after)
        if progress is not None:
            progress(frames, None)
    return VerifyReport(
        str(source),
        str(result),
        frames,
        sum(judge.verdicts.values()),
        judge.verdicts["replaced"],
        judge.verdicts["covered"],
        judge.verdicts["exposed"],
        judge.unjudged,
        judge.redetected,
        None if anonymizer is None else anonymizer.bundle.manifest.name,
        tuple(judge.exposed[:_MOST_LISTED]),
    )


class _Judge:
    """Counts verdicts, face by face."""

    def __init__(
        self, detector: Detector, recognition: Recognition | None, threshold: float
    ) -> None:
        self._detector, self._recognition = detector, recognition
        self._threshold = threshold
        self.verdicts: Counter[Verdict] = Counter()
        self.exposed: list[ExposedFace] = []
        self.unjudged = self.redetected = 0

    def frame(self, number: int, source: Picture, result: Picture) -> None:
        """All faces of one picture."""
        found = self._detector(source, self._threshold)
        again = self._detector(result, self._threshold) if found else []
        for face in found:
            reason = self._reason(source, result, face)
            self.redetected += any(overlap(face.box, other.box) >= _FOUND for other in again)
            if reason is not None:
                self.verdicts["exposed"] += 1
                box = [round(float(side), 1) for side in face.box]
                if len(self.exposed) < _MOST_LISTED:
                    self.exposed.append(ExposedFace(number, tuple(box), reason))  # type: ignore[arg-type]
            elif _flat(result, face):
                self.verdicts["covered"] += 1
            else:
                self.verdicts["replaced"] += 1

    def _reason(self, source: Picture, result: Picture, face: Detection) -> str | None:
        before, after = _inside(source, face), _inside(result, face)
        if not before.size or _flat(result, face):
            return None
        if np.abs(before - after).mean() < _SAME_LEVELS:
            return "its pixels are those of the source"
        if _correlation(before, after) > _SAME_PICTURE:
            return "it is the source's picture in another brightness"
        if self._recognition is None:
            return None
        if not self._recognition.knows(source, face):
            self.unjudged += 1
            return None
        if self._recognition.resembling(source, result, face):
            return "the recognizer takes it for the same person"
        return None


def _inside(picture: Picture, face: Detection) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Gray levels of the middle of a face's box: the corners are hair and background."""
    centre, half = (face.box[:2] + face.box[2:]) / 2, (face.box[2:] - face.box[:2]) * 0.35
    size = np.array(picture.shape[1::-1])
    (x0, y0), (x1, y1) = (
        np.clip(np.rint(corner), 0, size).astype(int) for corner in (centre - half, centre + half)
    )
    return np.asarray(picture[y0:y1, x0:x1].mean(axis=2), dtype=np.float64)


def _flat(picture: Picture, face: Detection) -> bool:
    inside = _inside(picture, face)
    return bool(inside.size and inside.std() < _FLAT)


def _correlation(a: Any, b: Any) -> float:
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / length) if length > 0 else 0.0


def frame_pairs(
    source: Path, result: Path, limits: VideoLimits | None = None
) -> Iterator[tuple[Picture, Picture]]:
    """Frames of two videos side by side, upright; two pictures are one such pair.

    Raises:
        VideoError, ImageError: a file is refused, or the two do not belong together.
    """
    if container_of(source) is None and container_of(result) is None:
        pair = read_image(source), read_image(result)
        if pair[0].shape != pair[1].shape:
            raise ImageError(
                f"'{result}' has another size than '{source}'; name a picture's result"
            )
        yield pair
        return
    readers = VideoReader(source, limits), VideoReader(result, limits)
    if readers[0].info.size != readers[1].info.size:
        raise VideoError(f"'{result}' has another size than '{source}'; name a video's result")
    streams = [reader.frames() for reader in readers]
    while True:
        frames = [next(stream, None) for stream in streams]
        if frames[0] is None or frames[1] is None:
            if frames[0] is not frames[1]:
                raise VideoError(f"'{result}' has another number of frames than '{source}'")
            return
        pictures = [
            frame.picture(reader.info.orientation)
            for frame, reader in zip(frames, readers, strict=True)
            if frame is not None
        ]
        yield pictures[0], pictures[1]
