"""Where a lost face is covered."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.faces.detection import Detection
from lreorg_fast.live.hold import Hold, cover
from lreorg_fast.scene import KnownFace


def known(x: float, y: float, track: str = "a", size: float = 20.0) -> KnownFace:
    box = np.array([x, y, x + size, y + size])
    points = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
    return KnownFace(Detection(box, 0.9, box[:2] + size * points), track)


def inside(inner: np.ndarray, outer: np.ndarray) -> bool:
    return bool((inner[:2] >= outer[:2] - 1e-6).all() and (inner[2:] <= outer[2:] + 1e-6).all())


coordinate = st.floats(-100, 100)
speed = st.floats(-300, 300)


@given(coordinate, coordinate, speed, speed, st.integers(1, 10))
def test_both_standing_and_going_on_are_covered(
    x: float, y: float, vx: float, vy: float, missed: int
) -> None:
    hold = Hold(5.0)
    for number in range(2):
        assert hold([known(x + vx * number / 30, y + vy * number / 30)], number / 30) == []
    for number in range(2, 2 + missed):
        (place,) = hold([], number / 30)
        assert inside(known(x + vx / 30, y + vy / 30).detection.box, place.box)
        going_on = known(x + vx * number / 30, y + vy * number / 30)
        assert inside(going_on.detection.box, place.box)


def test_one_wrong_box_at_the_end_does_not_turn_the_way() -> None:
    """Behind somebody else a face is found by the half that is still seen."""
    hold = Hold(5.0)
    for number in range(15):
        hold([known(6 * number, 0)], number / 30)
    hold([known(6 * 14 - 4, -8)], 15 / 30)  # back and up
    (place,) = hold([], 25 / 30)
    # With the speed of the last two boxes the place would end 50 pixels before this middle.
    middle = known(6 * 25, 0).detection.box.reshape(2, 2).mean(axis=0)
    assert inside(np.tile(middle, 2), place.box)


def test_a_place_grows_and_ends() -> None:
    hold = Hold(1.0)
    hold([known(0, 0)], 0.0)
    sizes = [[p.size for p in hold([], t / 10)] for t in range(1, 13)]
    assert [len(s) for s in sizes] == [1] * 10 + [0, 0]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_face_that_returns_is_not_held_any_more() -> None:
    hold = Hold(1.0)
    hold([known(0, 0)], 0.0)
    assert len(hold([], 0.1)) == 1
    assert hold([known(2, 0)], 0.2) == []


def test_a_new_number_at_the_same_place_takes_over() -> None:
    hold = Hold(1.0)
    hold([known(0, 0)], 0.0)
    assert hold([known(2, 0, "b")], 0.1) == []


def test_somebody_who_is_passed_by_a_known_person_stays_covered() -> None:
    hold = Hold(1.0)
    hold([known(0, 0), known(60, 0, "b")], 0.0)
    (place,) = hold([known(1, 0, "b")], 0.1)
    assert inside(known(0, 0).detection.box, place.box)


def test_covering_spares_the_faces_that_were_replaced() -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    place, face = known(10, 10).detection, known(20, 10, "b")
    cover(picture, [place], [face])
    assert (picture[18:22, 12] == 128).all()
    assert (picture[20, 30] == 0).all()
    cover(picture, [known(500, 10).detection], [])  # outside of the picture
