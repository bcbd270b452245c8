"""Cuts: seen where everything changes at once, and never where a person could be lost by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
from detectors import detection
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lreorg_fast.faces.shots import LOOK, cuts_of, look_of, parts_of
from lreorg_fast.faces.track_plan import DetectionTable, TrackPlan, plan_tracks
from lreorg_fast.media.pictures import Picture

RATE = 25
SIZE = (320, 180)


def photograph(name: str, size: tuple[int, int] = SIZE) -> Picture:
    picture = Image.fromarray(np.asarray(getattr(skimage.data, name)()))
    return np.asarray(picture.convert("RGB").resize(size))


def noisy(picture: Picture, seed: int) -> Picture:
    noise = np.random.default_rng(seed).normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def cuts(pictures: list[Picture]) -> list[int]:
    looks = np.stack([look_of(noisy(p, i)) for i, p in enumerate(pictures)])
    assert looks.shape == (len(pictures), LOOK)
    return cuts_of(looks, np.arange(len(pictures)) / RATE).tolist()


def test_cuts_between_photographs() -> None:
    shots = [photograph(name) for name in ("astronaut", "coffee", "camera", "astronaut")]
    pictures = [shot for shot in shots for _ in range(15)]
    assert cuts(pictures) == [15, 30, 45]


def test_a_cut_near_either_end_of_a_clip() -> None:
    a, b = photograph("astronaut"), photograph("coffee")
    assert cuts([a, *[b] * 20]) == [1]
    assert cuts([*[a] * 20, b]) == [20]
    assert cuts([a]) == []
    assert cuts_of(np.zeros((0, LOOK), np.uint8), np.zeros(0)).tolist() == []


WIDE = photograph("astronaut", (640, 360))
COFFEE = photograph("coffee", (640, 360))


def brighter(picture: Picture, by: int) -> Picture:
    return np.clip(picture.astype(int) + by, 0, 255).astype(np.uint8)


NO_CUTS: dict[str, Callable[[int], Picture]] = {
    "rest": lambda i: WIDE,
    "pan": lambda i: WIDE[90:270, 8 * i : 8 * i + 320],
    "whip pan": lambda i: np.roll(WIDE, 40 * i, axis=1)[:, :320],
    "zoom": lambda i: np.asarray(Image.fromarray(WIDE[i:, i:]).resize(SIZE)),
    "dissolve": lambda i: (WIDE * (1 - i / 30) + COFFEE * (i / 30)).astype(np.uint8),
    "fade": lambda i: (WIDE * max(0.0, 1 - i / 10)).astype(np.uint8),
    "flash": lambda i: brighter(WIDE, 200 * (i in (10, 11))),
    "long flash": lambda i: brighter(WIDE, 200 * (10 <= i < 15)),
    "a frame of something else": lambda i: COFFEE if i == 12 else WIDE,
    "lights": lambda i: WIDE if i < 15 else (WIDE * 0.4).astype(np.uint8),
    "a covered lens": lambda i: WIDE if not 10 <= i < 14 else np.full_like(WIDE, 40),
}


@pytest.mark.parametrize("name", NO_CUTS)
def test_what_is_no_cut(name: str) -> None:
    assert cuts([NO_CUTS[name](i) for i in range(30)]) == []


@given(
    seen=st.sets(st.integers(0, 59), min_size=1),
    at=st.sets(st.integers(1, 59), max_size=6),
)
def test_parts_are_the_track_and_lie_within_their_bounds(seen: set[int], at: set[int]) -> None:
    frames = np.array(sorted(seen))
    members = np.arange(len(frames))
    parts = parts_of(members, frames, np.array(sorted(at), dtype=np.int64), 60)
    assert np.concatenate([part.members for part in parts]).tolist() == members.tolist()
    assert [part.split for part in parts] == [
        (i > 0, i < len(parts) - 1) for i in range(len(parts))
    ]
    for part in parts:
        where = frames[part.members]
        low, high = part.bounds
        assert low <= where[0] <= where[-1] < high
        assert low == 0 or low in at
        assert high == 60 or high in at
    for one, other in itertools.pairwise(parts):
        assert one.bounds[1] == other.bounds[0]


def plan_of(seen: dict[int, float], frames: int, at: list[int]) -> TrackPlan:
    """One face at 60 + speed x frame; scores by frame."""
    table = DetectionTable.of_frames(
        [[detection(60, 60, 40, seen[i])] if i in seen else [] for i in range(frames)]
    )
    times = np.arange(frames) / RATE
    return plan_tracks(table, times, SIZE, None, RATE, np.array(at, dtype=np.int64))


def covered(plan: TrackPlan) -> set[int]:
    return {frame for frame, faces in enumerate(plan) if faces}


def test_nobody_is_extended_over_a_cut() -> None:
    seen = dict.fromkeys(range(10, 20), 0.9)
    assert covered(plan_of(seen, 40, [])) == set(range(5, 25))
    assert covered(plan_of(seen, 40, [8, 22])) == set(range(8, 22))


def test_a_track_is_two_persons_where_the_shot_changes() -> None:
    plan = plan_of(dict.fromkeys(range(40), 0.9), 40, [20])
    assert [(t.first, t.last) for t in plan.tracks] == [(0, 19), (20, 39)]


def test_a_gap_with_a_cut_in_it_is_covered_as_before() -> None:
    seen = dict.fromkeys([*range(10), *range(28, 40)], 0.9)
    assert covered(plan_of(seen, 40, [])) == set(range(40))
    plan = plan_of(seen, 40, [14])
    assert covered(plan) == set(range(40))
    assert [(t.first, t.last) for t in plan.tracks] == [(0, 13), (14, 39)]


def test_a_shot_in_which_nobody_was_seen_is_no_reason_to_lose_somebody() -> None:
    seen = dict.fromkeys([*range(10), *range(28, 40)], 0.9)
    plan = plan_of(seen, 40, [12, 25])
    assert covered(plan) == set(range(40))
    assert len(plan.tracks) == 1


def test_faint_detections_count_where_the_other_shot_is_sure() -> None:
    seen = {i: 0.9 if i < 20 else 0.1 for i in range(40)}
    assert covered(plan_of(seen, 40, [20])) == set(range(40))


@settings(max_examples=25)  # a tracker runs twice in each
@given(at=st.sets(st.integers(1, 59), max_size=6), gaps=st.sets(st.integers(0, 59), max_size=40))
def test_cuts_take_nothing_but_extensions_away(at: set[int], gaps: set[int]) -> None:
    seen = dict.fromkeys(set(range(60)) - gaps, 0.9)
    whole, cut = plan_of(seen, 60, []), plan_of(seen, 60, sorted(at))
    kept = {
        frame for frame, faces in enumerate(whole) if any(face.kind != "extended" for face in faces)
    }
    assert kept <= covered(cut)
