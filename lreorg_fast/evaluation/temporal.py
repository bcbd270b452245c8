"""How calm a face is through a video: the spread of its identity, and how its landmarks shake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.figures import Floats, mean_figure
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.pairs import seen
from lreorg_fast.evaluation.protocol import Indices, Judges, Observed
from lreorg_fast.video.flicker import Jitter, Spread

_FEWEST_FRAMES = 3
_Value = Callable[["TrackPair"], tuple[float, float] | None]


@dataclass(frozen=True)
class TrackPair:
    """One person through a video and through what a method made of it.

    Args:
        frames: (n,) numbers of the frames, in order.
        source, result: what the judges said of the face in these frames, landmarks in pixels of
            the frame.
        sizes: (n,) of the face in the source, in pixels; jitter is relative to it.

    Raises:
        ConfigError: frames out of order, or lengths that do not fit.
    """

    frames: Indices
    source: Observed
    result: Observed
    sizes: Floats

    def __post_init__(self) -> None:
        lengths = {len(self.frames), len(self.sizes)}
        lengths |= {len(self.source.released), len(self.result.released)}
        if len(lengths) > 1 or (np.diff(self.frames) <= 0).any():
            raise ConfigError(
                f"a track has {len(self.frames)} frames, which must rise and be as many as sizes, "
                f"source and result; their lengths are {sorted(lengths)}"
            )
        if not (self.sizes > 0).all():
            raise ConfigError("a track has a face of no size; give sizes in pixels above 0")


def temporal(tracks: Sequence[TrackPair], judges: Judges) -> list[Measured]:
    """``flicker_identity`` of every recognizer and ``flicker_landmarks``, means over tracks.

    Identity: root mean square distance of the unit embeddings to their mean within a track, over
    the same of the source; 1 is as calm as the source, 0 one unchanging face. Landmarks: root mean
    square second difference over three neighbouring frames in sizes of the face, so that even
    motion is none. Both as in the report of ``lreorg video``; frames that were not released, or in
    which no face was found, are left out.

    Args:
        tracks: of one video or of several; the interval draws tracks, and two are the least.
        judges: whose recognizers looked.
    """
    found = []
    for recognizer in judges.recognizers:
        name = recognizer.name

        def identity(track: TrackPair, name: str = name) -> tuple[float, float] | None:
            return _identity(track, name)

        found.append(_figure("flicker_identity", {"recognizer": name}, tracks, identity, _ratio))
    return [*found, _figure("flicker_landmarks", {}, tracks, _landmarks, _result)]


def _figure(
    metric: str,
    where: dict[str, str],
    tracks: Sequence[TrackPair],
    values: _Value,
    shown: Callable[[float, float], float],
) -> Measured:
    measured = [value for value in map(values, tracks) if value is not None]
    # A source that does not move at all has no ratio.
    measured = [pair for pair in measured if np.isfinite(shown(*pair))]
    if not measured:
        reason = f"no track has {_FEWEST_FRAMES} frames in which source and result show a face"
        return Measured(metric, None, where, reason)
    numbers = np.array([shown(*pair) for pair in measured])
    if len(numbers) < 2:
        reason = f"one track gives no interval (its value is {numbers[0]:.4g}); add tracks"
        return Measured(metric, None, where, reason)
    source, result = np.array(measured).mean(axis=0)
    note = (
        f"{len(numbers)} of {len(tracks)} tracks; mean of the source {source:.4g}, of the result "
        f"{result:.4g}"
    )
    return Measured(metric, mean_figure(numbers, note=note), where)


def _ratio(source: float, result: float) -> float:
    return result / source if source > 0 else np.nan


def _result(source: float, result: float) -> float:
    return result


def _identity(track: TrackPair, name: str) -> tuple[float, float] | None:
    """Spread of source and result over the frames in which both are seen."""
    sides = [track.source.embeddings[name], track.result.embeddings[name]]
    both = _shown(track) & seen(sides[0]) & seen(sides[1])
    if both.sum() < _FEWEST_FRAMES:
        return None
    spreads = Spread(), Spread()
    for spread, rows in zip(spreads, sides, strict=True):
        for row in rows[both]:
            spread.add(row)
    return _both(spreads[0].deviation, spreads[1].deviation)


def _landmarks(track: TrackPair) -> tuple[float, float] | None:
    """Jitter of source and result over the frames in which both have landmarks."""
    source, result = track.source.landmarks, track.result.landmarks
    if source is None or result is None:
        return None
    known = np.isfinite(source).all(axis=(1, 2)) & np.isfinite(result).all(axis=(1, 2))
    jitters = Jitter(), Jitter()
    for i in np.flatnonzero(_shown(track) & known):
        for jitter, points in zip(jitters, (source[i], result[i]), strict=True):
            jitter.add(int(track.frames[i]), points, float(track.sizes[i]))
    return _both(jitters[0].deviation, jitters[1].deviation)


def _shown(track: TrackPair) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return track.source.found & track.result.released & track.result.found


def _both(source: float | None, result: float | None) -> tuple[float, float] | None:
    return None if source is None or result is None else (source, result)
