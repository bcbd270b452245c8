"""One frame of a stream: find the faces, know whose they are, replace them, cover lost ones."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lreorg_fast.faces.detection import Detection, overlap
from lreorg_fast.live.hold import Hold, cover
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene import KnownFace, SceneAnonymizer, SceneFace

# Seconds after which the draw of a track that is not seen any more is dropped, longer than a
# tracker waits for a face to return. Without an end, the memory of a camera that runs for weeks
# would grow with every passer-by.
_FORGET_S = 60.0
# A detection that shares this much with a face of the tracker is that face.
_SAME_FACE = 0.5


class Tracked(Protocol):
    """A face as a tracker knows it; ``seen`` is False where it was not detected this time."""

    @property
    def detection(self) -> Detection: ...
    @property
    def track(self) -> int: ...
    @property
    def seen(self) -> bool: ...


class Tracker(Protocol):
    """Gives detections the numbers of persons; called once per frame, in order."""

    def update(self, detections: Sequence[Detection], time: float) -> Sequence[Tracked]:
        """What is known of the frame at ``time`` in seconds."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What comes out for one frame.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        faces: what became of each known face; empty if the frame is blank.
        held: places that were covered although no known face was found there.
        reason: why the whole frame is blank; None if it is not.
    """

    picture: Picture
    faces: tuple[SceneFace, ...] = ()
    held: int = 0
    reason: str | None = None


class FrameProcessor:
    """Processes the frames of one stream, in order; not for several streams or threads at once.

    Args:
        scene: finds and replaces faces; may be shared between streams.
        tracker: of this stream alone.
        hold: seconds, see :class:`lreorg_fast.live.hold.Hold`.
    """

    def __init__(self, scene: SceneAnonymizer, tracker: Tracker, hold: float) -> None:
        self.scene = scene
        self._tracker = tracker
        self._hold = Hold(hold)
        # Two streams that share a ledger must not share persons.
        self._name = f"live-{secrets.token_hex(4)}"
        self._last_seen: dict[str, float] = {}

    def __call__(self, picture: Picture, time: float) -> Shown:
        """Process the frame ``(H, W, 3)`` uint8 RGB of ``time`` in seconds; it is not changed.

        Raises whatever the detector or the tracker raise: then the frame must not be shown.
        """
        detections = self.scene.detect(picture)
        known = [
            KnownFace(face.detection, f"{self._name}/{face.track}")
            for face in self._tracker.update(detections, time)
            if face.seen
        ]
        result = self.scene.replace(picture, known)
        places = [*self._hold(known, time), *_unnamed(detections, known)]
        cover(result.image, places, known)
        self._forget(known, time)
        return Shown(result.image, result.faces, len(places))

    def blank(self, picture: Picture, reason: str) -> Shown:
        """A frame that could not be processed, as it may be shown."""
        return Shown(self.scene.blank(picture), reason=reason)

    def _forget(self, known: Sequence[KnownFace], time: float) -> None:
        self._last_seen.update((face.track, time) for face in known)
        gone = [track for track, last in self._last_seen.items() if time - last > _FORGET_S]
        for track in gone:
            del self._last_seen[track]
            if self.scene.anonymizer is not None:
                self.scene.anonymizer.ledger.forget(track)


def _unnamed(detections: Sequence[Detection], known: Sequence[KnownFace]) -> list[Detection]:
    """Detections that the tracker does not believe in yet: covered, without a draw."""
    return [
        detection
        for detection in detections
        if not any(overlap(detection.box, face.detection.box) > _SAME_FACE for face in known)
    ]
