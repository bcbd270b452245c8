"""Stages 4 and 5: encoder and generator, trained together to give portraits back.

The adversarial objective alone needed half an hour for a generator that was far from sharp, lost
glasses and smiles, and left most of the encoder's work undone (docs/training_notes.md). Here the
bottleneck is one latent w for all rows of the generator, so what the encoder finds is in W, the
space that CDFNet is trained on. The refinement goes on with more weight on what people read in a
face (who it is, wrinkles, a smile), which pays once faces are there at all. The stage after it
teaches the mapping network to draw from what the encoder finds.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lreorg_fast.avatars.recipe.data import PictureSet, sheet
from lreorg_fast.avatars.recipe.reconstruction import (
    PictureMeaning,
    Reconstruction,
    ReconstructionWeights,
)
from lreorg_fast.avatars.recipe.whitening import PENALTIES, whiten
from lreorg_fast.avatars.traits import LATENT_DIM
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.e4e import E4EConfig, E4EEncoder
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.training.run import Run, Say, channels_last

_ENCODER = E4EConfig(
    input_size=64,
    num_ws=10,
    style_dim=128,
    style_channels=64,
    stem=16,
    widths=(32, 64, 96, 96),
    units=(1, 1, 1, 1),
)
_GENERATOR = StyleGAN2Config(
    resolution=64,
    style_dim=128,
    mapping_layers=4,
    channels={4: 128, 8: 128, 16: 128, 32: 64, 64: 32},
    z_dim=LATENT_DIM,
)
_ONE_LATENT = 0  # the stage of the encoder in which no row has an offset
_SHEET_EVERY = 20.0
_CHUNK = 500


@dataclass(frozen=True)
class AutoencoderRecipe:
    """How encoder and generator are trained. Counts are in thousands of portraits (kimg).

    ``spread`` weights the ``penalty``, one of :data:`whitening.PENALTIES`, on latents that are not
    of mean 0 and deviation 1; the losses of CDFNet are balanced for such. ``ridge`` is that of the
    whitening with which a refinement begins. The frozen judges are asked only in
    every ``judge_every``-th step, with so many times their weight: they cost as much as the rest.
    """

    encoder: E4EConfig = _ENCODER
    generator: StyleGAN2Config = _GENERATOR
    seed: int = 51
    kimg: float = 200.0
    batch: int = 16
    encoder_rate: float = 1.5e-3
    generator_rate: float = 2.5e-3
    warm_up: int = 100
    average_kimg: float = 4.0
    spread: float = 0.1
    penalty: str = "variances"
    ridge: float = 1e-3
    judge_every: int = 1
    weights: ReconstructionWeights = field(default_factory=ReconstructionWeights)


# How encoder and generator are trained on after that.
REFINEMENT = AutoencoderRecipe(
    seed=53,
    kimg=300.0,
    spread=0.5,
    penalty="covariance",
    judge_every=4,
    weights=ReconstructionWeights(identity=2.0, meaning=2.0, contents=0.5),
)


class _Pair:
    """Encoder and generator, their optimizer and moving averages."""

    def __init__(self, recipe: AutoencoderRecipe, device: torch.device) -> None:
        self.recipe = recipe
        self.live = nn.ModuleDict(
            {
                "encoder": channels_last(E4EEncoder(recipe.encoder)),
                "generator": StyleGAN2Generator(recipe.generator),
            }
        ).to(device)
        self.average = copy.deepcopy(self.live).requires_grad_(False)
        groups = [
            {"params": list(self.live["encoder"].parameters()), "rate": recipe.encoder_rate},
            {
                "params": _synthesis_parameters(self.live["generator"]),
                "rate": recipe.generator_rate,
            },
        ]
        self.optimizer = torch.optim.Adam(groups, recipe.encoder_rate, betas=(0.5, 0.99))
        self.penalty = PENALTIES[recipe.penalty](recipe.generator.style_dim, device)
        self.count = 0

    def state(self) -> dict[str, Any]:
        return {
            "live": self.live.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "penalty": self.penalty.state,
            "count": self.count,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.live.load_state_dict(state["live"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.penalty.state = state["penalty"]
        self.count = state["count"]

    def start(self, averages: dict[str, Tensor], data: PictureSet) -> None:
        """Begin with these parameters instead of random ones, with whitened latents."""
        encoder, generator = _with_parameters(self.recipe, averages)
        device = next(self.live.parameters()).device
        w = latents_of(encoder.to(device), data).cpu()
        whiten(encoder.cpu(), generator, w, self.recipe.ridge)
        whitened = nn.ModuleDict({"encoder": encoder, "generator": generator}).state_dict()
        self.live.load_state_dict(whitened)
        self.average.load_state_dict(whitened)

    def step(self, real: Tensor, reconstruction: Reconstruction) -> dict[str, float]:
        """One step on one batch of portraits."""
        encoder, generator = self.live["encoder"], self.live["generator"]
        with torch.autocast(real.device.type, torch.bfloat16):
            w = encoder(real, stage=_ONE_LATENT)[:, 0].float()
        back = generator.synthesis(w, noise="none", dtype=torch.bfloat16)  # type: ignore[operator]
        back = back.float()
        terms = reconstruction.of_pixels(real, back)
        terms["spread"] = self.recipe.spread * self.penalty.loss(w)
        loss = torch.stack(list(terms.values())).sum()
        every = self.recipe.judge_every
        if self.count % every == 0:
            judged = reconstruction.of_judges(real, back)
            loss = loss + every * torch.stack(list(judged.values())).sum()
            terms |= judged
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        self.optimizer.step()
        self._update_average()
        return {name: term.item() for name, term in terms.items()}

    def set_rates(self, progress: float) -> None:
        """Warm-up, then constant, then down a cosine over the second half."""
        down = 0.51 + 0.49 * math.cos(math.pi * max(0.0, 2 * progress - 1))
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * down * min(1.0, (self.count + 1) / self.recipe.warm_up)

    @torch.no_grad()
    def _update_average(self) -> None:
        self.count += 1
        seen = self.count * self.recipe.batch
        half_life = max(min(self.recipe.average_kimg * 1000, seen * 0.05), 1.0)
        decay = 0.5 ** (self.recipe.batch / half_life)
        new = self.live.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(new[name], 1 - decay)
            else:
                kept.copy_(new[name])


def _synthesis_parameters(generator: nn.Module) -> list[nn.Parameter]:
    """All but the mapping network's."""
    return [p for name, p in generator.named_parameters() if not name.startswith("style.")]


