"""Every method of the registry: what it claims, and that no source leaves where one fails."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from click.testing import CliRunner
from detectors import KnownFaces, detection
from PIL import Image, ImageFilter

from lreorg_fast.avatars import sample_people
from lreorg_fast.avatars.landmarks import face_boxes
from lreorg_fast.cli.app import lreorg
from lreorg_fast.demo.figures import People, draw_people
from lreorg_fast.demo.judge import Judge, present
from lreorg_fast.errors import ConfigError, ImageError, OutputError
from lreorg_fast.evaluation.methods import (
    METHODS,
    Method,
    keep_outputs,
    make_method,
    method_info,
    write_outputs,
)
from lreorg_fast.evaluation.methods.covering import in_portrait
from lreorg_fast.evaluation.methods.running import NO_FACE, UNCHANGED
from lreorg_fast.faces.blending import masks
from lreorg_fast.faces.regions import Window, head_shapes, window_of
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media import read_image
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import Ledger
from lreorg_fast.result import FaceResult
from lreorg_fast.scene import SceneAnonymizer, SceneSettings

COVERING = [name for name, info in METHODS.items() if info.kind == "covering"]
NETWORKS = [name for name, info in METHODS.items() if info.kind == "network"]
ALIGNED = [name for name in METHODS if name != "avatar"]
FACES = [detection(40, 50, 30), detection(110, 60, 44, 0.6, turn=0.3)]
RESOLUTION = 32


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Anonymizer:
    return Anonymizer.load(toy_bundle(tmp_path_factory.mktemp("b") / "toy"))


@pytest.fixture(scope="module")
def demo() -> Anonymizer:
    return Anonymizer.load("demo")


@pytest.fixture(scope="module")
def people(demo: Anonymizer) -> People:
    return draw_people(48, 7, demo.resolution)


@pytest.fixture
def portraits() -> list[Picture]:
    random = np.random.default_rng(0)
    return list(random.integers(0, 256, (5, RESOLUTION, RESOLUTION, 3), dtype=np.uint8))


@pytest.fixture
def photograph() -> Picture:
    return np.random.default_rng(1).integers(0, 100, (120, 160, 3), dtype=np.uint8)


class Album:
    """A collection in memory."""

    name, domain = "album", "avatars"
    attributes: Mapping[str, Any] = MappingProxyType({})
    groups: Mapping[str, Sequence[str]] = MappingProxyType({})

    def __init__(self, names: Sequence[str], pictures: Sequence[Picture]) -> None:
        self.names, self.pictures = names, pictures
        self.subjects = np.arange(len(names))

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> Picture:
        return self.pictures[index]

    def fingerprint(self, index: int) -> str:
        return str(index)


def covered_by(shapes: Sequence[Any], picture: Picture) -> np.ndarray:
    """(H, W) where the shapes are."""
    window = window_of(shapes, picture.shape[1::-1])
    inside = np.zeros(picture.shape[:2], dtype=bool)
    inside[window.slices] = masks(shapes, window)[1]
    return inside


def leaks(made: Sequence[Picture | None], sources: Sequence[Picture]) -> bool:
    return any(
        out is not None and out.shape == source.shape and bool((out == source).all())
        for out in made
        for source in sources
    )


# ---- the registry


def test_the_registry_has_what_the_papers_tables_need() -> None:
    joint = {f"lreorg+{attribute}" for attribute in DEFAULT_KEEP}
    alone = {f"hide-{attribute}" for attribute in DEFAULT_KEEP}
    assert set(METHODS) == {
        "original",
        *("blur", "blur-strong", "pixelate", "fill", "avatar"),
        *("laplace", "k-anonymity", "paper-window", "lreorg", "lreorg-not-recovered"),
        *(
            name + rule + back
            for name in joint
            for rule in ("", "-farthest")
            for back in ("", "-not-recovered")
        ),
        *(name + rule for name in alone for rule in ("", "-farthest")),
    }
    assert len({info.title for info in METHODS.values()}) == len(METHODS)
    for name, info in METHODS.items():
        assert info.name == name
        assert info.title
        assert info.guarantee
        assert info.description.endswith(".")
        family = "joint" if "+" in name else "alone" if name.startswith("hide-") else "methods"
        assert info.family == family


def test_entries_say_what_is_hidden_and_recovered() -> None:
    assert METHODS["lreorg"].hidden == ("identity",)
    assert METHODS["lreorg"].recovered == DEFAULT_KEEP
    assert METHODS["lreorg-not-recovered"].recovered == ()
    assert METHODS["lreorg+age"].hidden == ("identity", "age")
    assert METHODS["lreorg+age"].recovered == ("gender", "expression", "makeup")
    assert METHODS["lreorg+age-farthest-not-recovered"].recovered == ()
    assert METHODS["hide-makeup-farthest"].hidden == ("makeup",)
    assert METHODS["blur"].hidden == METHODS["blur"].recovered == ()


def test_nothing_is_promised_that_the_draws_do_not_keep(toy: Anonymizer) -> None:
    """What the registry says agrees with what the anonymizer says of its draws."""
    picture = np.zeros((RESOLUTION, RESOLUTION, 3), np.uint8)
    for name in NETWORKS:
        info = METHODS[name]
        face = toy(picture, **info.settings).faces[0]
        promises = face.guarantee.values()
        assert all(p.removeprefix("no guarantee: ") in info.guarantee for p in promises), name
        unprotected = face.privacy == "none" or "identity" not in info.hidden
        assert ("none" in info.guarantee) == unprotected, name
    for name in ("blur", "blur-strong", "pixelate"):
        assert METHODS[name].guarantee == "none: invertible, no protection"


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'blurr', but must be one of original, blur"):
        method_info("blurr")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("lreorg", {}, "needs a bundle"),
        ("avatar", {}, "needs a bundle"),
        ("blur", {"faces": "scene"}, "needs a detector"),
        ("lreorg", {"faces": "cubist"}, "must be 'aligned' or 'scene'"),
    ],
)
def test_what_is_missing_is_said(name: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_method(name, **given)


def test_what_a_bundle_or_these_pictures_cannot_have_is_said(
    toy: Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="'avatar' is for whole pictures"):
        make_method("avatar", toy)
    monkeypatch.delitem(toy.keywords, "makeup")
    with pytest.raises(ConfigError, match="makeup"):
        make_method("hide-makeup", toy)


def test_torch_is_not_imported_by_the_registry() -> None:
    code = "import sys, lreorg_fast.evaluation.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- all of them


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


# ---- a failure is nothing, never a source


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


# ---- covering


@pytest.mark.parametrize("name", COVERING)
def test_only_the_face_of_a_portrait_changes(people: People, name: str) -> None:
    picture = people.probes[0]
    ((shapes, _),) = in_portrait(picture)
    inside = covered_by(shapes, picture)
    (made,) = make_method(name)([picture])
    assert made is not None
    assert (made[~inside] == picture[~inside]).all()
    changed = (made != picture).any(axis=2)[inside].mean()
    assert changed > 0.8
    assert 0.4 < inside.mean() < 0.75


def test_the_region_of_portraits_holds_every_avatars_face() -> None:
    avatars = sample_people(500, 2, torch.Generator().manual_seed(5))
    ((shapes, _),) = in_portrait(np.zeros((200, 200, 3), np.uint8))
    angles = np.linspace(0, 2 * np.pi, 60)
    for box in face_boxes(avatars).double().numpy()[::5] * 200:
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        rim = np.stack([np.cos(angles), np.sin(angles)], axis=1) * half + centre
        for x, y in rim:
            column, row = round(x), round(y)
            pixel = Window(column, row, column + 1, row + 1)
            assert shapes[0].radius(pixel)[0, 0] < 1.03


def test_fill_leaves_one_colour_and_mosaics_and_blurs_less_detail(people: People) -> None:
    picture = people.probes[3]
    inside = covered_by(in_portrait(picture)[0][0], picture)
    made = {name: make_method(name)([picture])[0] for name in COVERING}
    assert (made["fill"][inside] == FILL_COLOUR).all()  # type: ignore[index]

    def detail(image: Any) -> float:
        across = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)
        return float(across[inside[:, 1:] & inside[:, :-1]].mean())

    assert detail(made["blur"]) < 0.4 * detail(picture)
    assert detail(made["blur-strong"]) < 0.7 * detail(made["blur"])
    shown = made["pixelate"][inside]  # type: ignore[index]
    assert len(np.unique(shown, axis=0)) <= 64 < len(np.unique(picture[inside], axis=0))


def test_a_blur_is_as_strong_as_the_face_is_large(people: People) -> None:
    """Of a picture of twice the size it is the same picture in twice the size."""
    small = people.probes[1]
    large = np.repeat(np.repeat(small, 4, axis=0), 4, axis=1)
    for name in ("blur", "blur-strong"):
        method = make_method(name)
        (a,), (b,) = method([small]), method([large])
        assert a is not None
        assert b is not None
        centre = (slice(24, 48), slice(20, 44))
        means = b.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
        assert np.abs(means[centre] - a[centre]).max() < 12


def test_a_blur_looks_beyond_the_covered_pixels(photograph: Picture) -> None:
    """As if the whole picture were blurred and seen through the region."""
    face = FACES[1]
    deviation = 0.1 * float((face.box[2:] - face.box[:2]).max())
    whole = np.asarray(Image.fromarray(photograph).filter(ImageFilter.GaussianBlur(deviation)))
    (made,) = make_method("blur", None, KnownFaces([face]), faces="scene")([photograph])
    assert made is not None
    inside = covered_by(head_shapes(face), photograph)
    assert np.abs(made[inside].astype(int) - whole[inside]).max() <= 1


@pytest.mark.parametrize("name", COVERING)
def test_every_head_of_a_photograph_is_covered_and_nothing_else(
    photograph: Picture, name: str
) -> None:
    (made,) = make_method(name, None, KnownFaces(FACES), faces="scene")([photograph])
    assert made is not None
    inside = np.zeros(photograph.shape[:2], dtype=bool)
    for face in FACES:
        inside |= covered_by(head_shapes(face), photograph)
    assert (made[~inside] == photograph[~inside]).all()
    assert (made != photograph).any(axis=2)[inside].mean() > 0.95


@pytest.mark.parametrize("name", ["pixelate", "fill"])
def test_covered_photographs_are_those_of_lreorg_anonymize(photograph: Picture, name: Any) -> None:
    detector = KnownFaces(FACES)
    (made,) = make_method(name, None, detector, faces="scene")([photograph])
    wanted = SceneAnonymizer(None, detector, SceneSettings(method=name))(photograph)
    assert (made == wanted.image).all()


def test_a_face_at_the_border_and_a_tiny_one_are_covered() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for face in (detection(0, 0, 30), detection(49, 39, 12), detection(20, 20, 1)):
        for name in COVERING:
            (made,) = make_method(name, None, KnownFaces([face]), faces="scene")([picture])
            assert made is not None
            inside = covered_by(head_shapes(face), picture)
            assert (made != picture).any(axis=2)[inside].mean() > 0.7
            assert (made[~inside] == picture[~inside]).all()


# ---- networks


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
        assert kept[attribute] > 0.6
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
    seen: list[FaceResult] = []
    call = type(toy).__call__

    def noted(self: Anonymizer, *given: Any, **settings: Any) -> Any:
        result = call(self, *given, **settings)
        seen.extend(result.faces)
        return result

    monkeypatch.setattr(type(toy), "__call__", noted)
    same = [portraits[0]] * 40
    method = make_method("lreorg", toy)
    made = [*method(same, [7] * 40), *method(same[:2], ["7", 8])]
    assert all((made[0] == out).all() for out in made[:41] if out is not None)
    assert len({face.track for face in seen}) == 2
    seen.clear()
    make_method("k-anonymity", toy)(same[:1], [7])
    assert seen[0].mechanism == {"identity": "k-anonymity"}
    fresh = make_method("lreorg", toy)(same)
    assert any((fresh[0] != out).any() for out in fresh if out is not None)


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


# ---- commands


@pytest.mark.parametrize(
    "name",
    [
        *("laplace", "k-anonymity", "lreorg", "lreorg-not-recovered"),
        *("lreorg+gender-farthest", "lreorg+age-not-recovered", "hide-makeup"),
    ],
)
def test_the_command_is_one_that_anonymize_takes_and_makes_the_same_settings(
    tmp_path: Path, portraits: list[Picture], name: str
) -> None:
    bundle = str(toy_bundle(tmp_path / "toy"))
    (tmp_path / "in").mkdir()
    write_outputs(tmp_path / "in" / "x", ["a.png"], [("a.png", (32, 32), portraits[0])], {})
    method = make_method(
        name, Anonymizer.load(bundle), bundle=bundle, originals=str(tmp_path / "in")
    )
    words = shlex.split(method.command)
    assert words[0] == "lreorg"
    words[words.index("OUTPUTS")] = str(tmp_path / "out")
    report = tmp_path / "r.json"
    done = CliRunner().invoke(lreorg, [*words[1:], "--report", str(report), "-q"])
    assert done.exit_code == 0, done.output
    settings = json.loads(report.read_text())["settings"]
    assert tuple(settings["hide"]) == METHODS[name].hidden
    assert tuple(settings["keep"]) == METHODS[name].recovered
    for setting in ("epsilon", "mechanism", "attribute_rule"):
        if setting in METHODS[name].settings:
            assert settings[setting] == METHODS[name].settings[setting]


def test_commands_name_the_verb_that_can() -> None:
    def command(name: str, **given: Any) -> str:
        return make_method(name, None, KnownFaces([]), **given).command

    assert command("original") == "lreorg evaluate ORIGINALS --method original"
    assert command("fill", faces="scene") == "lreorg anonymize ORIGINALS -o OUTPUTS --method fill"
    kept = "lreorg evaluate ORIGINALS --method {} --faces {} --keep-outputs OUTPUTS"
    assert command("fill") == kept.format("fill", "aligned")
    assert command("blur", faces="scene") == kept.format("blur", "scene")
    assert command("blur", originals="my faces").split("'")[1] == "my faces"
    assert command("pixelate", originals="--demo") == (
        "lreorg evaluate --demo --method pixelate --keep-outputs OUTPUTS"
    )


# ---- kept outputs


def test_outputs_are_kept_under_the_originals_names(
    tmp_path: Path, toy: Anonymizer, portraits: list[Picture]
) -> None:
    names = ["b/one.png", "two.bmp", "a", "b/three.v2", "2024 12:30.png"]
    steps: list[tuple[int, int]] = []
    method = make_method("lreorg", toy)
    album = Album(names, [portraits[0], portraits[1][:20], *portraits[2:]])
    target = tmp_path / "new" / "kept"
    assert keep_outputs(method, album, target, progress=lambda *step: steps.append(step)) == 4
    files = sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file())
    assert files == sorted(
        ["b/one.png", "two.bmp", "a.png", "b/three.v2.png", "2024 12:30.png", "outputs.json"]
    )
    assert (read_image(target / "two.bmp") == FILL_COLOUR).all()
    assert read_image(target / "two.bmp").shape == (20, RESOLUTION, 3)
    kept = [read_image(target / name) for name in files if name != "outputs.json"]
    assert not leaks(kept, list(album.pictures))
    record = json.loads((target / "outputs.json").read_text())
    assert record["name"] == "lreorg"
    assert record["command"] == method.command
    assert record["outputs"]["a"] == {"file": "a.png", "released": True}
    assert [n for n, e in record["outputs"].items() if not e["released"]] == ["two.bmp"]
    assert steps == [(5, 5)]


def test_an_earlier_folder_is_replaced_on_request_and_no_other(
    tmp_path: Path, portraits: list[Picture]
) -> None:
    album, method = Album(["a.png"], portraits[:1]), make_method("fill")
    keep_outputs(method, album, tmp_path / "kept")
    with pytest.raises(OutputError, match="exists already"):
        keep_outputs(method, album, tmp_path / "kept")
    assert keep_outputs(method, album, tmp_path / "kept", overwrite=True) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="not a folder of kept outputs"):
        keep_outputs(method, album, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


ESCAPES = ["../a.png", "/etc/a.png", "b/../../a.png", "..\\a.png", "C:a.png", ".", "..", ""]
UNFIT = ["b//a.png", "b/", "a\0.png", "x" * 300 + ".png", "\ud800.png"]


@pytest.mark.parametrize("name", [*ESCAPES, *UNFIT], ids=ascii)
def test_a_name_that_leads_out_is_refused_before_anything_is_done(
    tmp_path: Path, portraits: list[Picture], name: str
) -> None:
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    method = make_method("fill")
    with pytest.raises(OutputError, match="cannot be kept"):
        keep_outputs(method, Album(["fine.png", name], portraits[:2]), inside / "kept")
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep", inside]


def test_names_that_are_one_file_are_refused(tmp_path: Path, portraits: list[Picture]) -> None:
    for names in (["a.png", "A.PNG"], ["a", "a.png"], ["a.png", "a.png"]):
        with pytest.raises(OutputError, match="would be one file"):
            keep_outputs(make_method("fill"), Album(names, portraits[:2]), tmp_path / "kept")
    with pytest.raises(OutputError):
        keep_outputs(
            make_method("fill"), Album(["a.png", "a.png/b.png"], portraits[:2]), tmp_path / "kept"
        )
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, portraits: list[Picture]) -> None:
    class Torn(Album):
        def picture(self, index: int) -> Picture:
            if index == 40:
                raise ImageError("'x.png' is damaged")
            return super().picture(0)

    torn = Torn([f"{i}.png" for i in range(50)], portraits * 10)
    with pytest.raises(ImageError, match="damaged"):
        keep_outputs(make_method("fill"), torn, tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


def test_originals_are_not_copied(tmp_path: Path, portraits: list[Picture]) -> None:
    with pytest.raises(ConfigError, match="would copy the originals"):
        keep_outputs(make_method("original"), Album(["a.png"], portraits[:1]), tmp_path / "kept")
    with pytest.raises(ConfigError, match="2 tracks for 1 originals"):
        keep_outputs(
            make_method("fill"), Album(["a.png"], portraits[:1]), tmp_path / "kept", tracks=[1, 2]
        )
    assert list(tmp_path.iterdir()) == []
