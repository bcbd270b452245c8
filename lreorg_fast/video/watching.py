"""Statistics of each person while the video is made: a sample of frames, source against result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lreorg_fast.faces.detection import Detection, overlap
from lreorg_fast.faces.track_plan import DetectionTable, detection_of
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene import SceneAnonymizer
from lreorg_fast.video.checking import FaceCheck
from lreorg_fast.video.flicker import Flicker

if TYPE_CHECKING:
    from lreorg_fast.scene.judging import Recognition

# Landmarks of the result are looked for in 6 frames of 60, one after another: second differences
# need three, and a detector on every frame would double the time of the first pass.
_PERIOD, _WINDOW = 60, 6
_SAME = 0.3  # least overlap of a box with the face that it is taken for


class Watcher:
    """Measures :class:`lreorg_fast.video.flicker.Flicker` per track.

    Args:
        scene: its detector and recognizer look.
        table: detections of the source.
    """

    def __init__(self, scene: SceneAnonymizer, table: DetectionTable) -> None:
        self._scene, self._table = scene, table
        self._ends = np.cumsum(table.counts)
        self._tracks: dict[int, Flicker] = {}
        self._recognition: Recognition | None = scene.recognition

    def __call__(self, frame: int, checks: list[FaceCheck], shown: Picture) -> None:
        """One finished frame; failures of a statistic are no failures of the video."""
        if frame % _PERIOD >= _WINDOW:
            return
        faces = [check for check in checks if check.face.status == "replaced"]
        if not faces:
            return
        sources, results = self._of_source(frame), self._of_result(shown)
        for check in faces:
            flicker = self._tracks.setdefault(check.number, Flicker())
            for side, found in enumerate((sources, results)):
                near = nearest(check.face.detection, found)
                if near is not None:
                    size = check.face.detection.size
                    flicker.landmarks[side].add(frame, near.landmarks, size)
            if self._recognition is not None:
                for side, picture in enumerate((check.source, check.crop(shown))):
                    vector = self._recognition.vector(picture, check.moved)
                    if vector is not None:
                        flicker.identity[side].add(vector)

    def of(self, track: int) -> dict[str, float | None] | None:
        """What was measured of a track."""
        flicker = self._tracks.get(track)
        return None if flicker is None else flicker.to_dict()

    def _of_source(self, frame: int) -> list[Detection]:
        end = self._ends[frame]
        rows = self._table.values[end - self._table.counts[frame] : end]
        return [detection_of(row) for row in rows]

    def _of_result(self, shown: Picture) -> list[Detection]:
        try:
            return self._scene.detect(shown)
        except Exception:  # the result stands; there is one number less in the report
            return []


def nearest(face: Detection, found: list[Detection]) -> Detection | None:
    """The one that is at the same place; None if there is none."""
    best = max(found, key=lambda other: overlap(face.box, other.box), default=None)
    return best if best is not None and overlap(face.box, best.box) >= _SAME else None
