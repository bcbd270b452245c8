"""Streams of avatars with the packaged detector, ByteTrack and the demo's networks, with faults.

Ground truth says where everybody is. Somebody who has been found once may not be seen again,
whatever the detector misses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import lreorg_fast as lf
from lreorg_fast.avatars.scenes import AvatarClip, SceneConfig, TrueFace
from lreorg_fast.faces import Detection, load_detector
from lreorg_fast.faces.detection import overlap
from lreorg_fast.live import Shown, StreamSettings, stream
from lreorg_fast.scene import SceneAnonymizer, SceneSettings

# A face of which more than this share of its pixels came through unchanged is exposed. Filled
# heads reach 0.00; a new face reaches 0.1 where the skin happens to be alike.
EXPOSED = 0.3
CLIP = AvatarClip(SceneConfig(frames=36, paths=("crossing", "crossing back")))
PICTURES = [picture for picture, _ in CLIP]


Found = Sequence[Sequence[Detection]]


class Faulty:
    """What the packaged detector finds in the clip, but nobody in some frames."""

    def __init__(self, packaged: Found, missing: Sequence[int] = ()) -> None:
        self.found = [[] if n in missing else list(faces) for n, faces in enumerate(packaged)]
        self._calls = 0

    def __call__(self, picture: np.ndarray, threshold: float) -> list[Detection]:
        number, self._calls = self._calls, self._calls + 1
        assert (picture == PICTURES[number]).all()
        return self.found[number]


@pytest.fixture(scope="module")
def packaged() -> Found:
    detector = load_detector()
    return [detector(picture, SceneSettings().threshold) for picture in PICTURES]


def unchanged(source: np.ndarray, shown: np.ndarray, face: TrueFace) -> float:
    """Share of the pixels in the middle of a face that are as they were."""
    centre, half = (face.box[:2] + face.box[2:]) / 2, (face.box[2:] - face.box[:2]) / 2
    y, x = np.mgrid[: source.shape[0], : source.shape[1]]
    inside = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < 0.7
    same = (np.abs(source.astype(int) - shown) <= 2).all(axis=2)
    return float(same[inside].mean())


def exposed(out: Sequence[np.ndarray], detector: Faulty) -> list[tuple[int, int, float]]:
    """(frame, person, share) of everybody who was known and came through."""
    known: set[int] = set()
    through = []
    for number, shown in enumerate(out):
        for face in CLIP.faces(number):
            if any(overlap(d.box, face.box) > 0.4 for d in detector.found[number]):
                known.add(face.person)
            share = unchanged(PICTURES[number], shown, face)
            if face.person in known and face.visible > 0.3 and share > EXPOSED:
                through.append((number, face.person, share))
    assert known == {0, 1}
    return through


@pytest.mark.parametrize("missing", [(), (5, 6, 7), range(3, 36, 3), range(20, 36)])
def test_nobody_who_is_known_comes_through(packaged: Found, missing: Sequence[int]) -> None:
    detector = Faulty(packaged, missing)
    scene = SceneAnonymizer(None, detector, SceneSettings(method="fill"))
    out = list(stream(scene, PICTURES))
    assert len(out) == len(PICTURES)
    assert exposed(out, detector) == []
    # The measure can tell: the frames themselves, and a stream without a hold, expose people.
    assert exposed(PICTURES, detector)


def test_without_the_hold_people_come_through(packaged: Found) -> None:
    detector = Faulty(packaged, range(20, 36))
    scene = SceneAnonymizer(None, detector, SceneSettings(method="fill"))
    out = list(stream(scene, PICTURES, StreamSettings(hold=0)))
    assert exposed(out, detector)


def test_one_new_face_per_person(packaged: Found) -> None:
    """The demo's networks: who is known keeps one draw, through the misses too."""
    detector = Faulty(packaged, (3, 4))
    anonymizer = lf.Anonymizer.load()
    said: list[Shown] = []
    out = list(anonymizer.stream(PICTURES[:8], detector=detector, report=said.append))
    assert exposed(out, detector) == []
    assert [said[number].held for number in (3, 4)] == [2, 2]
    # In front of each other at times, or missed; but always both.
    assert [len(shown.faces) + shown.held for shown in said] == [2] * 8
    # Which of both depends on the draw, and it is the same for a person in most frames.
    assert {face.status for shown in said for face in shown.faces} <= {"replaced", "filled"}
    assert list(anonymizer.ledger.report()["tracks"].values()) == [1, 1]
