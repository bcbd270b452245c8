"""Flicker: a calm face, a trembling one, and a new one in every frame."""

from __future__ import annotations

import numpy as np
import pytest
from toy_evaluation import judges, observed, unit

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.protocol import Observed
from lreorg_fast.evaluation.temporal import TrackPair, temporal

FRAMES = 40
FACE = np.array([[20, 20], [40, 20], [30, 30], [24, 40], [36, 40]], dtype=np.float64)


def track(spread: float, shake: float, seed: int, **given: np.ndarray) -> Observed:
    random = np.random.default_rng(seed)
    rows = unit(np.ones((FRAMES, 16)) / 4 + spread * random.standard_normal((FRAMES, 16)))
    drift = np.arange(FRAMES)[:, None, None] * 1.5  # even motion
    landmarks = FACE + drift + shake * random.standard_normal((FRAMES, 5, 2))
    return observed(rows, landmarks=landmarks, **given)


def pair(result: Observed, seed: int = 0, frames: np.ndarray | None = None) -> TrackPair:
    numbers = np.arange(FRAMES) if frames is None else frames
    return TrackPair(numbers, track(0.02, 0.1, seed), result, np.full(FRAMES, 50.0))


def values(results: list[Observed]) -> dict:
    found = temporal([pair(result, seed) for seed, result in enumerate(results)], judges())
    return {entry.metric: entry for entry in found}


def test_a_face_as_calm_as_the_source() -> None:
    found = values([track(0.02, 0.1, seed) for seed in range(10, 16)])
    assert found["flicker_identity"].figure.value == pytest.approx(1, abs=0.1)
    assert found["flicker_identity"].where == {"recognizer": "toy"}
    # Of independent noise sigma a second difference has the deviation sqrt(6) sigma.
    expected = np.sqrt(6) * 0.1 / 50
    assert found["flicker_landmarks"].figure.value == pytest.approx(expected, rel=0.1)
    assert "6 of 6 tracks" in found["flicker_landmarks"].figure.note


def test_a_new_person_in_every_frame_flickers() -> None:
    assert values([track(3.0, 0.1, s) for s in (1, 2)])["flicker_identity"].figure.value > 8


def test_a_face_that_does_not_move_is_calmer_than_the_source() -> None:
    found = values([track(0.0, 0.0, s) for s in (1, 2)])
    assert found["flicker_identity"].figure.value == pytest.approx(0, abs=1e-6)
    assert found["flicker_landmarks"].figure.value == pytest.approx(0, abs=1e-9)


def test_frames_that_are_filled_or_far_apart_are_left_out() -> None:
    wild = np.arange(FRAMES) % 2 == 0
    mixed = track(3.0, 9.0, 1)
    calm = track(0.02, 0.1, 2)
    rows = np.where(wild[:, None], mixed.embeddings["toy"], calm.embeddings["toy"])
    released = observed(rows, landmarks=calm.landmarks, released=~wild)
    found = temporal([pair(released), pair(released, 1)], judges())
    assert found[0].figure is not None
    assert found[0].figure.value < 1.5
    # Every second frame is missing: there are no three neighbours.
    assert "no track has 3 frames" in str(found[1].reason)


def test_one_track_has_a_value_and_no_interval() -> None:
    found = values([track(0.02, 0.1, 5)])
    assert "one track gives no interval (its value is" in found["flicker_identity"].reason


def test_without_landmarks_or_motion() -> None:
    still = observed(np.repeat(unit(np.ones((1, 16))), FRAMES, axis=0))
    pairs = [TrackPair(np.arange(FRAMES), still, still, np.ones(FRAMES))] * 2
    assert all("no track" in str(entry.reason) for entry in temporal(pairs, judges()))
    assert all(entry.figure is None for entry in temporal([], judges()))


def test_tracks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="must rise"):
        pair(track(0, 0, 1), frames=np.arange(FRAMES)[::-1].copy())
    with pytest.raises(ConfigError, match="no size"):
        TrackPair(np.arange(FRAMES), track(0, 0, 1), track(0, 0, 1), np.zeros(FRAMES))
    with pytest.raises(ConfigError, match=r"39, 40"):
        TrackPair(np.arange(39), track(0, 0, 1), track(0, 0, 1), np.ones(FRAMES))
