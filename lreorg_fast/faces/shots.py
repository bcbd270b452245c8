"""Where one shot of a clip ends and the next begins, and what that means for the people in it.

A cut that is seen where there is none would end a track too early, and a face could be missed; so
a cut must be seen by its colours and by its layout, over three frames on both sides, and a shot
has a least length. A cut that is not seen costs some background only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lreorg_fast.media.pictures import Picture

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Looks = NDArray[np.uint8]

_BINS = 16  # of each colour
_AT_ONCE = 1 << 14  # frames: ten hours have a million
_GRID = 8  # cells of the layout, each way
LOOK = 3 * _BINS + _GRID * _GRID  # bytes of one frame
_SAMPLES = 64  # pixels along the shorter side that are looked at
# Frames on each side that must all differ from all on the other: a flash of a camera, or a frame
# that was damaged, does not last so long.
_AROUND = 3
# Least share of pixels that change their colour, and the most that the layouts may correlate. Of
# drawn and filmed shots (docs/video.md) cuts have 0.3 and more, and a pan, a zoom, a fade or
# somebody who walks through has less, or a layout that stays.
_LEAST_CHANGE, _MOST_ALIKE = 0.25, 0.7
# Within a shot, neighbours differ by at most this share of what the cut does.
_CALM = 0.5
# A shorter shot is taken for a flash or for lights that go out.
_LEAST_SECONDS = 0.5


def look_of(picture: Picture) -> Looks:
    """(LOOK,) uint8: colours and layout of a frame (H, W, 3) uint8 RGB, in less than 1 ms."""
    step = max(1, min(picture.shape[:2]) // _SAMPLES)
    part = np.ascontiguousarray(picture[::step, ::step])
    bins = part.reshape(-1, 3) // (256 // _BINS)
    counts = np.stack([np.bincount(bins[:, c], minlength=_BINS) for c in range(3)])
    colours = np.rint(counts * (255 / len(bins))).astype(np.uint8)
    gray = Image.fromarray(part).convert("L").resize((_GRID, _GRID), Image.Resampling.BOX)
    return np.concatenate([colours.ravel(), np.asarray(gray, dtype=np.uint8).ravel()])


def cuts_of(looks: Looks, times: Floats) -> Integers:
    """Numbers of the frames with which a new shot begins, without the first frame.

    Args:
        looks: (frames, LOOK) of :func:`look_of`.
        times: (frames,) seconds, rising.
    """
    changes = _changes(looks)
    found: list[int] = []
    for frame in np.flatnonzero(changes >= _LEAST_CHANGE) + 1:
        if _is_cut(int(frame), looks, changes):
            found.append(int(frame))
    return np.array(_long_enough(found, times), dtype=np.int64)


def _changes(looks: Looks) -> Floats:
    """(frames - 1,) share of pixels whose colour is another than in the frame before."""
    made = np.zeros(max(0, len(looks) - 1))
    for start in range(0, len(made), _AT_ONCE):
        colours = looks[start : start + _AT_ONCE + 1, : 3 * _BINS].astype(np.int16)
        change = np.abs(np.diff(colours, axis=0)).sum(axis=1, dtype=np.int64)
        made[start : start + _AT_ONCE] = change / (2 * 3 * 255)
    return made


def _is_cut(frame: int, looks: Looks, changes: Floats) -> bool:
    low, high = max(0, frame - _AROUND), min(len(looks), frame + _AROUND)
    across = changes[frame - 1]
    inside = np.delete(changes[low : high - 1], frame - 1 - low)
    if (inside > _CALM * across).any():
        return False
    return all(_differ(looks[a], looks[b]) for a in range(low, frame) for b in range(frame, high))


def _differ(a: Looks, b: Looks) -> bool:
    if _changes(np.stack([a, b]))[0] < _LEAST_CHANGE:
        return False
    x, y = (look[3 * _BINS :].astype(np.float64) for look in (a, b))
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return length == 0 or float(x @ y) / length <= _MOST_ALIKE


def _long_enough(cuts: Sequence[int], times: Floats) -> list[int]:
    """Without both ends of a shot that is too short; the clip itself may begin or end with one."""
    kept: list[int] = []
    for cut in cuts:
        if kept and times[cut] - times[kept[-1]] < _LEAST_SECONDS:
            kept.pop()
        else:
            kept.append(cut)
    return kept


@dataclass(frozen=True, eq=False)
class Part:
    """What belongs to one person within one shot.

    Attributes:
        members: indices of detections.
        bounds: first frame in which the person may be, and the one after the last.
        split: whether the same track goes on before, and after.
    """

    members: Integers
    bounds: tuple[int, int]
    split: tuple[bool, bool]


def parts_of(members: Integers, frames: Integers, cuts: Integers, length: int) -> list[Part]:
    """A track, cut where a shot ends between two of its detections.

    Where more than one cut lies between two detections it is not split: nobody was seen in the
    shot between, and the gap is filled as any other.

    Args:
        members: indices of its detections, rising.
        frames: frame of each detection of the clip.
        cuts: see :func:`cuts_of`.
        length: number of frames of the clip.
    """
    where = frames[members]
    shots = np.searchsorted(cuts, where, side="right")
    ends = np.flatnonzero(np.diff(shots) == 1) + 1
    pieces = np.split(members, ends)
    edges = [0, *cuts.tolist(), length]
    return [
        Part(
            piece,
            (edges[shots[start]], edges[shots[start + len(piece) - 1] + 1]),
            (i > 0, i < len(pieces) - 1),
        )
        for i, (piece, start) in enumerate(zip(pieces, [0, *ends.tolist()], strict=True))
    ]
