"""Stage 7: the encoder alone, finished on the frozen generator, now with a row for each layer.

CDFNet can be trained beside this stage. Generated pictures must be encoded to the latent they were
made from, and offsets between rows are penalized, so that codes stay near W, where CDFNet is
trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.avatars.recipe.data import PictureSet, sheet
from lreorg_fast.avatars.recipe.reconstruction import (
    PictureMeaning,
    Reconstruction,
    ReconstructionWeights,
)
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.e4e import E4EEncoder
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.models.stylegan2 import StyleGAN2Generator
from lreorg_fast.training.run import Run, Say


@dataclass(frozen=True)
class EncoderRecipe:
    """How the encoder is finished.

    ``latent`` weights the error of known latents and ``offsets`` differences between rows.
    """

    seed: int = 55
    steps: int = 4_000
    batch: int = 16
    learning_rate: float = 8e-4
    latent: float = 0.5
    offsets: float = 0.1
    weights: ReconstructionWeights = field(
        default_factory=lambda: ReconstructionWeights(identity=4.0, meaning=2.0, contents=0.5)
    )


class _Objective:
    """The loss of one batch, half of it portraits and half generated pictures."""

    def __init__(
        self,
        recipe: EncoderRecipe,
        generator: StyleGAN2Generator,
        recognizer: FaceBackbone,
        clip: PictureMeaning,
    ) -> None:
        self.recipe = recipe
        self.generator = generator
        self.device = generator.latent_avg.device
        self.spread = self._latents(10_000).std(0)
        self.reconstruction = Reconstruction(recipe.weights, recognizer, clip)

    @torch.no_grad()
    def _latents(self, count: int) -> Tensor:
        z = torch.randn(count, self.generator.config.z_dim)
        return self.generator.mapping(z.to(self.device))

    def __call__(self, encoder: E4EEncoder, real: Tensor) -> dict[str, Tensor]:
        half = len(real)
        w = self._latents(half)
        with torch.no_grad():
            made = self.generator.synthesis(w, dtype=torch.bfloat16).clamp(-1, 1)
        with torch.autocast(self.device.type, torch.bfloat16):
            codes = encoder(torch.cat([real, made])).float()
        back = self.generator.synthesis(codes[:half], dtype=torch.bfloat16)
        back = back.float()
        error = (codes[half:] - w[:, None]) / self.spread
        offsets = (codes[:half] - codes[:half, :1]) / self.spread
        return {
            **self.reconstruction.of_pixels(real, back),
            **self.reconstruction.of_judges(real, back),
            "latent": self.recipe.latent * error.square().mean(),
            "offsets": self.recipe.offsets * offsets.square().mean(),
        }


def train_encoder(
    recipe: EncoderRecipe,
    encoder: E4EEncoder,
    generator: StyleGAN2Generator,
    recognizer: FaceBackbone,
    clip: PictureMeaning,
    data: PictureSet,
    folder: Path,
    device: torch.device,
    say: Say,
) -> None:
    """Train ``encoder`` in place, or go on from ``folder``; leaves a sheet to look at."""
    torch.manual_seed(recipe.seed)
    run = Run(folder, "encoder", recipe.steps, "steps", say)
    encoder.to(device).requires_grad_(True).train()
    objective = _Objective(recipe, generator.to(device), recognizer.to(device), clip)
    optimizer = torch.optim.AdamW(encoder.parameters(), recipe.learning_rate, weight_decay=0.01)
    state = run.resume()
    if state is not None:
        encoder.load_state_dict(state["encoder"])
        optimizer.load_state_dict(state["optimizer"])

    def payload() -> dict[str, Any]:
        return {
            "encoder": encoder.state_dict(),
            "latent_avg": encoder.latent_avg,
            "optimizer": optimizer.state_dict(),
        }

    for position in run.steps(1, payload):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (1 - 0.95 * position / recipe.steps)
        terms = objective(encoder, data.batch(recipe.batch).to(device))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimizer.step()
        run.track(**{name: term.item() for name, term in terms.items()})
    _show(encoder.eval(), generator, data, folder / "encoder.png")
    run.finish(parameters=sum(p.numel() for p in encoder.parameters()))


@torch.inference_mode()
def _show(encoder: E4EEncoder, generator: StyleGAN2Generator, data: PictureSet, path: Path) -> None:
    pictures = to_unit(data.pictures[:36]).to(encoder.latent_avg.device)
    back = generator.synthesis(encoder(pictures))
    rows = [torch.cat([pictures[i : i + 12], back[i : i + 12]]) for i in range(0, 36, 12)]
    sheet(torch.cat(rows), path, columns=12)


def load_encoder(encoder: E4EEncoder, folder: Path) -> E4EEncoder:
    """``encoder`` with the finished weights of ``folder``, frozen, in evaluation mode."""
    state = torch.load(folder / "state.pt", weights_only=True)["payload"]
    encoder.load_state_dict(state["encoder"])
    encoder.latent_avg.copy_(state["latent_avg"])
    return encoder.requires_grad_(False).eval()
