"""Pseudonyms through the Anonymizer, on a bundle of tiny networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import RESOLUTION, toy_bundle

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError
from lreorg_fast.privacy import PseudonymSampler


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


def sampler(person: int = 1, track: str = "pseudonym-1") -> PseudonymSampler:
    return PseudonymSampler(bytes([person]) * 32, track, "c")


PICTURES = list(
    np.random.default_rng(5).integers(0, 256, (2, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
)
SETTINGS = {"mechanism": "uniform", "tracks": ["pseudonym-1"]}


def test_two_programs_give_a_person_one_face(bundle: Path) -> None:
    made = [
        lf.Anonymizer.load(bundle)(PICTURES[0], sampler=sampler(), **SETTINGS).image
        for _ in range(2)
    ]
    assert np.array_equal(*made)
    others = {
        lf.Anonymizer.load(bundle)(PICTURES[0], sampler=sampler(i), **SETTINGS).image.tobytes()
        for i in range(2, 6)
    }
    assert len(others | {made[0].tobytes()}) > 1


def test_hidden_attributes_are_drawn_alike_whatever_their_order(bundle: Path) -> None:
    drawn = set()
    for hide in (["identity", "gender", "age"], ["age", "identity", "gender"]):
        anonymizer = lf.Anonymizer.load(bundle)
        settings = SETTINGS | {"hide": hide, "attribute_rule": "uniform"}
        anonymizer(PICTURES[0], sampler=sampler(), **settings)
        held = anonymizer.ledger._held
        drawn.add(tuple(held["pseudonym-1", name].group for name in ("identity", "gender", "age")))
        assert anonymizer.ledger.total("pseudonym-1") == 0
    assert len(drawn) == 1


@pytest.mark.parametrize("tracks", [None, ["other"], ["pseudonym-1", "other"]])
def test_a_pseudonym_is_nobody_elses(bundle: Path, tracks: list[str] | None) -> None:
    pictures = PICTURES[: 1 if tracks is None else len(tracks)]
    with pytest.raises(ConfigError, match="one call to each person"):
        lf.Anonymizer.load(bundle)(pictures, sampler=sampler(), mechanism="uniform", tracks=tracks)


def test_the_default_mechanism_refuses_it(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="use the mechanism 'uniform'"):
        lf.Anonymizer.load(bundle)(PICTURES[0], sampler=sampler(), tracks=["pseudonym-1"])
