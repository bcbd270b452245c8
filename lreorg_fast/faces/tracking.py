"""Who is who from frame to frame: ByteTrack of the package ``trackers``, and what is added to it.

A tracker decides who is the same person. It never decides whether a face is known: a detection
that no track explains is a person of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.faces.detection import Detection, overlap
from lreorg_fast.faces.smoothing import OneEuroFilter

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TrackingSettings:
    """How faces are followed.

    Args:
        threshold: a track is a person if any of its detections has this score, in (0, 1].
        low_threshold: detections are collected from this score on, in (0, threshold]: they count
            where a track explains them.
        lost_seconds: so long somebody may be unseen and is still the same person; the gap is
            filled. At least 0.
        extend_seconds: so long before the first and after the last detection of a track the face
            is taken to be there. At least 0.
        least_overlap: of a box with the one that is expected, in (0, 1).
        smooth_seconds: time constant of the smoothing of landmarks; 0 is none.
    """

    threshold: float = 0.2
    low_threshold: float = 0.1
    lost_seconds: float = 1.0
    extend_seconds: float = 0.2
    least_overlap: float = 0.1
    smooth_seconds: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold}, but must be in (0, 1]")
        if not 0 < self.low_threshold <= self.threshold:
            raise ConfigError(
                f"low_threshold is {self.low_threshold}, but must be in (0, {self.threshold}], the "
                "threshold"
            )
        if not 0 < self.least_overlap < 1:
            raise ConfigError(f"least_overlap is {self.least_overlap}, but must be in (0, 1)")
        for name in ("lost_seconds", "extend_seconds", "smooth_seconds"):
            value = getattr(self, name)
            if not 0 <= value <= 60:
                raise ConfigError(f"{name} is {value}, but must be 0 to 60 seconds")


class Associator:
    """ByteTrack for one pass over a video, forwards or backwards.

    Args:
        settings: thresholds.
        rate: frames per second, for the model of motion.

    Raises:
        MissingExtra: the package ``trackers`` is not installed.
    """

    def __init__(self, settings: TrackingSettings, rate: float) -> None:
        try:
            import supervision
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise MissingExtra(
                "following faces needs the package trackers; install lreorg_fast[video]"
            ) from error
        self._detections: Any = supervision.Detections
        # Scores come back from a table of float32; exactly the threshold must stay enough.
        threshold = float(np.float32(settings.threshold)) * (1 - 1e-6)
        self._tracker: Any = ByteTrackTracker(
            lost_track_buffer=max(1, round(settings.lost_seconds * 30)),
            frame_rate=rate,
            track_activation_threshold=threshold,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=settings.least_overlap,
            high_conf_det_threshold=threshold,
        )

    def __call__(self, boxes: Floats, scores: Floats, time: float) -> list[int]:
        """The track of each box ``(n, 4)``, -1 where there is none yet; ``time`` must rise."""
        if not len(boxes):
            self._tracker.update(self._detections.empty(), timestamp=time)
            return []
        found = self._tracker.update(
            self._detections(
                xyxy=np.array(boxes, dtype=np.float64),
                confidence=np.array(scores, dtype=np.float64),
                data={"index": np.arange(len(boxes))},
            ),
            timestamp=time,
        )
        tracks = [-1] * len(boxes)
        for index, track in zip(found.data["index"], found.tracker_id, strict=True):
            tracks[int(index)] = int(track)
        return tracks


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """One person in one frame of a live picture.

    Attributes:
        detection: where the face is; smoothed.
        track: number of the person, never used twice.
        seen: it was detected in this frame; else it is where it was last, or should be.
    """

    detection: Detection
    track: int
    seen: bool


@dataclass
class _Person:
    detection: Detection
    time: float
    speed: Floats
    landmarks: OneEuroFilter


class OnlineTracker:
    """Follows faces without knowing the future, for live pictures.

    Somebody who is not found any more stays known for ``lost_seconds``, where the last detection
    was and where its speed leads: a missed detection must not show a face.

    Args:
        settings: ``low_threshold`` is what the detector is to be asked for.
        rate: about how many frames per second will come.

    Raises:
        MissingExtra: see :class:`Associator`.
    """

    def __init__(self, settings: TrackingSettings | None = None, rate: float = 30.0) -> None:
        self.settings = settings or TrackingSettings()
        self._associate = Associator(self.settings, rate)
        self._persons: dict[int, _Person] = {}
        self._numbers: dict[int, int] = {}
        self._next = 0

    def update(self, detections: Sequence[Detection], time: float) -> list[TrackedFace]:
        """Everybody who is known to be in this frame.

        Args:
            detections: of this frame.
            time: of this frame in seconds, later than that of the one before.
        """
        boxes = np.array([found.box for found in detections]).reshape(-1, 4)
        scores = np.array([found.score for found in detections])
        tracks = self._associate(boxes, scores, time)
        faces = []
        for found, track in zip(detections, tracks, strict=True):
            number = self._number(found, track)
            if number is not None:
                faces.append(TrackedFace(self._moved(number, found, time), number, True))
        return faces + self._unseen({face.track for face in faces}, time)

    def _number(self, found: Detection, track: int) -> int | None:
        """ByteTrack names a person from the second frame on; here it has one from the first."""
        if track in self._numbers and self._numbers[track] in self._persons:
            return self._numbers[track]
        if track < 0 and found.score < self.settings.threshold:
            return None
        number = self._nameless(found) if track >= 0 else None
        if number is None:
            number, self._next = self._next, self._next + 1
        if track >= 0:
            self._numbers[track] = number
        return number

    def _nameless(self, found: Detection) -> int | None:
        """The person of the frame before whom ByteTrack has just given a name."""
        named = set(self._numbers.values())
        near = {
            number: overlap(found.box, person.detection.box)
            for number, person in self._persons.items()
            if number not in named
        }
        best = max(near, key=near.__getitem__, default=None)
        return best if best is not None and near[best] >= self.settings.least_overlap else None

    def _moved(self, number: int, found: Detection, time: float) -> Detection:
        centre = (found.box[:2] + found.box[2:]) / 2
        person = self._persons.get(number)
        if person is None:
            # One face width per second is fast.
            calm = OneEuroFilter(scale=max(found.size, 1.0))
            person = self._persons[number] = _Person(found, time, np.zeros(2), calm)
        elif time > person.time:
            before = (person.detection.box[:2] + person.detection.box[2:]) / 2
            person.speed = 0.5 * person.speed + 0.5 * (centre - before) / (time - person.time)
        person.detection, person.time = found, time
        if not self.settings.smooth_seconds:
            return found
        points = person.landmarks(time, found.landmarks)
        return Detection(found.box, found.score, points)

    def _unseen(self, seen: set[int], time: float) -> list[TrackedFace]:
        faces = []
        for number, person in list(self._persons.items()):
            away = time - person.time
            if number in seen:
                continue
            if away > self.settings.lost_seconds:
                del self._persons[number]
                continue
            faces.append(TrackedFace(reached(person.detection, person.speed * away), number, False))
        self._numbers = {t: n for t, n in self._numbers.items() if n in self._persons}
        return faces


def reached(detection: Detection, way: Floats) -> Detection:
    """The detection moved by ``way`` pixels; its box covers where it was, and where it is then."""
    moved = detection.box + np.tile(way, 2)
    box = np.concatenate(
        [np.minimum(moved[:2], detection.box[:2]), np.maximum(moved[2:], detection.box[2:])]
    )
    return Detection(box, detection.score, detection.landmarks + way)
