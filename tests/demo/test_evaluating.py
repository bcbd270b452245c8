"""People and judges of an evaluation on avatars."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle

from lreorg_fast.demo.evaluating import (
    DEMO_METHODS,
    AvatarCollection,
    avatar_attackers,
    avatar_judges,
)
from lreorg_fast.demo.figures import draw_people
from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.evaluation.methods import METHODS
from lreorg_fast.evaluation.observing import Observer
from lreorg_fast.evaluation.protocol import Judges, Observed
from lreorg_fast.keywords import DEFAULT_KEEP


@pytest.fixture(scope="module")
def collection() -> AvatarCollection:
    return AvatarCollection(40, 2)


@pytest.fixture(scope="module")
def judges() -> Judges:
    return avatar_judges()


@pytest.fixture(scope="module")
def seen(collection: AvatarCollection, judges: Judges) -> Observed:
    return Observer(lambda: judges).observe(collection)


def test_people_are_those_of_the_demo_and_in_no_training_set(collection: AvatarCollection) -> None:
    people = draw_people(40, 0, 64)
    for i in (0, 39):
        np.testing.assert_array_equal(collection.picture(2 * i), people.probes[i])
        np.testing.assert_array_equal(collection.picture(2 * i + 1), people.others[i])
    truth = np.stack([collection.attributes[name][::2] for name in DEFAULT_KEEP], axis=1)
    np.testing.assert_array_equal(truth, people.truth(DEFAULT_KEEP))


def test_a_picture_does_not_depend_on_what_was_drawn_before(collection: AvatarCollection) -> None:
    again = AvatarCollection(40, 2)
    for index in (79, 3, 79, 64):
        np.testing.assert_array_equal(again.picture(index), collection.picture(index))
    sent = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(sent.picture(70), collection.picture(70))
    assert len(pickle.dumps(again)) < 60_000  # no pictures in it


def test_names_people_and_groups(collection: AvatarCollection) -> None:
    assert collection.names[:3] == [
        "person_00000/000.png",
        "person_00000/001.png",
        "person_00001/000.png",
    ]
    assert collection.subjects.tolist() == [i // 2 for i in range(80)]
    assert {name: set(labels) for name, labels in collection.groups.items()} == {
        "gender": {"female", "male"},
        "age": {"old", "young"},
        "skin": {"light", "medium", "dark"},
    }
    # Skin stays with a person, gender is drawn for each picture.
    assert collection.groups["skin"][::2] == collection.groups["skin"][1::2]
    assert collection.groups["gender"][::2] != collection.groups["gender"][1::2]


def test_seeds_are_other_people(collection: AvatarCollection) -> None:
    other = AvatarCollection(40, 2, seed=1)
    assert (other.picture(0) != collection.picture(0)).any()
    assert other.fingerprint(0) != collection.fingerprint(0) != collection.fingerprint(1)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 2), "people is 0"),
        ((2, 0), "pictures is 0"),
        ((3_000_000, 1), "people is 3000000"),
        ((3_000, 3_000), "people times pictures is 9000000"),
        ((2, 2, -1), "seed is -1"),
        ((2, 2, 0, 5000), "size is 5000"),
    ],
)
def test_numbers_out_of_range(numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AvatarCollection(*numbers)


def test_the_judges_know_avatars(
    collection: AvatarCollection, judges: Judges, seen: Observed
) -> None:
    """Figures of 40 people are rough; docs/demo_figures.md has those of 1,000."""
    assert seen.found.all()
    assert seen.landmarks is None
    for recognizer in judges.recognizers:
        rows = seen.embeddings[recognizer.name]
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        cosines = rows[::2] @ rows[1::2].T
        assert (cosines.argmax(axis=1) == np.arange(40)).mean() > 0.8
    assert judges.attributes is not None
    assert seen.attributes is not None
    truth = np.stack([collection.attributes[name] for name in judges.attributes.names], axis=1)
    assert ((seen.attributes == truth).mean(axis=0) > 0.85).all()
    (statistics,) = seen.statistics.values()
    assert statistics[2] == 80


def test_noise_is_no_face_and_sizes_do_not_matter(judges: Judges) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    large = AvatarCollection(2, 1, size=128)
    assert judges.finder is not None
    found, landmarks = judges.finder.find([noise, large.picture(0)])
    assert found.tolist() == [False, True]
    assert landmarks is None


def test_every_part_for_evaluation_is_a_recognizer_of_its_own(judges: Judges) -> None:
    names = [r.name for r in judges.recognizers]
    assert names[0] == "evaluation"
    assert all(name.startswith("evaluation") for name in names)
    prints = [r.fingerprint for r in judges.recognizers]
    others = [judges.attributes, judges.finder, *judges.features]
    prints += [judge.fingerprint for judge in others if judge is not None]
    assert len(set(prints)) == len(prints)
    assert {"fid", "landmarks"} <= set(judges.missing)


def test_attackers_start_from_the_judges(judges: Judges, collection: AvatarCollection) -> None:
    attackers = avatar_attackers(judges)
    assert len(attackers.learners) == len(judges.recognizers)
    pictures = [collection.picture(i) for i in range(2)]
    assert attackers.extractor(pictures).shape[0] == 2


def test_a_bundle_without_judges_of_avatars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        avatar_judges(str(tmp_path / "nowhere"))
    toy = toy_bundle(tmp_path / "toy")
    with pytest.raises(BundleError, match="'toy' is for noise and cannot judge avatars"):
        avatar_judges(str(toy))


def test_the_demo_compares_methods_that_exist_and_work_on_portraits() -> None:
    assert set(DEMO_METHODS) <= set(METHODS)
    assert len(set(DEMO_METHODS)) == len(DEMO_METHODS)
    assert all(METHODS[name].kind != "avatar" for name in DEMO_METHODS)
    assert {f"lreorg+{name}" for name in DEFAULT_KEEP} <= set(DEMO_METHODS)


def test_judges_can_be_sent_to_workers() -> None:
    assert pickle.loads(pickle.dumps(partial(avatar_judges, "demo"))).args == ("demo",)
