"""People are followed through everything that the avatar clips hold, and nobody known is lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lreorg_fast.avatars import PATHS, AvatarClip, SceneConfig, TrueFace
from lreorg_fast.errors import ConfigError
from lreorg_fast.faces.detection import Detection, overlap
from lreorg_fast.faces.track_plan import DetectionTable, TrackPlan, plan_tracks
from lreorg_fast.faces.tracking import OnlineTracker, TrackedFace, TrackingSettings

RATE = 30.0
SIZE = (320, 192)


def clip(frames: int = 90, paths: Sequence[str] = tuple(PATHS), size: int = 48) -> AvatarClip:
    return AvatarClip(SceneConfig(*SIZE, frames=frames, paths=tuple(paths), size=size))


def seen(face: TrueFace, score: float = 0.8) -> Detection:
    return Detection(face.box, score, face.landmarks)


def detections(
    films: AvatarClip, least: float = 0.4, noise: float = 0.0, seed: int = 0
) -> list[list[Detection]]:
    """What a good detector says: who is visible to this share, shaken by ``noise`` pixels."""
    random = np.random.default_rng(seed)
    return [
        [
            Detection(
                face.box + random.normal(size=4) * noise,
                0.8,
                face.landmarks + random.normal(size=(5, 2)) * noise,
            )
            for face in films.faces(i)
            if face.visible >= least
        ]
        for i in range(len(films))
    ]


def plan(frames: Sequence[Sequence[Detection]], **how: float) -> TrackPlan:
    times = np.arange(len(frames)) / RATE
    return plan_tracks(DetectionTable.of_frames(frames), times, SIZE, TrackingSettings(**how))


def people(films: AvatarClip, planned: TrackPlan, least: float = 0.5) -> list[set[int]]:
    """For every path the tracks that cover it best in the frames where it can be seen."""
    found: list[set[int]] = [set() for _ in films.config.paths]
    for i in range(len(films)):
        for face in films.faces(i):
            if face.visible < least:
                continue
            overlaps = {p.track: overlap(p.detection.box, face.box) for p in planned[i]}
            assert overlaps, f"nobody is known in frame {i}"
            best = max(overlaps, key=overlaps.__getitem__)
            assert overlaps[best] > 0.5, f"person {face.person} is not covered in frame {i}"
            found[face.person].add(best)
    return found


def test_everybody_keeps_one_track_and_nobody_shares_it() -> None:
    films = clip()
    found = people(films, plan(detections(films, noise=0.5)))
    names = films.config.paths
    # Who leaves for longer than ``lost_seconds`` comes back as somebody new: another draw.
    away = names.index("leaving and returning")
    assert all(len(tracks) == 1 for i, tracks in enumerate(found) if i != away)
    assert len(found[away]) == 2
    assert sum(map(len, found)) == len(set().union(*found))


def test_a_short_absence_is_a_gap_and_filled() -> None:
    films = clip(paths=["waiting"])
    frames = detections(films)
    for i in (0, 1, *range(20, 30), 55, 56, 89):
        frames[i] = []
    planned = plan(frames)
    assert [len(faces) for faces in planned] == [1] * len(films)
    kinds = [faces[0].kind for faces in planned]
    assert kinds[20:30] == ["gap"] * 10
    assert kinds[:2] == ["extended"] * 2
    assert kinds[89] == "extended"
    assert people(films, planned) == [{0}]
    (track,) = planned.tracks
    assert (track.first, track.last, track.seen, track.filled) == (0, 89, 75, 15)


def test_faint_beginnings_are_found_backwards() -> None:
    """Half a second below the threshold, then sure: one pass forwards would begin late."""
    films = clip(paths=["waiting"])
    frames = [
        [Detection(f.box, 0.12 if i < 15 else 0.8, f.landmarks) for f in films.faces(i)]
        for i in range(len(films))
    ]
    planned = plan(frames)
    assert [faces[0].kind for faces in planned] == ["seen"] * len(films)
    assert planned.dropped == 0
    assert len(planned.tracks) == 1


def test_what_is_never_sure_is_no_person_and_what_is_once_sure_is_one() -> None:
    films = clip(paths=["waiting"])
    doubtful = [[seen(face, 0.15) for face in films.faces(i)] for i in range(len(films))]
    planned = plan(doubtful)
    assert not planned.tracks
    assert planned.dropped == len(films)
    assert not any(planned)
    doubtful[40] = [seen(face, 0.2) for face in films.faces(40)]
    assert [len(faces) for faces in plan(doubtful)] == [1] * len(films)


def test_one_frame_is_a_person() -> None:
    films = clip(paths=["waiting"])
    frames: list[list[Detection]] = [[] for _ in range(30)]
    frames[15] = [seen(films.faces(15)[0])]
    planned = plan(frames, extend_seconds=0.1)
    assert [len(faces) for faces in planned] == [0] * 12 + [1] * 7 + [0] * 11
    assert len(planned.tracks) == 1


def test_a_tracker_that_splits_loses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    films = clip()
    frames = detections(films)

    class Forgetful:
        """Says somebody new in every frame, or nothing at all."""

        def __init__(self, *_: object) -> None:
            self.count = 0

        def __call__(self, boxes: np.ndarray, *_: object) -> list[int]:
            self.count += len(boxes)
            return [self.count + i if i % 2 else -1 for i in range(len(boxes))]

    monkeypatch.setattr("lreorg_fast.faces.track_plan.Associator", Forgetful)
    planned = plan(frames)
    for i, found in enumerate(frames):
        for detection in found:
            assert any(overlap(p.detection.box, detection.box) > 0.5 for p in planned[i])


def test_extension_follows_the_motion_and_ends_at_the_border() -> None:
    films = clip(paths=["leaving and returning"])
    planned = plan(detections(films, least=0.6), extend_seconds=0.5)
    for i in range(len(films)):
        for face in films.faces(i):
            if face.visible > 0.05:
                assert any(overlap(p.detection.box, face.box) > 0.3 for p in planned[i])
    assert not planned[len(films) // 2]  # outside for a second: nobody is painted there


def test_nothing_is_extended_when_nothing_is_asked() -> None:
    films = clip(paths=["waiting"])
    frames = detections(films)
    frames[0] = []
    assert [len(faces) for faces in plan(frames, extend_seconds=0)] == [0] + [1] * 89
    assert len(plan(frames, extend_seconds=0.2)[0]) == 1


def test_smoothing_calms_landmarks_and_boxes_still_cover() -> None:
    films = clip(paths=["waiting", "crossing"])
    frames = detections(films, least=0, noise=1.0)

    def jitter(planned: TrackPlan, track: int) -> float:
        points = [p.detection.landmarks for faces in planned for p in faces if p.track == track]
        return float(np.diff(points, n=2, axis=0).std())

    rough, calm = plan(frames, smooth_seconds=0), plan(frames, smooth_seconds=0.05)
    for track in range(2):
        assert jitter(calm, track) < 0.35 * jitter(rough, track)
    for faces, found in zip(calm, frames, strict=True):
        for planned in faces:
            inside = [
                (planned.detection.box[:2] <= f.box[:2] + 1e-3).all()
                and (planned.detection.box[2:] >= f.box[2:] - 1e-3).all()
                for f in found
            ]
            assert any(inside)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), misses=st.floats(0, 0.5), least=st.floats(0.1, 0.9))
def test_no_sure_detection_is_ever_lost(seed: int, misses: float, least: float) -> None:
    random = np.random.default_rng(seed)
    films = clip(frames=24, size=32)
    frames = [
        [found for found in frame if random.random() >= misses]
        for frame in detections(films, least, noise=2.0, seed=seed)
    ]
    planned = plan(frames)
    for i, found in enumerate(frames):
        for detection in found:
            assert any(
                (p.detection.box[:2] <= detection.box[:2] + 1e-3).all()
                and (p.detection.box[2:] >= detection.box[2:] - 1e-3).all()
                for p in planned[i]
            )
    for faces in planned:
        tracks = [face.track for face in faces]
        assert len(tracks) == len(set(tracks))  # one person is in one place


def test_a_table_is_compact_and_joins() -> None:
    films = clip(frames=20)
    frames = detections(films)
    table = DetectionTable.of_frames(frames)
    assert table.values.nbytes == 60 * sum(map(len, frames))
    halves = [DetectionTable.of_frames(frames[:7]), DetectionTable.of_frames(frames[7:])]
    joined = DetectionTable.joined(halves)
    assert np.array_equal(joined.values, table.values)
    assert np.array_equal(joined.counts, table.counts)
    assert len(DetectionTable.joined([])) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0},
        {"low_threshold": 0.5},
        {"lost_seconds": -1},
        {"extend_seconds": 61},
        {"least_overlap": 1},
        {"smooth_seconds": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrackingSettings(**wrong)


# ---- live


def follow(frames: Sequence[Sequence[Detection]], **how: float) -> list[list[TrackedFace]]:
    tracker = OnlineTracker(TrackingSettings(**how), RATE)
    return [tracker.update(found, i / RATE) for i, found in enumerate(frames)]


def test_live_people_keep_their_numbers() -> None:
    films = clip(paths=["crossing", "crossing back", "waiting"])
    found: list[set[int]] = [set() for _ in range(3)]
    for i, faces in enumerate(follow(detections(films))):
        for truth in films.faces(i):
            if truth.visible < 0.5:
                continue
            best = max(faces, key=lambda face: overlap(face.detection.box, truth.box))
            assert overlap(best.detection.box, truth.box) > 0.5
            found[truth.person].add(best.track)
    assert [len(tracks) for tracks in found] == [1, 1, 1]
    assert len(set().union(*found)) == 3


def test_live_somebody_unseen_stays_known_for_a_while() -> None:
    films = clip(paths=["crossing"])
    frames = detections(films)
    for i in range(40, 90):
        frames[i] = []
    faces = follow(frames, lost_seconds=0.5)
    assert [len(found) for found in faces] == [1] * 55 + [0] * 35
    assert not any(face.seen for found in faces[40:] for face in found)
    for i in range(40, 55):  # the box grows along the way, so that it covers the face
        (face,), (truth,) = faces[i], films.faces(i)
        assert (face.detection.box[:2] <= truth.box[:2] + 4).all()
        assert (face.detection.box[2:] >= truth.box[2:] - 4).all()


def test_live_a_doubtful_detection_counts_only_for_somebody_known() -> None:
    films = clip(paths=["waiting"])
    doubtful = [[seen(face, 0.15) for face in films.faces(i)] for i in range(20)]
    assert not any(follow(doubtful))
    frames = detections(films)[:20] + [
        [seen(f, 0.15) for f in films.faces(i)] for i in range(20, 40)
    ]
    assert all(found[0].seen for found in follow(frames))


def test_live_a_first_frame_is_covered_at_once() -> None:
    films = clip(paths=["waiting"])
    (first,), *_ = follow(detections(films))
    assert first.seen
    assert np.array_equal(first.detection.box, films.faces(0)[0].box)
