"""Everybody in every frame of a whole clip: detections linked forwards and backwards, gaps filled.

One pass of a tracker misses the faint beginning of every track; the pass backwards finds it. What
both say is joined where they do not contradict each other. Detections that only one of them, or
none, explains stay known as long as they are sure enough by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.faces.detection import Detection, overlap
from lreorg_fast.faces.shots import Part, parts_of
from lreorg_fast.faces.smoothing import smoothed
from lreorg_fast.faces.tracking import Associator, TrackingSettings, reached

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Kind = Literal["seen", "gap", "extended"]
_WIDTH = 15  # numbers of one detection: box, score, landmarks
# The speed at the end of a track is measured over so many detections.
_SPEED_OVER = 4


class DetectionTable:
    """The detections of a clip, 60 bytes each: ten hours with four faces fit 260 MB.

    Args:
        counts: (frames,) number of detections of each frame.
        values: (detections, 15) float32: box, score, landmarks row by row.
    """

    def __init__(self, counts: Integers | None = None, values: NDArray[np.float32] | None = None):
        self.counts: Integers = np.zeros(0, np.int64) if counts is None else counts
        self.values: NDArray[np.float32] = (
            np.zeros((0, _WIDTH), np.float32) if values is None else values
        )

    @classmethod
    def of_frames(cls, frames: Iterable[Sequence[Detection]]) -> DetectionTable:
        """One entry per frame."""
        counts, rows = [], []
        for detections in frames:
            counts.append(len(detections))
            rows += [_row(found) for found in detections]
        values = np.array(rows, dtype=np.float32).reshape(-1, _WIDTH)
        return cls(np.array(counts, dtype=np.int64), values)

    @classmethod
    def joined(cls, tables: Sequence[DetectionTable]) -> DetectionTable:
        """One table after another."""
        if not tables:
            return cls()
        return cls(
            np.concatenate([table.counts for table in tables]),
            np.concatenate([table.values for table in tables]),
        )

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def frames(self) -> Integers:
        """(detections,) frame of each."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def _row(found: Detection) -> Floats:
    return np.concatenate([found.box, [found.score], found.landmarks.ravel()])


def detection_of(row: NDArray[np.floating]) -> Detection:
    """A row of a table as a detection."""
    values = np.asarray(row, dtype=np.float64)
    return Detection(values[:4], float(min(max(values[4], 0), 1)), values[5:].reshape(5, 2))


@dataclass(frozen=True, eq=False)
class PlannedFace:
    """One person in one frame.

    Attributes:
        detection: where; landmarks are smoothed, the box covers what was detected.
        track: number of the person in this clip, from 0.
        kind: ``seen`` (detected here), ``gap`` (between two detections) or ``extended`` (before
            the first or after the last).
    """

    detection: Detection
    track: int
    kind: Kind


@dataclass(frozen=True)
class TrackSummary:
    """One person: first and last frame, number of frames by kind, best score."""

    track: int
    first: int
    last: int
    seen: int
    filled: int
    score: float


class TrackPlan:
    """What :func:`plan_tracks` found; indexing gives the faces of a frame.

    Attributes:
        tracks: one summary per person.
        dropped: detections below the threshold that no person explains.
    """

    def __init__(
        self,
        frames: int,
        rows: NDArray[np.float32],
        where: Integers,
        who: Integers,
        kinds: NDArray[np.int8],
        tracks: Sequence[TrackSummary],
        dropped: int,
    ) -> None:
        order = np.lexsort((who, where))
        self._rows, self._who, self._kinds = rows[order], who[order], kinds[order]
        self._starts = np.searchsorted(where[order], np.arange(frames + 1))
        self.tracks, self.dropped = tuple(tracks), dropped

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, frame: int) -> tuple[PlannedFace, ...]:
        part = range(self._starts[frame], self._starts[frame + 1])
        return tuple(
            PlannedFace(detection_of(self._rows[i]), int(self._who[i]), _KINDS[self._kinds[i]])
            for i in part
        )

    def __iter__(self) -> Iterator[tuple[PlannedFace, ...]]:
        return (self[frame] for frame in range(len(self)))


_KINDS: tuple[Kind, ...] = ("seen", "gap", "extended")


