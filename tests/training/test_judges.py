"""The judges of keyword swap training, made of small networks of the loaders' own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import KEYWORDS, Keyword
from lreorg_fast.models import FaceBackbone, StyleGAN2Generator
from lreorg_fast.models.backbone import BackboneConfig
from lreorg_fast.models.iresnet import IResNet, IResNetConfig
from lreorg_fast.models.stylegan2 import StyleGAN2Config
from lreorg_fast.models.vgg_face import VggFace, VggFaceConfig
from lreorg_fast.models.views import recognized
from lreorg_fast.training.judges import LatentsConfig, WeightsJudges
from lreorg_fast.training.keyword_swap import KeywordSwap, LossWeights, SwapTrainingConfig
from lreorg_fast.training.trainer import train_cdfnet
from lreorg_fast.weights.clip import Clip

DIM, COND, SIZE, ROWS = 8, 6, 16, 6
SMALL = {"stem": 4, "widths": (4, 4, 4, 4), "units": (1, 1, 1, 1), "outputs": 8}
TABLE: dict[str, Keyword] = {name: KEYWORDS[name] for name in ("identity", "gender", "age")}


class Tower(nn.Module):
    """As much of an open_clip model as Clip asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(128, COND)
        self.pixels = nn.Linear(3 * 8 * 8, COND)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.words(tokens).mean(1)

    def encode_image(self, x: Tensor) -> Tensor:
        return self.pixels(x.flatten(1))


class Letters:
    """A tokenizer: one token for each letter."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 128 for letter in text]

    def __call__(self, texts: list[str]) -> Tensor:
        return torch.tensor([(self.encode(text) + [0] * 60)[:60] for text in texts])


def generator() -> StyleGAN2Generator:
    torch.manual_seed(0)
    channels = {4: 8, 8: 8, 16: 8}
    return StyleGAN2Generator(StyleGAN2Config(SIZE, DIM, 2, channels))


def recognizer(size: int = SIZE) -> FaceBackbone:
    return FaceBackbone(BackboneConfig(input_size=size, **SMALL))


def judges(identity: nn.Module | None = None, **changes: Any) -> WeightsJudges:
    made = generator()
    clip = Clip(Tower(), 60, 8, _tokenizer=Letters())
    return WeightsJudges(made, identity or recognizer(), clip, TABLE, **changes)


@pytest.mark.parametrize(("space", "rows"), [("w", 1), ("w+", ROWS)])
def test_shapes(space: str, rows: int) -> None:
    asked = judges(latents=LatentsConfig(space))
    s = asked.latents(4)
    picture = asked.picture(s)
    embedding, maps = asked.identity(picture)
    contents = asked.contents(picture, ["age", "gender"])
    assert s.shape == (4, rows, DIM)
    assert picture.shape == (4, 3, SIZE, SIZE)
    assert embedding.shape == (4, 8)
    assert len(maps) == 4
    assert [x.shape for x in contents] == [(4, 2)] * 2
    torch.testing.assert_close(contents[0].sum(1), torch.ones(4))
    assert asked.contents(picture, []) == []
    features = asked.keyword_features()
    assert list(features) == list(TABLE)
    assert all(abs(float(x.norm()) - 1) < 1e-5 for x in features.values())


@pytest.mark.parametrize("with_vgg", [False, True])
def test_gradients_reach_the_latents_and_only_them(with_vgg: bool) -> None:
    perceptual = VggFace(VggFaceConfig(classifier=False)) if with_vgg else None
    asked = judges(perceptual=perceptual)
    s = asked.latents(2).requires_grad_()
    picture = asked.picture(s)
    embedding, maps = asked.identity(picture)
    results = [embedding[:, 0], *(x.flatten(1).square().mean(1) for x in maps)]
    results += [x[:, 0] for x in asked.contents(picture, ["age"])]
    for result in results:
        (gradient,) = torch.autograd.grad(result.sum(), s, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0
    networks = [asked.generator, asked.recognizer, asked.clip.model]
    for network in networks + ([perceptual] if perceptual else []):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())


def test_identity_sees_what_the_pipeline_compares() -> None:
    asked = judges(recognizer(112))
    picture = asked.picture(asked.latents(2))
    expected = F.normalize(recognized(asked.recognizer, picture), dim=1)
    torch.testing.assert_close(asked.identity(picture)[0], expected)


def test_contents_are_what_clip_classifies() -> None:
    asked = judges()
    picture = asked.picture(asked.latents(3))
    for name in ("age", "gender"):
        expected = asked.clip.classify(picture, TABLE[name].sentences)
        torch.testing.assert_close(asked.contents(picture, [name])[0], expected)
    soft = judges(sharpness=1e-3).contents(picture, ["age"])[0]
    assert (soft - 0.5).abs().max() < 1e-3


def test_one_row_is_the_picture_of_equal_rows() -> None:
    asked = judges()
    s = asked.latents(2)
    torch.testing.assert_close(asked.picture(s), asked.picture(s.expand(-1, ROWS, -1)))


def test_mixed_latents_have_later_rows_of_another() -> None:
    s = judges(latents=LatentsConfig("w+", mix_probability=1.0)).latents(8)
    for own, other in zip(s, s.roll(1, dims=0), strict=True):
        assert not torch.equal(own[0], own[-1])  # the last row is always the other's
        assert torch.equal(own[-1], other[0])
    plain = judges(latents=LatentsConfig("w+")).latents(8)
    assert torch.equal(plain, plain[:, :1].expand_as(plain))


def test_noise_is_on_half_of_the_latents_and_has_the_asked_size() -> None:
    asked = judges(latents=LatentsConfig("w+", row_noise=0.5))
    s = asked.latents(400)
    assert torch.equal(s[::2], s[::2, :1].expand_as(s[::2]))
    found = s[1::2].std(1).square().mean(0).sqrt()
    spread = asked.generator.mapping(torch.randn(4000, DIM)).std(0)
    torch.testing.assert_close(found, 0.5 * spread, rtol=0.15, atol=0)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    # A random recognizer takes everybody for one person: CLIP's contents differ more.
    asked = judges(sharpness=400.0)
    features = asked.keyword_features()
    torch.manual_seed(1)
    net = CDFNet(CDFNetConfig(dim=DIM, cond_dim=COND, num_blocks=2, growth=4))
    config = SwapTrainingConfig(
        steps=60,
        batch=8,
        warm_up=5,
        learning_rate=3e-3,
        weights=LossWeights(latent=0.3),
        keyword_shares={"identity": 0.0, "age": 1.0},
    )

    def loss() -> float:
        torch.manual_seed(2)
        terms = KeywordSwap(net, asked, features, config).swap_terms("age")
        return float(sum(term.item() for term in terms.values()))

    before = loss()
    train_cdfnet(net, asked, features, config, tmp_path, lambda _: None)
    assert loss() < 0.9 * before


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LatentsConfig("z"), "latents.space"),
        (lambda: LatentsConfig("w", mix_probability=0.5), "w\\+"),
        (lambda: LatentsConfig("w+", mix_probability=2.0), "mix_probability"),
        (lambda: LatentsConfig(row_noise=float("nan")), "row_noise"),
        (lambda: judges(recognizer(32)), "32 pixels"),
        (lambda: judges(IResNet(IResNetConfig(input_size=SIZE, **SMALL))), "VGG-Face"),
        (lambda: judges(sharpness=0.0), "sharpness"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
