"""Stage 1: a small StyleGAN2 trained on avatars with the adversarial objective.

Grown once, from half to full resolution; non-saturating loss, lazy R1, style mixing, moving
average of the weights, as in Karras et al. 2020. What is kept is the average.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.avatars.recipe.data import PictureSet, sheet
from lreorg_fast.models.discriminator import StyleGAN2Discriminator
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.training.run import Run, Say

_R1_EVERY = 16


_MODEL = StyleGAN2Config(
    resolution=64,
    style_dim=128,
    mapping_layers=4,
    channels={4: 128, 8: 128, 16: 128, 32: 64, 64: 32},
)


@dataclass(frozen=True)
class GeneratorRecipe:
    """How the generator is trained. Counts are in thousands of real pictures shown (kimg)."""

    model: StyleGAN2Config = _MODEL
    kimg: float = 74.0
    low_resolution_kimg: float = 50.0
    fade_kimg: float = 10.0
    batch: int = 16
    learning_rate: float = 2.5e-3
    r1_weight: float = 0.5
    style_mixing: float = 0.5
    average_kimg: float = 10.0


class Growth:
    """Which resolution is trained at a position, and how far the new layer is faded in."""

    def __init__(self, recipe: GeneratorRecipe, position: float) -> None:
        low = position < recipe.low_resolution_kimg
        full = recipe.model.resolution
        self.resolution = full // 2 if low else full
        faded = (position - recipe.low_resolution_kimg) / recipe.fade_kimg
        self.fade = 1.0 if low else min(1.0, faded)


class Adversaries:
    """Generator, discriminator, their optimizers, and the moving average."""

    def __init__(self, recipe: GeneratorRecipe, device: torch.device) -> None:
        self.recipe = recipe
        model = recipe.model
        self.generator = StyleGAN2Generator(model).to(device)
        self.discriminator = StyleGAN2Discriminator(model.resolution, model.channels).to(device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        betas = (0.0, 0.99)
        rate = recipe.learning_rate
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), rate, betas=betas)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), rate, betas=betas)
        self.device = device
        self.count = 0

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "latent_avg": self.average.latent_avg,
            "g_optimizer": self.g_optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
            "count": self.count,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.load_state_dict(state["average"])
        self.average.latent_avg.copy_(state["latent_avg"])
        self.g_optimizer.load_state_dict(state["g_optimizer"])
        self.d_optimizer.load_state_dict(state["d_optimizer"])
        self.count = state["count"]

    def fakes(self, count: int, growth: Growth) -> tuple[Tensor, Tensor]:
        """Pictures from mixed styles, and the latents ``(count, rows, dim)`` they came from."""
        recipe, model = self.recipe, self.recipe.model
        z = torch.randn(2 * count, model.style_dim).to(self.device)
        first, second = self.generator.mapping(z).chunk(2)
        cut = torch.randint(1, model.num_ws, (count, 1, 1))
        unmixed = torch.rand(count, 1, 1) >= recipe.style_mixing
        cut = torch.where(unmixed, model.num_ws, cut).to(self.device)
        row = torch.arange(model.num_ws, device=self.device)[None, :, None]
        latents = torch.where(row < cut, first[:, None], second[:, None])
        picture = self.generator.synthesis(
            latents,
            noise="random",
            dtype=torch.bfloat16,
            resolution=growth.resolution,
            fade=growth.fade,
        )
        return picture, latents

    def judge(self, picture: Tensor, growth: Growth) -> Tensor:
        logits: Tensor = self.discriminator(picture, dtype=torch.bfloat16, fade=growth.fade)
        return logits

    def step(self, real: Tensor, growth: Growth) -> dict[str, float]:
        """One step of both networks on one batch."""
        fake, latents = self.fakes(self.recipe.batch, growth)
        figures = self.improve_generator(fake, growth)
        figures |= self.improve_discriminator(real, fake, growth)
        self.update_average(latents)
        return figures

    def improve_generator(
        self, fake: Tensor, growth: Growth, other: Tensor | None = None
    ) -> dict[str, float]:
        """Toward pictures that the discriminator takes for real, and a lower ``other`` loss."""
        self.discriminator.requires_grad_(False)
        g_loss = F.softplus(-self.judge(fake, growth)).mean()
        self.g_optimizer.zero_grad()
        (g_loss if other is None else g_loss + other).backward()
        self.g_optimizer.step()
        self.discriminator.requires_grad_(True)
        return {"g": g_loss.item()}

    def improve_discriminator(self, real: Tensor, fake: Tensor, growth: Growth) -> dict[str, float]:
        """Toward telling real pictures from fakes, with the lazy gradient penalty."""
        on_real, on_fake = self.judge(real, growth), self.judge(fake.detach(), growth)
        d_loss = F.softplus(on_fake).mean() + F.softplus(-on_real).mean()
        self.d_optimizer.zero_grad()
        d_loss.backward()
        self.d_optimizer.step()
        figures = {"d": d_loss.item()}
        if self.count % _R1_EVERY == 0:
            figures["r1"] = self._penalize(real, growth)
        self.count += 1
        return figures

    def _penalize(self, real: Tensor, growth: Growth) -> float:
        real = real.detach().clone().requires_grad_()
        total = self.judge(real, growth).sum()
        (gradient,) = torch.autograd.grad(total, real, create_graph=True)
        penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
        self.d_optimizer.zero_grad()
        (penalty * (self.recipe.r1_weight / 2 * _R1_EVERY)).backward()
        self.d_optimizer.step()
        return penalty.item()

    @torch.no_grad()
    def update_average(self, latents: Tensor) -> None:
        """Follow the generator; ``latents`` as :meth:`fakes` returns them."""
        for kept, new in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            kept.lerp_(new, 1 - self.decay)
        self.average.latent_avg.lerp_(latents.mean(dim=(0, 1)), 0.005)

    @property
    def decay(self) -> float:
        """Weight of the past in moving averages; it grows while little has been seen."""
        seen = self.count * self.recipe.batch
        half_life = max(min(self.recipe.average_kimg * 1000, seen * 0.05), 1.0)
        return float(0.5 ** (self.recipe.batch / half_life))


def train_generator(
    recipe: GeneratorRecipe, data: PictureSet, folder: Path, device: torch.device, say: Say
) -> None:
    """Train, or go on training; the average ends in ``folder/state.pt``."""
    torch.manual_seed(1)
    run = Run(folder, "generator", recipe.kimg, "kimg", say)
    adversaries = Adversaries(recipe, device)
    state = run.resume()
    if state is not None:
        adversaries.load(state)
    shown = torch.randn(48, recipe.model.style_dim, generator=torch.Generator().manual_seed(7))
    next_sheet = run.position
    for position in run.steps(recipe.batch / 1000, adversaries.state):
        growth = Growth(recipe, position)
        real = data.batch(recipe.batch).to(device)
        if growth.resolution < recipe.model.resolution:
            real = F.avg_pool2d(real, 2)
        run.track(**adversaries.step(real, growth))
        if position >= next_sheet:
            next_sheet += 20.0
            w = adversaries.average.mapping(shown.to(device))
            with torch.inference_mode():
                picture = adversaries.average.synthesis(
                    w, resolution=growth.resolution, fade=growth.fade
                )
            sheet(picture, folder / f"generator_{int(position):04d}.png", columns=12)
    run.finish(parameters=sum(p.numel() for p in adversaries.average.parameters()))