def plan_tracks(
    table: DetectionTable,
    times: Floats,
    size: tuple[int, int],
    settings: TrackingSettings | None = None,
    rate: float | None = None,
    cuts: Integers | None = None,
) -> TrackPlan:
    """Link all detections of a clip to persons and say where each is in every frame.

    Args:
        table: detections from ``settings.low_threshold`` on.
        times: (frames,) seconds, rising.
        size: (width, height) of the frames: nobody is sought outside.
        settings: how faces are followed.
        rate: frames per second; the median of ``times`` if None.
        cuts: frames with which a new shot begins (:func:`lreorg_fast.faces.shots.cuts_of`): nobody
            is followed over one. None is one shot.

    Raises:
        MissingExtra: see :class:`lreorg_fast.faces.tracking.Associator`.
    """
    settings = settings or TrackingSettings()
    rate = rate or _rate(times)
    groups = _linked(table, times, settings, rate)
    frames = table.frames
    cuts = np.zeros(0, np.int64) if cuts is None else cuts
    parts: list[tuple[NDArray[np.float32], Integers, NDArray[np.int8], Integers]] = []
    tracks: list[TrackSummary] = []
    dropped = 0
    for members in groups:
        # As float32, or a score of exactly the threshold could be below it.
        if table.values[members, 4].max() < np.float32(settings.threshold):
            dropped += len(members)
            continue
        for piece in parts_of(members, frames, cuts, len(times)):
            rows, at = table.values[piece.members], frames[piece.members]
            track = len(tracks)
            part = _path(rows, at, times, size, settings, piece)
            parts.append((*part, np.full(len(part[0]), track)))
            tracks.append(_summary(track, part, float(rows[:, 4].max())))
    if not parts:
        empty = np.zeros(0, np.int64)
        rows = np.zeros((0, _WIDTH), np.float32)
        return TrackPlan(len(times), rows, empty, empty, empty.astype(np.int8), (), dropped)
    rows = np.concatenate([part[0] for part in parts])
    where, who = (np.concatenate([part[i] for part in parts]) for i in (1, 3))
    kinds = np.concatenate([part[2] for part in parts])
    return TrackPlan(len(times), rows, where, who, kinds, tracks, dropped)


def _rate(times: Floats) -> float:
    steps = np.diff(times)
    return float(1 / np.median(steps)) if len(steps) and np.median(steps) > 0 else 25.0


def _summary(
    track: int, part: tuple[NDArray[np.float32], Integers, NDArray[np.int8]], score: float
) -> TrackSummary:
    _, where, kinds = part
    seen = int((kinds == 0).sum())
    return TrackSummary(
        track, int(where.min()), int(where.max()), seen, len(where) - seen, round(score, 4)
    )


# ---- linking


def _linked(
    table: DetectionTable, times: Floats, settings: TrackingSettings, rate: float
) -> list[Integers]:
    """Indices of detections, person by person, in the order of their first frames."""
    forwards = _one_way(table, times, settings, rate, range(len(table)))
    backwards = _one_way(table, times, settings, rate, range(len(table) - 1, -1, -1))
    frames = table.frames
    people = _People(frames)
    for track in _groups(forwards):
        people.add(track)
    for track in _groups(backwards):
        people.join(track)
    return people.members()


def _one_way(
    table: DetectionTable,
    times: Floats,
    settings: TrackingSettings,
    rate: float,
    order: Sequence[int],
) -> Integers:
    """Track of each detection, -1 for none, as one pass of ByteTrack says."""
    found = np.full(len(table.values), -1, dtype=np.int64)
    boxes = table.values[:, :4].astype(np.float64)
    ends = np.cumsum(table.counts)
    associate = Associator(settings, rate)
    named: set[int] = set()
    recent: list[Integers] = []
    for frame in order:
        here = np.arange(ends[frame] - table.counts[frame], ends[frame])
        time = abs(float(times[frame] - times[order[0]]))
        found[here] = associate(boxes[here], table.values[here, 4], time)
        for index in here[found[here] >= 0]:
            if int(found[index]) not in named:
                named.add(int(found[index]))
                _name_the_first(index, recent, boxes, found, settings)
        recent = [*recent[-1:], here]
    return found


def _name_the_first(
    index: int,
    recent: Sequence[Integers],
    boxes: Floats,
    found: Integers,
    settings: TrackingSettings,
) -> None:
    """ByteTrack names a track at its second detection; give the first one the same name."""
    for indices in reversed(recent):
        free = [i for i in indices if found[i] < 0]
        shares = [overlap(boxes[i], boxes[index]) for i in free]
        if shares and max(shares) >= settings.least_overlap:
            found[free[int(np.argmax(shares))]] = found[index]
            return


def _groups(tracks: Integers) -> list[Integers]:
    order = np.argsort(tracks, kind="stable")
    bounds = np.searchsorted(tracks[order], np.unique(tracks[tracks >= 0]), side="left")
    return [np.sort(part) for part in np.split(order, bounds)[1:]]


