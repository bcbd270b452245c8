"""Calm, and no lag."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.faces.smoothing import OneEuroFilter, smoothed

RATE = 30.0


@given(
    count=st.integers(3, 60),
    start=st.floats(-100, 100),
    step=st.floats(-5, 5),
    seconds=st.floats(0.01, 0.2),
)
def test_even_motion_is_left_where_it_is(
    count: int, start: float, step: float, seconds: float
) -> None:
    times = np.arange(count) / RATE
    values = np.stack([start + step * np.arange(count), start - step * np.arange(count)], axis=1)
    calm = smoothed(times, values, seconds)
    # The continuation is 16 frames long, or as long as the values: what lies beyond is forgotten.
    reach = np.exp(-min(count - 1, 16) / RATE / seconds)
    assert np.abs(calm - values).max() <= abs(step) * count * reach + 1e-9


def test_noise_is_halved_and_a_wave_is_not_late() -> None:
    times = np.arange(600) / RATE
    noise = np.random.default_rng(0).normal(size=(600, 10))
    assert 0.35 < smoothed(times, noise, 0.05).std() < 0.5
    wave = np.sin(2 * np.pi * times)[:, None]
    calm = smoothed(times, wave, 0.05)
    lags = range(-6, 7)
    fits = [float((np.roll(wave, lag) * calm)[20:-20].sum()) for lag in lags]
    assert list(lags)[int(np.argmax(fits))] == 0
    assert np.abs(calm - wave).max() < 0.12


def test_nothing_is_done_when_nothing_is_asked() -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 2))
    assert np.array_equal(smoothed(np.arange(5.0), values, 0.0), values)
    assert smoothed(np.arange(5.0), values, 0.5).shape == values.shape


def lag_of(filtered: np.ndarray, true: np.ndarray) -> float:
    """Frames by which a ramp's filtered value is behind, at its end."""
    return float((true[-1] - filtered[-1]) / (true[-1] - true[-2]))


@pytest.mark.parametrize(("speed", "most"), [(0.2, 3.0), (1.0, 1.6), (5.0, 0.5)])
def test_the_faster_the_less_late(speed: float, most: float) -> None:
    """Speeds in face widths per second; at 30 frames per second one frame is 33 ms."""
    calm = OneEuroFilter()
    true = speed * np.arange(90) / RATE
    filtered = np.array([calm(i / RATE, np.array([value]))[0] for i, value in enumerate(true)])
    assert 0 <= lag_of(filtered, true) <= most


def test_what_rests_is_calm() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=(300, 5, 2))
    calm = OneEuroFilter()
    filtered = np.array([calm(i / RATE, value) for i, value in enumerate(noise)])
    assert filtered[30:].std() < 0.6 * noise.std()


def test_another_time_or_shape_starts_anew() -> None:
    calm = OneEuroFilter()
    calm(0.0, np.zeros(3))
    assert calm(1 / RATE, np.ones(3))[0] < 1
    assert calm(0.5 / RATE, np.full(3, 7.0))[0] == 7
    assert calm(1 / RATE, np.full(4, 9.0))[0] == 9
