"""Stage 5: the encoder, and the generator refined together with it.

Training goes on adversarially, but half of the generator's pictures now come from encoded
portraits and must be the portrait again: the same pixels, the same features, the same person,
and the same meaning to CLIP (a recognizer looks away from expression and make-up).
That gradient sharpens a small generator much faster than the adversary alone, and it is what
makes inversion faithful. Generated pictures must be encoded to the latent they were made from,
and offsets between rows are penalized, so that codes stay near W, where CDFNet is trained.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.avatars.recipe.data import PictureSet, sheet
from lreorg_fast.avatars.recipe.generator import Adversaries, GeneratorRecipe, Growth
from lreorg_fast.avatars.recipe.reconstruction import (
    ImageMeaning,
    Reconstruction,
    ReconstructionWeights,
)
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.models.stylegan2 import StyleGAN2Generator
from lreorg_fast.training.run import Run, Say, channels_last

_MODEL = E4EConfig(
    input_size=64,
    num_ws=10,
    style_dim=128,
    style_channels=64,
    stem=16,
    widths=(32, 64, 96, 96),
    units=(1, 1, 1, 1),
)
_WEIGHTS = ReconstructionWeights(
    pixels=16.0, features=0.2, identity=3.0, meaning=4.0, latent=0.5, offsets=0.05
)


@dataclass(frozen=True)
class AutoencoderRecipe:
    """How encoder and generator are trained together."""

    model: E4EConfig = _MODEL
    seed: int = 51
    kimg: float = 48.0
    learning_rate: float = 1.5e-3
    average_kimg: float = 2.0
    weights: ReconstructionWeights = _WEIGHTS


class _Pair:
    """Encoder and adversaries, their optimizers and moving averages."""

    def __init__(
        self,
        recipe: AutoencoderRecipe,
        adversaries: Adversaries,
        recognizer: FaceBackbone,
        clip: ImageMeaning,
        device: torch.device,
    ) -> None:
        self.recipe = recipe
        self.adversaries = adversaries
        self.encoder = channels_last(E4EEncoder(recipe.model).to(device))
        with torch.no_grad():
            z = torch.randn(10_000, recipe.model.style_dim, device=device)
            w = adversaries.average.mapping(z)
        self.encoder.latent_avg.copy_(w.mean(0).expand_as(self.encoder.latent_avg))
        self.reconstruction = Reconstruction(recipe.weights, recognizer, clip, w.std(0))
        self.average = copy.deepcopy(self.encoder).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.encoder.parameters(), recipe.learning_rate, betas=(0.5, 0.99), weight_decay=0.01
        )
        grown = adversaries.recipe.low_resolution_kimg + adversaries.recipe.fade_kimg
        self.growth = Growth(adversaries.recipe, grown)

    def state(self) -> dict[str, Any]:
        return {
            "adversaries": self.adversaries.state(),
            "encoder": self.encoder.state_dict(),
            "encoder_average": self.average.state_dict(),
            "encoder_latent_avg": self.encoder.latent_avg.clone(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.adversaries.load(state["adversaries"])
        self.encoder.load_state_dict(state["encoder"])
        self.average.load_state_dict(state["encoder_average"])
        for net in (self.encoder, self.average):
            net.latent_avg.copy_(state["encoder_latent_avg"])
        self.optimizer.load_state_dict(state["optimizer"])

    def step(self, real: Tensor) -> dict[str, float]:
        """One step of encoder, generator and discriminator on one batch of portraits."""
        half = len(real) // 2
        made, latents = self.adversaries.fakes(half, self.growth)
        with torch.autocast(real.device.type, torch.bfloat16):
            codes = self.encoder(torch.cat([real[:half], made.detach().clamp(-1, 1)])).float()
        back = self.adversaries.generator.synthesis(
            codes[:half], noise="random", dtype=torch.bfloat16
        )
        terms, _ = self.reconstruction.terms(real[:half], back, codes, latents.detach())
        fakes = torch.cat([made, back])
        self.optimizer.zero_grad()
        other = torch.stack(list(terms.values())).sum()
        figures = self.adversaries.improve_generator(fakes, self.growth, other)
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 5.0)
        self.optimizer.step()
        figures |= self.adversaries.improve_discriminator(real, fakes, self.growth)
        self.adversaries.update_average(latents)
        self._update_average()
        return {**figures, **{name: term.item() for name, term in terms.items()}}

    @torch.no_grad()
    def _update_average(self) -> None:
        kept, new = self.average.state_dict(), self.encoder.state_dict()
        for name, value in kept.items():
            if value.is_floating_point():
                value.lerp_(new[name], 1 - self.adversaries.decay)
            else:
                value.copy_(new[name])


def train_autoencoder(
    recipe: AutoencoderRecipe,
    generator_recipe: GeneratorRecipe,
    start: Path,
    data: PictureSet,
    recognizer: FaceBackbone,
    clip: ImageMeaning,
    folder: Path,
    device: torch.device,
    say: Say,
) -> None:
    """Train, or go on training, from the adversaries left in ``start``."""
    torch.manual_seed(recipe.seed)
    run = Run(folder, "autoencoder", recipe.kimg, "kimg", say)
    # A new encoder learns fast: an average as slow as the generator's would lag far behind it.
    faster = replace(generator_recipe, average_kimg=recipe.average_kimg)
    adversaries = Adversaries(faster, device)
    adversaries.load(torch.load(start / "state.pt", weights_only=True)["payload"])
    pair = _Pair(recipe, adversaries, recognizer.to(device), clip, device)
    state = run.resume()
    if state is not None:
        pair.load(state)
    next_sheet = run.position + 10.0
    for position in run.steps(generator_recipe.batch / 1000, pair.state):
        # The last third of the way down to a tenth, so that the averages settle.
        rate = min(1.0, 0.1 + 2.7 * (1 - position / recipe.kimg))
        for group in pair.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        for group in adversaries.g_optimizer.param_groups:
            group["lr"] = generator_recipe.learning_rate * rate
        run.track(**pair.step(data.batch(generator_recipe.batch).to(device)))
        if position >= next_sheet:
            next_sheet += 10.0
            _show(pair, data, folder / f"autoencoder_{int(position):03d}.png")
    _show(pair, data, folder / "autoencoder.png")
    run.finish(parameters=sum(p.numel() for p in pair.average.parameters()))


@torch.inference_mode()
def _show(pair: _Pair, data: PictureSet, path: Path) -> None:
    """Portraits, what comes back of them, and free samples, row by row."""
    generator = pair.adversaries.average
    pictures = to_unit(data.pictures[:24]).to(pair.encoder.latent_avg.device)
    back = generator.synthesis(pair.average.eval()(pictures))
    z = torch.randn(24, pair.recipe.model.style_dim, generator=torch.Generator().manual_seed(7))
    free = generator.synthesis(generator.mapping(z.to(pair.encoder.latent_avg.device)))
    rows = [pictures[:12], back[:12], pictures[12:], back[12:], free]
    sheet(torch.cat(rows), path, columns=12)


def load_autoencoder(
    recipe: AutoencoderRecipe, generator_recipe: GeneratorRecipe, folder: Path
) -> tuple[E4EEncoder, StyleGAN2Generator]:
    """The averaged encoder and generator, frozen, in evaluation mode."""
    state = torch.load(folder / "state.pt", weights_only=True)["payload"]
    encoder = E4EEncoder(recipe.model)
    encoder.load_state_dict(state["encoder_average"])
    encoder.latent_avg.copy_(state["encoder_latent_avg"])
    generator = StyleGAN2Generator(generator_recipe.model)
    generator.load_state_dict(state["adversaries"]["average"])
    generator.latent_avg.copy_(state["adversaries"]["latent_avg"])
    return encoder.requires_grad_(False).eval(), generator.requires_grad_(False).eval()
