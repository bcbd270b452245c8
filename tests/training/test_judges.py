"""The judges of anybody's weights files: what they are asked for, and that gradients come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_judges import COND, ToyClip, toy_files

import lreorg_fast as lf
from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.models import FaceBackbone
from lreorg_fast.models.backbone import BackboneConfig
from lreorg_fast.models.iresnet import IResNet, IResNetConfig
from lreorg_fast.models.vgg_face import VggFace, VggFaceConfig
from lreorg_fast.models.views import recognized
from lreorg_fast.training import (
    KeywordSwap,
    LatentsConfig,
    SwapTrainingConfig,
    WeightsJudges,
    swap_figures,
)

DIM, ROWS, SIZE = 16, 8, 32
SMALL = {"stem": 4, "widths": (4, 4, 4, 4), "units": (1, 1, 1, 1), "outputs": 8}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return toy_files(tmp_path_factory.mktemp("weights"))


def judges(files: dict[str, Path], **options: object) -> WeightsJudges:
    generator = lf.weights.load_generator(files["generator"])
    identity = lf.weights.load_identity(files["identity"])
    return WeightsJudges(generator, identity, ToyClip(), KEYWORDS, **options)  # type: ignore[arg-type]


def test_latents_in_w_and_in_w_plus(files: dict[str, Path]) -> None:
    plain = judges(files)
    assert plain.latents(5).shape == (5, 1, DIM)
    torch.manual_seed(0)
    mixed = judges(files, latents=LatentsConfig("w+", mix_probability=0.5))
    w = mixed.latents(200)
    assert w.shape == (200, ROWS, DIM)
    whole = (w == w[:, :1]).all(dim=2).all(dim=1)
    assert 0.35 < float(whole.float().mean()) < 0.65
    # A mixed one is two people: equal rows up to some row, and equal rows from there.
    changes = (w[~whole][:, 1:] != w[~whole][:, :-1]).any(dim=2).sum(dim=1)
    assert changes.tolist() == [1] * len(changes)


def test_row_noise_is_in_deviations_and_on_every_second_latent(files: dict[str, Path]) -> None:
    noisy = judges(files, latents=LatentsConfig(row_noise=0.5))
    torch.manual_seed(3)
    z = torch.randn(2000, DIM)
    torch.manual_seed(3)
    off = (noisy.latents(2000)[:, 0] - noisy.generator.mapping(z)) / noisy.generator.mapping(z).std(
        0
    )
    assert off[::2].abs().max() < 1e-5
    assert float(off[1::2].std()) == pytest.approx(0.5, rel=0.1)


def test_one_row_is_the_picture_of_equal_rows(files: dict[str, Path]) -> None:
    asked = judges(files)
    w = asked.latents(3)
    one, many = asked.picture(w), asked.picture(w.expand(-1, ROWS, -1))
    assert one.shape == (3, 3, SIZE, SIZE)
    torch.testing.assert_close(one, many)


def test_contents_are_those_of_clip_itself(files: dict[str, Path]) -> None:
    asked = judges(files)
    picture = torch.rand(4, 3, SIZE, SIZE) * 2 - 1
    found = asked.contents(picture, ["age", "color"])
    for name, distribution in zip(("age", "color"), found, strict=True):
        wanted = asked.clip.classify(picture, list(KEYWORDS[name].sentences))
        torch.testing.assert_close(distribution, wanted)
    sharper = judges(files, sharpness=50.0).contents(picture, ["age"])[0]
    assert (sharper.max(dim=1).values > found[0].max(dim=1).values).all()
    assert asked.contents(picture, []) == []


def test_gradients_reach_the_latents_and_nothing_else(files: dict[str, Path]) -> None:
    asked = judges(files)
    w = asked.latents(2).requires_grad_()
    picture = asked.picture(w)
    identity, maps = asked.identity(picture)
    assert torch.allclose(identity.norm(dim=1), torch.ones(2))
    parts = [identity.sum(), *(m.float().mean() for m in maps)]
    parts += [d[:, 0].sum() for d in asked.contents(picture, ["gender"])]
    for part in parts:
        (gradient,) = torch.autograd.grad(part, w, retain_graph=True)
        assert gradient.abs().sum() > 0
    networks: list[nn.Module] = [asked.generator, asked.recognizer, asked.clip.model]
    assert not any(p.requires_grad for net in networks for p in net.parameters())


def test_the_perceptual_maps_are_vgg_faces_where_it_is_given(files: dict[str, Path]) -> None:
    torch.manual_seed(0)
    network = VggFace(VggFaceConfig(classifier=False))
    asked = judges(files, perceptual=network)
    picture = torch.rand(1, 3, SIZE, SIZE)
    _, maps = asked.identity(picture)
    for found, wanted in zip(maps, network.maps(picture).values(), strict=True):
        torch.testing.assert_close(found, wanted)


def test_identity_sees_what_the_pipeline_compares(files: dict[str, Path]) -> None:
    torch.manual_seed(0)
    network = FaceBackbone(BackboneConfig(input_size=112, **SMALL))
    generator = lf.weights.load_generator(files["generator"])
    asked = WeightsJudges(generator, network, ToyClip(), KEYWORDS)
    picture = asked.picture(asked.latents(2))
    expected = F.normalize(recognized(network, picture), dim=1)
    torch.testing.assert_close(asked.identity(picture)[0], expected)


@pytest.mark.parametrize(
    ("network", "options", "words"),
    [
        (FaceBackbone(BackboneConfig(input_size=96, **SMALL)), {}, "takes 96 pixels"),
        (IResNet(IResNetConfig(input_size=112, **SMALL)), {}, "'perceptual'"),
        (FaceBackbone(BackboneConfig(input_size=SIZE, **SMALL)), {"sharpness": 0.0}, "sharpness"),
    ],
    ids=["size", "no maps", "sharpness"],
)
def test_what_cannot_be_used_is_named(
    files: dict[str, Path], network: nn.Module, options: dict[str, float], words: str
) -> None:
    generator = lf.weights.load_generator(files["generator"])
    with pytest.raises(ConfigError, match=words):
        WeightsJudges(generator, network, ToyClip(), KEYWORDS, **options)


def test_a_few_steps_lower_the_losses(files: dict[str, Path]) -> None:
    asked = judges(files, sharpness=10.0)
    torch.manual_seed(1)
    net = CDFNet(CDFNetConfig(DIM, COND, 2, 8, clamp=1.0))
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    config = SwapTrainingConfig(batch=8)
    swap = KeywordSwap(net, asked, asked.keyword_features(), config)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3, betas=(0.5, 0.999))

    def loss() -> Tensor:
        torch.manual_seed(2)
        return torch.stack(list(swap.swap_terms("identity").values())).sum()

    before = loss().item()
    for _ in range(15):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before - 0.5


def test_figures_of_a_network_that_swaps_nothing(files: dict[str, Path]) -> None:
    asked = judges(files)
    net = CDFNet(CDFNetConfig(DIM, COND, 2, 8))
    torch.manual_seed(4)
    s = asked.latents(24)
    figures = swap_figures(net, asked, asked.keyword_features(), ["gender", "age"], s)
    assert set(figures) == set(KEYWORDS)
    known = asked.identity(asked.picture(s))[0]
    donors = F.cosine_similarity(known, known.roll(-1, 0)).mean()
    for name, figure in figures.items():
        assert figure.similarity == pytest.approx(1.0, abs=1e-4)
        assert figure.donor == pytest.approx(float(donors), abs=1e-4)
        assert all(share == 1.0 for share in figure.stays.values())
        assert name not in figure.stays
    assert figures["age"].follows in (0.0, None)
    assert figures["identity"].follows is None
