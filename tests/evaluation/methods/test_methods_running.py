"""Methods at work: what each claims, and that no source leaves where one fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import toy_bundle
from detectors import KnownFaces
from method_doubles import ALIGNED, COVERING, FACES, NETWORKS, covered_by, leaks

from lreorg_fast.demo.figures import People
from lreorg_fast.demo.judge import Judge, present
from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.methods import METHODS, Method, make_method
from lreorg_fast.evaluation.methods.running import NO_FACE, UNCHANGED
from lreorg_fast.faces.regions import head_shapes
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media.pictures import Picture
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import GroupIdentityAnonymizer, Ledger


@pytest.mark.parametrize("name", ALIGNED)
def test_every_method_gives_a_picture_of_the_same_size_and_changes_no_source(
    toy: Anonymizer, portraits: list[Picture], name: str
) -> None:
    portraits = [*portraits, np.ascontiguousarray(portraits[0][:20, :20])]
    before = [picture.copy() for picture in portraits]
    method = make_method(name, toy)
    made = method(portraits)
    assert all((a == b).all() for a, b in zip(before, portraits, strict=True))
    assert [out is not None and out.shape for out in made] == [p.shape for p in portraits]
    assert all(out is not None and out.dtype == np.uint8 for out in made)
    assert leaks(made, portraits) == (name == "original")
    assert (method.title, method.guarantee) == (METHODS[name].title, METHODS[name].guarantee)


def test_more_pictures_than_fit_together_keep_their_order(portraits: list[Picture]) -> None:
    many = [portraits[i % 5] for i in range(71)]
    made = make_method("original")(many)
    assert len(made) == 71
    assert all((a == b).all() for a, b in zip(made, many, strict=True) if a is not None)
    assert made[0] is not many[0]


@pytest.mark.parametrize("name", ["blur", "lreorg"])
def test_tracks_must_be_as_many_as_pictures(
    toy: Anonymizer, portraits: list[Picture], name: str
) -> None:
    with pytest.raises(ConfigError, match="2 tracks for 5 pictures"):
        make_method(name, toy)(portraits, [1, 2])


class Broken(Method):
    """Fails for some pictures, and gives sources or odd arrays for others."""

    def _work(self, pictures: Any, tracks: Any, restore: bool) -> Any:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Picture) -> Any:
        kind = int(picture[0, 0, 0])
        if kind == 0:
            raise MemoryError
        if kind == 1:
            return picture  # what must never happen
        if kind == 2:
            return picture.copy()
        if kind == 3:
            return picture[:5]
        if kind == 4:
            return picture.astype(np.float32)
        return 255 - picture


def test_a_failing_picture_is_none_and_spoils_no_other(portraits: list[Picture]) -> None:
    pictures = [portraits[0].copy() for _ in range(6)]
    for kind, picture in enumerate(pictures):
        picture[0, 0, 0] = kind
    method = Broken(METHODS["blur"], "")
    made = method(pictures)
    assert [out is None for out in made] == [True] * 5 + [False]
    assert (made[5] == 255 - pictures[5]).all()
    assert method.reasons[UNCHANGED] == 2
    assert method.reasons["MemoryError"] == 1
    assert sum(method.reasons.values()) == 5


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("part", ["encoder", "generator", "verification"])
def test_networks_that_break_release_nothing(
    toy: Anonymizer,
    portraits: list[Picture],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    part: str,
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    target = {"encoder": "forward", "generator": "synthesis", "verification": "failures"}[part]
    monkeypatch.setattr(getattr(toy, part), target, fail)
    method = make_method(name, toy)
    assert method(portraits[:2]) == [None, None]
    assert method.restore(portraits[:2]) == [None, None]
    assert sum(method.reasons.values()) == 4


def test_a_picture_that_is_not_square_is_none_and_the_others_are_made(
    toy: Anonymizer, portraits: list[Picture]
) -> None:
    method = make_method("lreorg", toy)
    made = method([portraits[0], portraits[1][:20], portraits[2]])
    assert [out is None for out in made] == [False, True, False]
    assert "is square" in next(iter(method.reasons))


def test_a_ledger_that_refuses_releases_nothing(tmp_path: Path, portraits: list[Picture]) -> None:
    strict = Anonymizer.load(toy_bundle(tmp_path / "toy"), ledger=Ledger(budget=2.0))
    made = make_method("lreorg", strict)(portraits)
    assert all(out is not None for out in made)
    assert make_method("laplace", strict)(portraits) == [None] * 5


def test_no_detector_failure_and_no_missed_face_shows_a_source(
    toy: Anonymizer, photograph: Picture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("broken")

    for name in (*COVERING, "avatar", "lreorg", "hide-age"):
        for detector, reason in ((KnownFaces([]), NO_FACE), (broken, "RuntimeError")):
            method = make_method(name, toy, detector, faces="scene")  # type: ignore[arg-type]
            assert method([photograph]) == [None]
            assert dict(method.reasons) == {reason: 1}


def test_joint_methods_hide_the_attribute_and_identity_hides_the_person(
    demo: Anonymizer, people: People
) -> None:
    judge = Judge(demo.bundle)
    threshold = demo.bundle.calibrated("evaluation.threshold.random")
    others = judge.embed(people.others)

    truth = people.truth(DEFAULT_KEEP)

    def seen(name: str) -> tuple[float, dict[str, float]]:
        """Of what was released: share that is recognised, shares of rightly shown attributes."""
        outputs = make_method(name, demo)(people.probes)
        known = [i for i, out in enumerate(outputs) if out is not None]
        assert len(known) > 20
        pictures = [outputs[i] for i in known]
        own = (judge.embed(pictures) * others[known]).sum(axis=1)  # type: ignore[arg-type]
        values, _ = judge.read(pictures)  # type: ignore[arg-type]
        right = (present(values, DEFAULT_KEEP) == truth[known]).mean(axis=0)
        return float((own > threshold).mean()), dict(zip(DEFAULT_KEEP, right, strict=True))

    assert seen("original")[0] > 0.75
    recognised, kept = seen("lreorg")
    assert recognised < 0.2
    for attribute in ("gender", "age"):
        assert kept[attribute] > 0.5
        assert seen(f"lreorg+{attribute}-farthest")[1][attribute] < 0.4
        assert 0.2 < seen(f"lreorg+{attribute}")[1][attribute] < 0.8
    recognised, kept = seen("hide-makeup-farthest")
    assert recognised > 0.5
    assert kept["makeup"] < 0.3
    for name in ("blur", "fill", "laplace", "k-anonymity", "paper-window"):
        assert seen(name)[0] < 0.2


def test_keys_bring_back_what_they_are_of(demo: Anonymizer, people: People) -> None:
    judge = Judge(demo.bundle)
    probes = people.probes[:12]

    def similarity(pictures: Sequence[Picture | None]) -> float:
        known = [i for i, picture in enumerate(pictures) if picture is not None]
        assert len(known) > 9
        found = judge.embed([pictures[i] for i in known])  # type: ignore[misc]
        return float((found * judge.embed([probes[i] for i in known])).sum(axis=1).mean())

    method = make_method("lreorg", demo)
    assert method.restores
    assert similarity(method.restore(probes)) > similarity(method(probes)) + 0.3


def test_what_has_no_keys_says_so(toy: Anonymizer, portraits: list[Picture]) -> None:
    for method in (
        make_method("original"),
        make_method("blur"),
        make_method("lreorg", toy, KnownFaces(FACES), faces="scene"),
    ):
        assert not method.restores
        with pytest.raises(ConfigError, match="keeps nothing that brings a face back"):
            method.restore(portraits)


def test_equal_tracks_share_a_draw_within_a_method_and_never_between_methods(
    toy: Anonymizer, portraits: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[str] = []
    replacement = GroupIdentityAnonymizer.replacement

    def noted(self: GroupIdentityAnonymizer, feature: Any) -> Any:
        draws.append(self.mechanism.name)
        return replacement(self, feature)

    monkeypatch.setattr(GroupIdentityAnonymizer, "replacement", noted)
    same = [portraits[0]] * 40
    method = make_method("lreorg", toy)
    method(same, [7] * 40)
    method(same[:2], ["7", 8])
    assert draws == ["window-rr"] * 2
    make_method("k-anonymity", toy)(same[:1], [7])
    make_method("lreorg", toy)(same[:1], [7])
    assert draws[2:] == ["k-anonymity", "window-rr"]
    method(same)
    assert len(draws) == 44


@pytest.mark.parametrize("name", ["avatar", "lreorg", "lreorg+age", "hide-gender-farthest"])
def test_faces_of_whole_pictures_are_replaced(
    toy: Anonymizer, photograph: Picture, name: str
) -> None:
    method = make_method(name, toy, KnownFaces(FACES), faces="scene")
    first, second = method([photograph, photograph], [1, 2])
    assert first is not None
    assert second is not None
    core = covered_by([head_shapes(FACES[1])[1]], photograph)
    assert (first[core] == photograph[core]).all(axis=1).mean() < 0.3
    assert (first[:, :3] == photograph[:, :3]).all()


def test_whole_pictures_hold_the_draw_of_the_main_face_only(
    toy: Anonymizer, photograph: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make_method("lreorg", toy, KnownFaces(FACES), faces="scene")
    tracks: list[str] = []
    held = toy.ledger.held

    def noted(track: str, *rest: Any) -> Any:
        tracks.append(track)
        return held(track, *rest)

    monkeypatch.setattr(toy.ledger, "held", noted)
    method([photograph, photograph], [1, 1])
    assert len(set(tracks)) == 3
    (main,) = {track for track in tracks if tracks.count(track) == 2}
    assert toy.ledger.drawn(main)
    assert not any(toy.ledger.drawn(track) for track in tracks if track != main)


def test_a_picture_whose_main_face_is_filled_is_none(tmp_path: Path, photograph: Picture) -> None:
    strict = Anonymizer.load(toy_bundle(tmp_path / "t", calibration={"verify.similarity": -2.0}))
    method = make_method("lreorg", strict, KnownFaces(FACES), faces="scene")
    assert method([photograph]) == [None]
    assert method.reasons