def train_autoencoder(
    recipe: AutoencoderRecipe,
    data: PictureSet,
    recognizer: FaceBackbone,
    clip: PictureMeaning,
    folder: Path,
    device: torch.device,
    say: Say,
    start: Path | None = None,
) -> None:
    """Train, or go on training; the averages end in ``folder/state.pt``.

    ``start`` is the finished folder of another run whose averages this one begins with.
    """
    torch.manual_seed(recipe.seed)
    run = Run(folder, folder.name, recipe.kimg, "kimg", say)
    pair = _Pair(recipe, device)
    if start is not None:
        pair.start(_averages(start), data)
    reconstruction = Reconstruction(recipe.weights, recognizer.to(device), clip)
    state = run.resume()
    if state is not None:
        pair.load(state)
    next_sheet = run.position + _SHEET_EVERY
    for position in run.steps(recipe.batch / 1000, pair.state):
        pair.set_rates(position / recipe.kimg)
        run.track(**pair.step(data.batch(recipe.batch).to(device), reconstruction))
        if position >= next_sheet:
            next_sheet += _SHEET_EVERY
            _show(pair, data, folder / f"{folder.name}_{int(position):03d}.png", device)
    _show(pair, data, folder / f"{folder.name}.png", device)
    run.finish(parameters=sum(p.numel() for p in pair.average.parameters()))


@torch.inference_mode()
def latents_of(encoder: E4EEncoder, data: PictureSet) -> Tensor:
    """The w of every portrait, ``(N, dim)``."""
    device = encoder.latent_avg.device
    parts = [
        encoder(to_unit(part).to(device), stage=_ONE_LATENT)[:, 0]
        for part in data.pictures.split(_CHUNK)
    ]
    return torch.cat(parts)


@torch.inference_mode()
def _show(pair: _Pair, data: PictureSet, path: Path, device: torch.device) -> None:
    """Portraits and what comes back of them, row by row."""
    pictures = to_unit(data.pictures[:36]).to(device)
    encoder, generator = pair.average["encoder"], pair.average["generator"]
    w = encoder.eval()(pictures, stage=_ONE_LATENT)
    back = generator.synthesis(w)  # type: ignore[operator]
    rows = [torch.cat([pictures[i : i + 12], back[i : i + 12]]) for i in range(0, 36, 12)]
    sheet(torch.cat(rows), path, columns=12)


def _averages(folder: Path) -> dict[str, Tensor]:
    averages: dict[str, Tensor]
    averages = torch.load(folder / "state.pt", weights_only=True)["payload"]["average"]
    return averages


def load_autoencoder(
    recipe: AutoencoderRecipe, folder: Path
) -> tuple[E4EEncoder, StyleGAN2Generator]:
    """The averaged encoder and generator, frozen, in evaluation mode."""
    return _with_parameters(recipe, _averages(folder))


def _with_parameters(
    recipe: AutoencoderRecipe, parameters: dict[str, Tensor]
) -> tuple[E4EEncoder, StyleGAN2Generator]:
    encoder, generator = E4EEncoder(recipe.encoder), StyleGAN2Generator(recipe.generator)
    nn.ModuleDict({"encoder": encoder, "generator": generator}).load_state_dict(parameters)
    return encoder.requires_grad_(False).eval(), generator.requires_grad_(False).eval()
