"""Stage 5: an e4e-style encoder on the finished generator.

Rendered pictures must come back as the same picture, the same person and the same CLIP meaning;
generated ones must come back as the latent they were made from. Offsets between rows are
penalized, so that codes stay near W, where CDFNet was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.avatars.recipe.data import PictureSet, sheet, to_unit
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.stylegan2 import StyleGAN2Generator
from lreorg_fast.training import losses
from lreorg_fast.training.run import Run, Say

_MODEL = E4EConfig(
    input_size=64,
    num_ws=10,
    style_dim=128,
    style_channels=64,
    stem=16,
    widths=(32, 64, 96, 96),
    units=(1, 1, 1, 1),
)


@dataclass(frozen=True)
class EncoderRecipe:
    """How the encoder is trained; half of every batch is rendered, half generated."""

    model: E4EConfig = _MODEL
    seed: int = 51
    steps: int = 1800
    batch: int = 32
    learning_rate: float = 2e-3
    pixels: float = 4.0
    features: float = 0.6
    identity: float = 1.0
    latent: float = 0.3
    offsets: float = 0.02


class _Objective:
    """The loss of one batch."""

    def __init__(
        self, recipe: EncoderRecipe, generator: StyleGAN2Generator, recognizer: FaceBackbone
    ) -> None:
        self.recipe = recipe
        self.generator = generator
        self.recognizer = recognizer
        with torch.no_grad():
            device = generator.latent_avg.device
            z = torch.randn(10_000, generator.config.style_dim, device=device)
            w = generator.mapping(z)
        self.mean, self.spread = w.mean(0), w.std(0)

    def __call__(self, encoder: E4EEncoder, rendered: Tensor) -> dict[str, Tensor]:
        recipe, generator = self.recipe, self.generator
        half = len(rendered)
        z = torch.randn(half, generator.config.style_dim, device=rendered.device)
        with torch.no_grad():
            w = generator.mapping(z)
            made = generator.synthesis(w, dtype=torch.bfloat16).clamp(-1, 1)
        with torch.autocast(rendered.device.type, torch.bfloat16):
            codes = encoder(torch.cat([rendered, made])).float()
        offsets = (codes - codes[:, :1]) / self.spread
        error = (codes[half:] - w[:, None]) / self.spread
        back = generator.synthesis(codes[:half], dtype=torch.bfloat16)
        with torch.no_grad():
            wanted_maps, wanted = self._look(rendered)
        found_maps, found = self._look(back)
        return {
            "pixels": recipe.pixels * F.mse_loss(back, rendered),
            "features": recipe.features * losses.perceptual(wanted_maps, found_maps),
            "identity": recipe.identity * losses.cosine_distance(wanted, found),
            "latent": recipe.latent * error.square().mean(),
            "offsets": recipe.offsets * offsets[:half].square().mean(),
        }

    def _look(self, pictures: Tensor) -> tuple[list[Tensor], Tensor]:
        with torch.autocast(pictures.device.type, torch.bfloat16):
            maps = self.recognizer.features(pictures)
            raw = self.recognizer.head(maps[-1])
        return maps, F.normalize(raw.float(), dim=1)


def train_encoder(
    recipe: EncoderRecipe,
    data: PictureSet,
    generator: StyleGAN2Generator,
    recognizer: FaceBackbone,
    folder: Path,
    device: torch.device,
    say: Say,
) -> None:
    """Train, or go on training; leaves a sheet of pictures and reconstructions."""
    torch.manual_seed(recipe.seed)
    run = Run(folder, "encoder", recipe.steps, "steps", say)
    encoder = E4EEncoder(recipe.model).to(device)
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = _Objective(recipe, generator.to(device), recognizer.to(device))
    encoder.latent_avg.copy_(objective.mean.expand_as(encoder.latent_avg))
    optimizer = torch.optim.AdamW(encoder.parameters(), recipe.learning_rate, weight_decay=0.01)
    state = run.resume()
    if state is not None:
        encoder.load_state_dict(state["encoder"])
        encoder.latent_avg.copy_(state["latent_avg"])
        optimizer.load_state_dict(state["optimizer"])

    def payload() -> dict[str, object]:
        average = encoder.latent_avg[0]
        saved = {"encoder": encoder.state_dict(), "latent_avg": average.clone()}
        return {**saved, "optimizer": optimizer.state_dict()}

    for position in run.steps(1, payload):
        warm = min(1.0, (position + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warm * (1 - 0.95 * position / recipe.steps)
        terms = objective(encoder, data.batch(recipe.batch // 2).to(device))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 2.0)
        optimizer.step()
        run.track(**{name: term.item() for name, term in terms.items()})
    run.finish(parameters=sum(p.numel() for p in encoder.parameters()))
    _show(encoder.eval(), generator, data, folder / "encoder.png")


@torch.inference_mode()
def _show(encoder: E4EEncoder, generator: StyleGAN2Generator, data: PictureSet, path: Path) -> None:
    pictures = to_unit(data.pictures[:36]).to(encoder.latent_avg.device)
    back = generator.synthesis(encoder(pictures))
    rows = [torch.cat([pictures[i : i + 12], back[i : i + 12]]) for i in range(0, 36, 12)]
    sheet(torch.cat(rows), path, columns=12)


def load_encoder(recipe: EncoderRecipe, folder: Path) -> E4EEncoder:
    """The trained encoder, frozen, in evaluation mode."""
    state = torch.load(folder / "state.pt", weights_only=True)["payload"]
    encoder = E4EEncoder(recipe.model)
    encoder.load_state_dict(state["encoder"])
    encoder.latent_avg.copy_(state["latent_avg"].expand_as(encoder.latent_avg))
    return encoder.requires_grad_(False).eval()
