"""The square of a portrait is found again from one beside it, by the demo's own networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lreorg_fast as lf
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import sample_avatars
from lreorg_fast.models.pixels import to_bytes, to_pictures
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.scene.canvas import ArrayCanvas
from lreorg_fast.scene.refinement import _SURROUNDINGS, Refinement, _moved

SIZE, LEFT, TOP = 96, 40, 30
TRUE = np.array([[0.0, 0], [0, 1], [1, 1], [1, 0]]) * SIZE + (LEFT - 0.5, TOP - 0.5)


@pytest.fixture(scope="module")
def demo() -> Anonymizer:
    return lf.Anonymizer.load("demo")


def portrait(seed: int) -> ArrayCanvas:
    picture = np.full((160, 180, 3), (90, 120, 100), dtype=np.uint8)
    avatars = sample_avatars(1, torch.Generator().manual_seed(seed))
    picture[TOP : TOP + SIZE, LEFT : LEFT + SIZE] = to_pictures(render(avatars, SIZE) * 2 - 1)[0]
    return ArrayCanvas(picture)


@pytest.mark.parametrize("seed", range(3))
def test_a_square_beside_the_portrait_is_moved_onto_it(demo: Anonymizer, seed: int) -> None:
    beside = _moved(TRUE, np.array([0.11, 0.05, -0.04, 0.06]))
    found = Refinement(demo)(portrait(seed), beside, "t")
    before, after = (np.abs(quad - TRUE).max() / SIZE for quad in (beside, found))
    assert before > 0.1
    assert after < 0.07
    right, down = found[3] - found[0], found[1] - found[0]
    assert np.hypot(*right) == pytest.approx(np.hypot(*down))
    assert right @ down == pytest.approx(0, abs=1e-6)


def test_a_good_square_stays_and_a_track_is_remembered(
    demo: Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement, looks = Refinement(demo), []
    real = refinement._errors
    monkeypatch.setattr(refinement, "_errors", lambda a, p: looks.append(len(p)) or real(a, p))
    canvas = portrait(1)
    np.testing.assert_allclose(refinement(canvas, TRUE, "a"), TRUE)
    assert looks == [1]
    beside = _moved(TRUE, np.array([0.11, 0.05, -0.04, 0.06]))
    first = refinement(canvas, beside, "b")
    assert sum(looks) > 40
    looks.clear()
    np.testing.assert_allclose(refinement(canvas, beside, "b"), first)
    assert looks == [1]


def test_what_is_tried_is_what_is_cut(demo: Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The neighbours are sampled from one cut around; the same places cut directly are as alike
    as two filters make them."""
    refinement, canvas = Refinement(demo), portrait(2)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        "lreorg_fast.scene.refinement.encoded",
        lambda encoder, x: seen.append(x) or encoder(x),
    )
    place = np.array([-0.1, 0.06, -0.05, 0.2])
    with torch.inference_mode():
        refinement._errors(refinement._surroundings(canvas, TRUE), place[None])
    sampled = to_bytes(seen[0][0]).numpy().astype(int)
    direct = to_bytes(canvas.cut(_moved(TRUE, place), 64)).numpy()
    assert np.abs(sampled - direct).mean() < 6
    wrong = to_bytes(canvas.cut(_moved(TRUE, -place), 64)).numpy()
    assert np.abs(sampled - wrong).mean() > 15
    assert _SURROUNDINGS > 1


def test_noise_from_the_networks_keeps_the_landmarks_square(
    demo: Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement = Refinement(demo)
    monkeypatch.setattr(
        "lreorg_fast.scene.refinement.squared_error",
        lambda back, x: torch.full((len(x),), float("nan")),
    )
    np.testing.assert_allclose(refinement(portrait(0), TRUE, "t"), TRUE)
