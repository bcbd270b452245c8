"""Whether a face that is known can still be seen: judged on what was decoded again.

Two judges. The pixels: what is shown must be nearer to what was meant than to the source. The
method's own: for new faces the bundle's recognizer must not take the shown face for the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.scene import KnownFace, SceneAnonymizer, SceneFace

# Around a face so many of its sizes are kept for judging: what alignment looks at.
_MARGIN = 1.0
# Of a face's box so much must have been edited: an ellipse covers 0.79 of its box.
_LEAST_EDITED = 0.6
# An edit that moves a face's pixels by less, in levels of 255, is none.
_LEAST_CHANGE = 2.0

UNEDITED = "the face is hardly edited"
NOT_AS_MEANT = "the encoded face is nearer to the source than to what was meant"


@dataclass(frozen=True, eq=False)
class FaceCheck:
    """One face of one frame, kept until its frame comes back from the encoder.

    Attributes:
        face: as the scene described it.
        window: (left, top, right, bottom) of the crops in the frame.
        source, meant: crops of the frame before and after.
        number: of the face's track in this video.
    """

    face: SceneFace
    window: tuple[int, int, int, int]
    source: Picture
    meant: Picture
    number: int = 0

    @classmethod
    def of_face(
        cls, face: SceneFace, source: Picture, meant: Picture, number: int = 0
    ) -> FaceCheck | None:
        """None where nothing of the face's box lies in the picture."""
        height, width = source.shape[:2]
        box = face.detection.box
        if (box[2:] <= 0).any() or (box[:2] >= (width, height)).any():
            return None
        margin = _MARGIN * face.detection.size
        low, high = np.floor(box[:2] - margin), np.ceil(box[2:] + margin)
        left, top = (int(v) for v in np.clip(low, 0, (width, height)))
        right, bottom = (int(v) for v in np.clip(high, 0, (width, height)))
        window = (left, top, right, bottom)
        return cls(face, window, _crop(source, window), _crop(meant, window), number)

    def doubt(self, scene: SceneAnonymizer, shown: Picture) -> str | None:
        """Why the face may not leave as it is shown; None if it may.

        Args:
            scene: judges new faces.
            shown: the whole decoded frame.
        """
        made = self.crop(shown)
        reason = self._pixels(made)
        if reason is None and self.face.status == "replaced":
            (reason,) = scene.doubts(self.source, made, [KnownFace(self.moved, self.face.track)])
        return reason

    def crop(self, picture: Picture) -> Picture:
        """The window of another picture of this frame."""
        return _crop(picture, self.window)

    @property
    def moved(self) -> Detection:
        """The detection in the coordinates of the crops."""
        corner = np.array(self.window[:2], dtype=np.float64)
        found = self.face.detection
        return Detection(found.box - np.tile(corner, 2), found.score, found.landmarks - corner)

    def _pixels(self, made: Picture) -> str | None:
        x0, y0, x1, y1 = np.rint(self.moved.box).astype(int)
        inside = (slice(max(y0, 0), max(y1, 0)), slice(max(x0, 0), max(x1, 0)))
        source, meant, shown = (p[inside].astype(np.int16) for p in (self.source, self.meant, made))
        if not source.size:
            return None
        edited = (source != meant).any(axis=2)
        filled = (meant == np.array(FILL_COLOUR)).all(axis=2)
        change = np.abs(meant - source)[edited].mean() if edited.any() else 0.0
        solid = self.face.status == "filled"
        if (edited | (filled & solid)).mean() < _LEAST_EDITED:
            return UNEDITED
        if change < _LEAST_CHANGE:  # a face that had the colour of a fill is no face
            return None if solid else UNEDITED
        near, far = (np.abs(shown - other)[edited].mean() for other in (meant, source))
        return NOT_AS_MEANT if near >= far else None


def _crop(picture: Picture, window: tuple[int, int, int, int]) -> Picture:
    left, top, right, bottom = window
    return np.array(picture[top:bottom, left:right])
