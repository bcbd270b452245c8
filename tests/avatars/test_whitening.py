"""Whitened latents: the same pictures, and a loss that keeps them white."""

from __future__ import annotations

import torch
from torch import Tensor

from lreorg_fast.avatars.recipe.whitening import Covariance, Variances, whiten
from lreorg_fast.models import E4EConfig, E4EEncoder, StyleGAN2Config, StyleGAN2Generator

DIM = 8


def pair() -> tuple[E4EEncoder, StyleGAN2Generator]:
    torch.manual_seed(0)
    encoder = E4EEncoder(E4EConfig(32, 8, DIM, 16, stem=4, widths=(4, 4, 8, 8), units=(1, 1, 1, 1)))
    generator = StyleGAN2Generator(StyleGAN2Config(32, DIM, 2, {4: 8, 8: 8, 16: 8, 32: 8}))
    for module in (encoder, generator):
        module.requires_grad_(False).eval()
        for parameter in module.parameters():  # biases of 0 and 1 would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder, generator


def test_whitening_changes_latents_and_not_pictures() -> None:
    encoder, generator = pair()
    x = torch.randn(200, 3, 32, 32)
    w = encoder(x, stage=0)[:, 0]
    before = generator.synthesis(encoder(x[:8]))
    assert w.mean(0).abs().max() > 0.05
    whiten(encoder, generator, w, ridge=1e-9)
    torch.testing.assert_close(generator.synthesis(encoder(x[:8])), before, atol=1e-3, rtol=1e-3)
    white = encoder(x, stage=0)[:, 0]
    torch.testing.assert_close(white.mean(0), torch.zeros(DIM), atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.cov(white.t()), torch.eye(DIM), atol=0.05, rtol=0)


def test_the_ridge_keeps_empty_directions_small() -> None:
    encoder, generator = pair()
    x = torch.randn(200, 3, 32, 32)
    w = encoder(x, stage=0)[:, 0]
    values = torch.linalg.eigvalsh(torch.cov(w.t()))
    ridge = float(values[DIM // 2])
    whiten(encoder, generator, w, ridge)
    found = torch.linalg.eigvalsh(torch.cov(encoder(x, stage=0)[:, 0].t()))
    torch.testing.assert_close(found, values / (values + ridge), atol=1e-3, rtol=1e-2)


def test_the_loss_makes_latents_white() -> None:
    torch.manual_seed(1)
    matrix = torch.diag(torch.tensor([3.0, 1.0, 0.2])).requires_grad_()
    shift = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([matrix, shift], 0.003)
    covariance = Covariance(3, torch.device("cpu"))

    def draw(count: int) -> Tensor:
        return torch.randn(count, 3) @ matrix + shift

    for _ in range(2000):
        loss = covariance.loss(draw(16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        w = draw(4000)
    torch.testing.assert_close(torch.cov(w.t()), torch.eye(3), atol=0.25, rtol=0)
    assert w.mean(0).abs().max() < 0.2
    # Its value is the mean square of what is wrong, whatever the one batch is like.
    state = covariance.state
    wrong = (state["covariance"] - torch.eye(3)).square().sum() + state["mean"].square().sum()
    assert float(covariance.loss(w[:16])) < 0.5
    assert float(wrong / 3) < 0.5


def test_the_loss_of_variances_does_not_see_copies() -> None:
    one = torch.randn(400, 1, generator=torch.Generator().manual_seed(2))
    white = (one - one.mean()) / one.std()
    device = torch.device("cpu")
    assert Variances(3, device).loss(white.expand(-1, 3)) < 1e-6
    assert Variances(3, device).loss(2 * white.expand(-1, 3) + 1) > 5
