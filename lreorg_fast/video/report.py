"""What became of a video and of everybody in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import lreorg_fast
from lreorg_fast.privacy import json_epsilon
from lreorg_fast.privacy.sealed import STATEMENT

PERSONS = (
    "Each track was counted as a person of its own: somebody who leaves and comes back, who is in "
    "several shots, or whose track was split into k, has cost k times the epsilon of one."
)


@dataclass(frozen=True)
class TrackReport:
    """One person.

    Attributes:
        track: the name in the ledger.
        first, last: numbers of frames.
        seen, between: frames in which the face was detected; in which it was not, but was covered
            because it was detected before or after.
        replaced, filled, pixelated: frames by what became of the face.
        seen_filled: frames in which the face was detected and filled though something else was
            asked for.
        reasons: number of fills by their reason.
        epsilon: what the draws of this person cost.
        score: best score of the detector.
        flicker: see :class:`lreorg_fast.video.flicker.Flicker`; None where nothing was measured.
    """

    track: str
    first: int
    last: int
    seen: int
    between: int
    replaced: int
    filled: int
    pixelated: int
    seen_filled: int
    reasons: Mapping[str, int]
    epsilon: float
    score: float
    flicker: Mapping[str, float | None] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"epsilon": json_epsilon(self.epsilon)}


@dataclass(frozen=True)
class VideoReport:
    """A video.

    Attributes:
        source, target: the files.
        frames: number of frames, in the source and in the result.
        faces: known faces, one per person and frame.
        exposed: known faces that could still be seen in the encoded video; it is 0, or there is
            no result.
        corrected: faces that were filled because the encoded picture failed the check.
        blanked: frames that were filled as a whole, because the detector failed.
        dropped: detections below the threshold that no person explains, and that were left.
        tracks: everybody.
        streams: other streams, kept and dropped.
        encoding: codec, quality and pixel format of the result.
        settings, bundle, engine, ledger: as in :class:`lreorg_fast.batch.BatchReport`.
        persons: how people were counted.
        seal: the file from which the holder of the private key can bring people back.
        cuts: frames with which a new shot begins; whoever is in both is two persons.
        resumed: segments that an interrupted run had made.
        seconds: wall time by pass.
    """

    source: str
    target: str
    frames: int
    faces: int
    exposed: int
    corrected: int
    blanked: int
    dropped: int
    tracks: tuple[TrackReport, ...]
    streams: Mapping[str, Any]
    encoding: Mapping[str, Any]
    settings: Mapping[str, Any]
    bundle: Mapping[str, Any]
    engine: Mapping[str, Any]
    ledger: Mapping[str, Any]
    persons: str = PERSONS
    seal: str | None = None
    cuts: tuple[int, ...] = ()
    resumed: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Nothing exposed, no frame blanked, no detected face filled against the settings."""
        filled = any(track.seen_filled for track in self.tracks)
        return not (self.exposed or self.blanked or filled)

    @property
    def counts(self) -> dict[str, int]:
        """Known faces by what became of them."""
        return {
            name: sum(getattr(track, name) for track in self.tracks)
            for name in ("replaced", "filled", "pixelated")
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content |= {"tracks": [track.to_dict() for track in self.tracks]}
        return {
            "package_version": lreorg_fast.__version__,
            "complete": self.complete,
            "counts": self.counts,
            **content,
            "sealed": None if self.seal is None else STATEMENT,
        }