class _People:
    """Disjoint groups of detections; no group has two of one frame."""

    def __init__(self, frames: Integers) -> None:
        self._frames = frames
        self._of = np.full(len(frames), -1, dtype=np.int64)
        self._groups: dict[int, Integers] = {}
        self._next = 0

    def add(self, indices: Integers) -> None:
        """A new group."""
        number, self._next = self._next, self._next + 1
        self._groups[number] = indices
        self._of[indices] = number

    def join(self, indices: Integers) -> None:
        """Indices that the other pass takes for one person: merge what does not contradict."""
        free = indices[self._of[indices] < 0]
        numbers = list(dict.fromkeys(self._of[indices[self._of[indices] >= 0]].tolist()))
        # The longest first: whoever is merged later must fit it.
        numbers.sort(key=lambda number: -len(self._groups[number]))
        target = None
        for number in numbers:
            if target is None:
                target = number
            elif self._apart(self._groups[target], self._groups[number]):
                self._merge(target, self._groups.pop(number))
        if target is None:
            if len(free):
                self.add(free)
            return
        taken = np.isin(self._frames[free], self._frames[self._groups[target]])
        self._merge(target, free[~taken])

    def members(self) -> list[Integers]:
        """Every group, and everything that is in none as a group of its own."""
        alone = [np.array([i]) for i in np.flatnonzero(self._of < 0)]
        return sorted([*self._groups.values(), *alone], key=lambda group: int(group[0]))

    def _apart(self, a: Integers, b: Integers) -> bool:
        """One ends before the other begins: two people who are there together are two."""
        a, b = self._frames[a], self._frames[b]
        return bool(a.max() < b.min() or b.max() < a.min())

    def _merge(self, number: int, indices: Integers) -> None:
        self._groups[number] = np.sort(np.concatenate([self._groups[number], indices]))
        self._of[indices] = number


# ---- the way of one person


def _path(
    rows: NDArray[np.float32],
    frames: Integers,
    times: Floats,
    size: tuple[int, int],
    settings: TrackingSettings,
    piece: Part,
) -> tuple[NDArray[np.float32], Integers, NDArray[np.int8]]:
    """Rows, frames and kinds of one person, gaps filled, smoothed and extended.

    Where the track goes on in another shot the extension reaches the cut, however far the gap.
    """
    where = np.arange(frames[0], frames[-1] + 1)
    seen = np.isin(where, frames)
    at, known = times[where], times[frames]
    filled = np.stack(
        [np.interp(at, known, rows[:, i].astype(np.float64)) for i in range(_WIDTH)], axis=1
    )
    calm = smoothed(at, filled, settings.smooth_seconds)
    made = np.array(calm)
    made[:, :2] = np.minimum(calm[:, :2], filled[:, :2])
    made[:, 2:4] = np.maximum(calm[:, 2:4], filled[:, 2:4])
    made[:, 4] = filled[:, 4]
    kinds = np.where(seen, 0, 1).astype(np.int8)
    seconds = [settings.lost_seconds if on else settings.extend_seconds for on in piece.split]
    before = _extension(made, at, times, where[0], -1, size, seconds[0], piece.bounds)
    after = _extension(made, at, times, where[-1], 1, size, seconds[1], piece.bounds)
    rows_out = np.concatenate([*(part[0] for part in before), made, *(part[0] for part in after)])
    extra = [np.array([part[1] for part in side], dtype=np.int64) for side in (before, after)]
    return (
        rows_out.reshape(-1, _WIDTH).astype(np.float32),
        np.concatenate([extra[0], where, extra[1]]),
        np.concatenate([np.full(len(extra[0]), 2), kinds, np.full(len(extra[1]), 2)]).astype(
            np.int8
        ),
    )


def _extension(
    rows: Floats,
    at: Floats,
    times: Floats,
    end: int,
    way: int,
    size: tuple[int, int],
    seconds: float,
    bounds: tuple[int, int],
) -> list[tuple[Floats, int]]:
    """Rows (1, 15) and frames beyond one end of a path, as far as the face is in the picture and
    the shot goes on."""
    last = detection_of(rows[-1 if way > 0 else 0])
    near = slice(-_SPEED_OVER, None) if way > 0 else slice(None, _SPEED_OVER)
    centres = (rows[near, :2] + rows[near, 2:4]) / 2
    span = at[near][-1] - at[near][0]
    speed = (centres[-1] - centres[0]) / span if span > 0 else np.zeros(2)
    result = []
    frame = end + way
    while bounds[0] <= frame < bounds[1] and abs(times[frame] - times[end]) <= seconds:
        found = reached(last, speed * (times[frame] - times[end]))
        if (found.box[2:] <= 0).any() or (found.box[:2] >= size).any():
            break
        result.append((_row(found)[None], frame))
        frame += way
    return result
