"""Whole pictures through the public interface: on networks that are noise, and on the demo's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from bundles import toy_bundle
from detectors import KnownFaces, detection
from open_clip_import import import_open_clip

import lreorg_fast as lf
from lreorg_fast.avatars.landmarks import landmarks
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import Avatars, sample_avatars
from lreorg_fast.errors import BudgetExceeded, ConfigError, ImageError
from lreorg_fast.faces import Detection
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.models.pixels import to_pictures, to_tensor
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import Ledger
from lreorg_fast.scene import METHODS, KnownFace, SceneAnonymizer, SceneSettings
from lreorg_fast.scene.attributes import PhotographAttributes
from lreorg_fast.sources import clip_of

FACES = [detection(40, 50, 30), detection(110, 60, 44, 0.6, turn=0.3)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Anonymizer:
    return Anonymizer.load(toy_bundle(tmp_path_factory.mktemp("b") / "toy"))


@pytest.fixture
def picture() -> Picture:
    return np.random.default_rng(0).integers(0, 100, (120, 160, 3), dtype=np.uint8)


def scene(
    toy: Anonymizer | None, faces: list[Detection] = FACES, **settings: Any
) -> SceneAnonymizer:
    return SceneAnonymizer(toy, KnownFaces(faces), SceneSettings(**settings))


def in_box(shape: tuple[int, ...], face: Detection) -> np.ndarray:
    x, y = np.arange(shape[1])[None, :], np.arange(shape[0])[:, None]
    x0, y0, x1, y1 = face.box
    return (x > x0) & (x < x1) & (y > y0) & (y < y1)


def in_face(shape: tuple[int, ...], face: Detection) -> np.ndarray:
    """The ellipse within the box of an upright face."""
    x, y = np.arange(shape[1])[None, :], np.arange(shape[0])[:, None]
    centre, half = (face.box[:2] + face.box[2:]) / 2, (face.box[2:] - face.box[:2]) / 2
    return ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1


@pytest.mark.parametrize("method", METHODS)
def test_every_method_covers_every_face(toy: Anonymizer, picture: Picture, method: Any) -> None:
    before = picture.copy()
    result = scene(toy, method=method)(picture)
    assert (picture == before).all()
    status = {"fill": "filled", "pixelate": "pixelated"}.get(method, "replaced")
    assert [face.status for face in result.faces] == [status] * 2
    assert result.filled == ()
    assert result.image.shape == picture.shape
    for face in FACES:
        region = in_face(picture.shape, face)
        same = (result.image[region] == picture[region]).all(axis=1)
        assert same.mean() < 0.02  # noise meets noise in one pixel of a million, mosaics rarely
    far = np.ones(picture.shape[:2], dtype=bool)
    far[:, 5:] = False
    assert (result.image[far] == picture[far]).all()
    for face in result.faces:
        assert set(face.to_dict()) == {"box", "score", "track", "status", "reason", "result"}


def test_covering_needs_no_networks(picture: Picture) -> None:
    result = scene(None, method="fill")(picture)
    for face in FACES:
        assert (result.image[in_box(picture.shape, face)] == FILL_COLOUR).all()
    for method in ("reorganize", "avatar"):
        with pytest.raises(ConfigError, match="needs a bundle"):
            scene(None, method=method)


def test_the_threshold_reaches_the_detector(picture: Picture) -> None:
    assert len(scene(None, method="fill", threshold=0.7)(picture).faces) == 1
    assert len(scene(None, method="fill")(picture).faces) == 2


def test_a_picture_without_faces_is_returned_as_it_is(toy: Anonymizer, picture: Picture) -> None:
    result = scene(toy, [])(picture)
    assert result.faces == ()
    assert (result.image == picture).all()
    assert result.image is not picture


def test_one_draw_per_track(toy: Anonymizer, picture: Picture) -> None:
    toy = Anonymizer(toy.bundle, ledger=Ledger())
    whole = scene(toy)
    for _ in range(2):
        result = whole(picture, tracks=["a", "b"])
        assert [face.track for face in result.faces] == ["a", "b"]
    assert toy.ledger.report()["tracks"] == {"a": 1.0, "b": 1.0}
    whole(picture)
    assert len(toy.ledger.report()["tracks"]) == 4  # each face of one picture is a person
    with pytest.raises(ConfigError, match="1 tracks for 2 faces"):
        whole(picture, tracks=["a"])


def test_equal_tracks_look_alike_and_pay_once(toy: Anonymizer, picture: Picture) -> None:
    toy = Anonymizer(toy.bundle, ledger=Ledger(1.0))
    twice = [KnownFace(face, "one") for face in FACES]
    result = scene(toy).replace(picture, twice)
    assert [face.status for face in result.faces] == ["replaced"] * 2
    assert toy.ledger.total("one") == 1.0


def test_settings_reach_the_faces(toy: Anonymizer, picture: Picture) -> None:
    result = scene(toy, hide=["identity", "gender"], keep=["age"], epsilon=2.0)(picture)
    face = result.faces[0].result
    assert face is not None
    assert (face.hidden, face.kept, face.epsilon) == (("identity", "gender"), ("age",), 2.0)
    with pytest.raises(ConfigError):
        scene(toy, hide=["mood"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "blur"}, "choose reorganize, avatar, pixelate, fill"),
        ({"threshold": 0.0}, "threshold"),
        ({"feather": 1.5}, "feather"),
        ({"method": "fill", "epsilon": 1.0}, "epsilon has no effect"),
        ({"method": "fill", "feather": 0.3}, "feather has no effect"),
        ({"method": "pixelate", "colour_match": False}, "colour_match has no effect"),
        ({"method": "avatar", "feather": 0.3}, "feather has no effect"),
        ({"method": "avatar", "colour_match": False}, "colour_match has no effect"),
        ({"method": "pixelate", "keep": ["age"]}, "keep has no effect"),
        ({"method": "avatar", "mechanism": "uniform"}, "mechanism has no effect"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SceneSettings(**settings)


@pytest.mark.parametrize(
    "change",
    [lambda p: p[:, :, 0], lambda p: p.astype(float), lambda p: p[:0], lambda p: p.tolist()],
)
def test_other_pictures_are_refused(picture: Picture, change: Callable[[Picture], Any]) -> None:
    whole = scene(None, method="fill")
    for call in (whole, whole.detect, whole.blank, lambda p: whole.replace(p, [])):
        with pytest.raises(ImageError, match="uint8"):
            call(change(picture))


def test_blank(picture: Picture) -> None:
    assert (scene(None, method="fill").blank(picture) == FILL_COLOUR).all()


@pytest.mark.parametrize(("x", "y"), [(0, 0), (159, 119), (-10, 60), (80, 130), (400, 400)])
def test_faces_at_and_beyond_the_border(toy: Anonymizer, picture: Picture, x: int, y: int) -> None:
    face = detection(x, y, 40)
    for method in METHODS:
        result = scene(toy, [face], method=method)(picture)
        assert len(result.faces) == 1
        region = in_face(picture.shape, face)
        if region.any():
            assert (result.image[region] == picture[region]).all(axis=1).mean() < 0.05
        else:
            assert result.image.shape == picture.shape


def test_a_face_of_one_pixel(toy: Anonymizer, picture: Picture) -> None:
    """Too small for networks: filled, and said so."""
    (face,) = scene(toy, [detection(50, 50, 1)])(picture).faces
    assert face.status == "filled"
    assert face.reason


def test_an_avatar_needs_eyes_for_kept_keywords(toy: Anonymizer) -> None:
    with pytest.raises(ConfigError, match="--clip"):
        scene(toy, method="avatar", keep=["gender"])


def test_an_avatar_is_held_for_its_track(toy: Anonymizer, picture: Picture) -> None:
    toy = Anonymizer(toy.bundle, ledger=Ledger(0.0))  # it costs nothing
    whole = scene(toy, method="avatar")
    first, again, other = (
        whole.replace(picture, [KnownFace(FACES[0], track)]).image for track in "aab"
    )
    assert (first == again).all()
    assert (first != other).any()


def test_an_avatar_says_nothing_of_the_face(toy: Anonymizer, picture: Picture) -> None:
    """The same track in a picture with another face: the same pixels in its core."""
    whole = scene(toy, method="avatar")
    other = np.array(picture)
    other[in_box(picture.shape, FACES[0])] = 77
    made = [whole.replace(p, [KnownFace(FACES[0], "t")]).image for p in (picture, other)]
    region = in_box(picture.shape, FACES[0])
    assert (made[0][region] == made[1][region]).all()


# ---- the demo bundle


@pytest.fixture(scope="module")
def demo() -> Anonymizer:
    return lf.Anonymizer.load("demo")


def avatar_scene(count: int, seed: int, size: int = 80) -> tuple[Picture, list[Detection], Avatars]:
    avatars = sample_avatars(count, torch.Generator().manual_seed(seed))
    picture = np.full((size + 20, count * (size + 20), 3), (90, 120, 100), dtype=np.uint8)
    faces = []
    for i, portrait in enumerate(to_pictures(render(avatars, size) * 2 - 1)):
        left = i * (size + 20) + 10
        picture[10 : 10 + size, left : left + size] = portrait
        points = landmarks(avatars[i : i + 1])[0].numpy() * size - 0.5 + (left, 10)
        box = np.array([left + 0.22 * size, 10 + 0.25 * size, left + 0.78 * size, 10 + 0.88 * size])
        faces.append(Detection(box, 0.9, points))
    return picture, faces, avatars


def test_avatars_in_a_scene_become_other_avatars(demo: Anonymizer) -> None:
    picture, faces, _ = avatar_scene(6, seed=1)
    result = scene(demo, faces)(picture)
    assert sum(face.status == "replaced" for face in result.faces) >= 5
    for known, face in zip(faces, result.faces, strict=True):
        region = in_face(picture.shape, known)
        assert (result.image[region] == picture[region]).all(axis=1).mean() < 0.05
        if face.status == "replaced":
            assert face.result is not None
            assert face.result.similarity is not None
    assert (result.image[:5] == picture[:5]).all()


def test_portraits_have_borders_of_their_own(demo: Anonymizer) -> None:
    for setting in ({"feather": 0.3}, {"colour_match": False}):
        with pytest.raises(ConfigError, match="no effect with portraits"):
            scene(demo, **setting)


def test_a_photograph_is_filled_by_the_demo(demo: Anonymizer) -> None:
    astronaut = np.asarray(skimage.data.astronaut())
    face = Detection(
        np.array([181.0, 58, 270, 178]),
        0.9,
        np.array([[203.0, 102], [247, 104], [223, 125], [203, 142], [241, 144]]),
    )
    result = scene(demo, [face])(astronaut)
    assert result.filled
    assert (result.image[in_box(astronaut.shape, face)] == FILL_COLOUR).all()
    made = scene(demo, [face], method="avatar")(astronaut)
    assert made.faces[0].status == "replaced"
    region = in_box(astronaut.shape, face)
    assert (made.image[region] == astronaut[region]).all(axis=1).mean() < 0.01


def test_kept_keywords_choose_the_avatar(demo: Anonymizer) -> None:
    """With the demo's own CLIP as both eyes, so the source is an avatar."""
    import_open_clip()
    clip = clip_of(demo.bundle, None)
    attributes = PhotographAttributes(clip, clip, demo.keywords)
    settings = SceneSettings(method="avatar", keep=["gender", "expression"])
    for female in (0.0, 1.0):
        one = sample_avatars(1, torch.Generator().manual_seed(9)).with_attributes(
            gender=female, expression=0.9, beard=0.0
        )
        portrait = to_pictures(render(one, 64) * 2 - 1)[0]
        wanted = attributes.of_photograph(to_tensor([portrait])[0], ["gender", "expression"])
        assert wanted == {"gender": int(female), "expression": 0}
        picture = np.full((100, 100, 3), 120, dtype=np.uint8)
        picture[18:82, 18:82] = portrait
        points = landmarks(one)[0].numpy() * 64 - 0.5 + 18
        face = Detection(np.array([32.0, 34, 68, 75]), 0.9, points)
        whole = SceneAnonymizer(demo, KnownFaces([face]), settings, attributes)
        made = whole.replace(picture, [KnownFace(face, f"kept-{female}")])
        assert made.faces[0].status == "replaced"
        held = demo.ledger.held(f"kept-{female}", _never, 0.0, "avatar")
        z = torch.tensor(held.feature)[None]
        with torch.inference_mode():
            drawn = demo.generator.synthesis(demo.generator.mapping(z)).clamp(-1, 1)
        assert attributes.of_photograph(drawn[0], ["gender", "expression"]) == wanted


