"""Faces that were known a moment ago and are not found now stay covered for a while.

A detector misses a face for some frames: a turned head, motion blur, a hand. The person is most
likely still there, so the place where the face was, where it was going, and some space around both
are filled until the face is found again or the hold time is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lreorg_fast.faces.blending import masks
from lreorg_fast.faces.detection import Detection, Floats, overlap
from lreorg_fast.faces.regions import face_shape, head_shapes, window_of
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.scene import KnownFace

# A covered place grows on each side by this many faces per second, up to half a face: somebody who
# walks through the picture of a room moves by about that much.
_GROWTH, _MOST_GROWTH = 1.5, 0.5
# A new track that starts on a lost face by this much is the same face under another number.
_SAME_PLACE = 0.5
# A slow stream has few frames in the hold time, and each is a chance to find the face again.
_LEAST_FRAMES = 3


# Speed is that of so many seconds. From the last two boxes alone it is wrong just when it counts:
# somebody who goes behind somebody else is found by the half that is still seen.
_PATH_S = 0.5


@dataclass(eq=False)
class _Trace:
    detection: Detection
    time: float
    path: deque[tuple[float, Floats]] = field(default_factory=deque)  # of the centre
    missed: int = 0

    def seen(self, detection: Detection, time: float) -> None:
        self.detection, self.time, self.missed = detection, time, 0
        self.path.append((time, (detection.box[:2] + detection.box[2:]) / 2))
        while time - self.path[0][0] > _PATH_S:
            self.path.popleft()

    def ahead(self, time: float) -> Floats:
        """The box where the face was going."""
        (start, before), (end, after) = self.path[0], self.path[-1]
        moved = (after - before) / (end - start) * (time - end) if end > start else np.zeros(2)
        return self.detection.box + np.tile(moved, 2)

    def place(self, time: float) -> Detection:
        """Where the face may be: from where it was to where it was going, and around."""
        box, ahead = self.detection.box, self.ahead(time)
        low, high = np.minimum(box[:2], ahead[:2]), np.maximum(box[2:], ahead[2:])
        margin = min(_GROWTH * (time - self.time), _MOST_GROWTH) * self.detection.size
        grown = np.concatenate([low - margin, high + margin])
        return Detection(grown, self.detection.score, self.detection.landmarks)


class Hold:
    """Where lost faces are covered; one instance per stream, called once per frame, in order.

    Args:
        seconds: for which a lost face stays covered, and for three frames at least.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._traces: dict[str, _Trace] = {}

    def __call__(self, known: Sequence[KnownFace], time: float) -> list[Detection]:
        """Take in the faces that are found in this frame, at ``time`` in seconds.

        Returns the places that must be covered in it.
        """
        new = [face for face in known if face.track not in self._traces]
        found = {face.track: face.detection for face in known}
        for track, detection in found.items():
            trace = self._traces.setdefault(track, _Trace(detection, time))
            trace.seen(detection, time)
        places = []
        for track in [track for track in self._traces if track not in found]:
            trace = self._traces[track]
            trace.missed += 1
            late = time - trace.time > self.seconds and trace.missed > _LEAST_FRAMES
            if late or _taken_over(trace.ahead(time), new):
                del self._traces[track]
            else:
                places.append(trace.place(time))
        return places


def cover(picture: Picture, places: Sequence[Detection], known: Sequence[KnownFace]) -> None:
    """Fill places in ``picture`` itself, except where a known face has been replaced."""
    size = (picture.shape[1], picture.shape[0])
    for place in places:
        shapes = head_shapes(place)
        window = window_of(shapes, size)
        if window.empty:
            continue
        _, covered = masks(shapes, window)
        for face in known:
            covered &= ~masks([face_shape(face.detection)], window)[1]
        picture[window.slices][covered] = FILL_COLOUR


def _taken_over(box: Floats, new: Sequence[KnownFace]) -> bool:
    return any(overlap(box, face.detection.box) > _SAME_PLACE for face in new)