def _never() -> Any:
    raise BudgetExceeded("it is held")


def test_a_clip_model_without_effect_is_refused(demo: Anonymizer) -> None:
    attributes = PhotographAttributes(None, None, demo.keywords)
    for settings in (
        SceneSettings(method="avatar"),
        SceneSettings(method="avatar", keep=["identity"]),
        SceneSettings(method="fill"),
    ):
        with pytest.raises(ConfigError):
            SceneAnonymizer(demo, KnownFaces([]), settings, attributes)


# ---- frames that are tensors


@pytest.mark.parametrize("method", METHODS)
def test_frames_take_the_same_steps(toy: Anonymizer, picture: Picture, method: Any) -> None:
    frame = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
    before = frame.clone()
    whole = scene(toy, method=method)
    made = whole(frame)
    assert torch.equal(frame, before)
    assert made.image.dtype == torch.uint8
    assert made.image.shape == frame.shape
    assert [face.status for face in made.faces] == [f.status for f in whole(picture).faces]
    shown = made.image.permute(1, 2, 0).numpy()
    for face in FACES:
        region = in_face(picture.shape, face)
        assert (shown[region] == picture[region]).all(axis=1).mean() < 0.02
    assert (whole.blank(frame) == FILL_COLOUR[0]).all()


def test_a_frame_of_avatars_is_reorganized(demo: Anonymizer) -> None:
    picture, faces, _ = avatar_scene(4, seed=2)
    frame = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
    result = scene(demo, faces)(frame)
    assert sum(face.status == "replaced" for face in result.faces) >= 3


def test_a_frame_fails_closed(
    toy: Anonymizer, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = torch.from_numpy(picture).permute(2, 0, 1).contiguous()
    whole = scene(toy)

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("lreorg_fast.faces.on_device.paste_layer", broken)
    made = whole(frame)
    assert all(face.status == "filled" for face in made.faces)
    shown = made.image.permute(1, 2, 0).numpy()
    for face in FACES:
        assert (shown[in_box(picture.shape, face)] == FILL_COLOUR).all()
    monkeypatch.setattr("lreorg_fast.faces.on_device.compose", broken)
    assert (whole(frame).image == FILL_COLOUR[0]).all()


@pytest.mark.parametrize("shape", [(4, 9, 9), (9, 9, 3), (3, 0, 9), (3, 9)])
def test_other_tensors_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="must be"):
        scene(None, method="fill")(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(ImageError, match="must be"):
        scene(None, method="fill")(torch.zeros(3, 9, 9))
