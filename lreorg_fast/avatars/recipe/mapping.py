"""Stage 6: the mapping network, taught to draw from the latents that the encoder finds.

A latent z stands for one avatar (``avatars_of``); the mapping network learns the w that the
encoder finds for its picture. So random z give people as various as the portraits are: an
adversarial generator of this size had lost up to half of the spread of age, smiles and glasses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lreorg_fast.avatars.recipe.autoencoder import latents_of
from lreorg_fast.avatars.recipe.data import PictureSet, portrait_latents, sheet
from lreorg_fast.models.e4e import E4EEncoder
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.models.stylegan2 import StyleGAN2Generator
from lreorg_fast.training.run import Run, Say, Stateful, restore_states, states

_WARM_UP = 100
_HELD_OUT = 500


@dataclass(frozen=True)
class MappingRecipe:
    """How the mapping network is trained."""

    seed: int = 52
    steps: int = 200_000
    batch: int = 256
    learning_rate: float = 0.1  # of a network whose own multiplier of learning rates is 0.01


def train_mapping(
    recipe: MappingRecipe,
    encoder: E4EEncoder,
    generator: StyleGAN2Generator,
    data: PictureSet,
    data_seed: int,
    folder: Path,
    device: torch.device,
    say: Say,
) -> None:
    """Train ``generator.style`` in place, or go on from ``folder``; sets ``latent_avg``.

    ``data`` are the portraits of ``portrait_latents(len(data), data_seed)``.
    """
    torch.manual_seed(recipe.seed)
    run = Run(folder, "mapping", recipe.steps, "steps", say)
    encoder.to(device)
    net = generator.to(device).style.requires_grad_(True)
    optimizer = torch.optim.Adam(net.parameters(), recipe.learning_rate, betas=(0.9, 0.99))
    parts: dict[str, Stateful] = {"style": net, "optimizer": optimizer}
    state = run.resume()
    if state is not None:
        restore_states(parts, state)
    z, w = portrait_latents(len(data), data_seed), latents_of(encoder, data)
    train = max(len(z) - _HELD_OUT, len(z) // 2)
    generator.latent_avg.copy_(w.mean(0))
    spread = w.var(0).sum()
    for position in run.steps(1, lambda: states(parts) | {"latent_avg": generator.latent_avg}):
        for group in optimizer.param_groups:
            cosine = 0.505 + 0.495 * math.cos(math.pi * position / recipe.steps)
            group["lr"] = recipe.learning_rate * cosine * min(1.0, (position + 1) / _WARM_UP)
        index = torch.randint(train, (recipe.batch,))
        error = generator.mapping(z[index].to(device)) - w[index].to(device)
        loss = error.square().sum(dim=1).mean() / spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.track(unexplained=loss.item())
    with torch.inference_mode():
        error = generator.mapping(z[train:].to(device)) - w[train:].to(device)
    _show(generator, data, z, folder / "mapping.png", device)
    net.requires_grad_(False)
    run.finish(unexplained_held_out=float(error.square().sum(dim=1).mean() / spread))


@torch.inference_mode()
def _show(
    generator: StyleGAN2Generator, data: PictureSet, z: Tensor, path: Path, device: torch.device
) -> None:
    """The last portraits, which it has not seen, and what their latents give, row by row."""
    made = generator.synthesis(generator.mapping(z[-36:].to(device)))
    real = to_unit(data.pictures[-36:]).to(device)
    rows = [torch.cat([real[i : i + 12], made[i : i + 12]]) for i in range(0, 36, 12)]
    sheet(torch.cat(rows), path, columns=12)


def load_mapping(generator: StyleGAN2Generator, folder: Path) -> StyleGAN2Generator:
    """``generator`` with the finished mapping network and mean latent of ``folder``, frozen."""
    state = torch.load(folder / "state.pt", weights_only=True)["payload"]
    generator.style.load_state_dict(state["style"])
    generator.latent_avg.copy_(state["latent_avg"])
    return generator.requires_grad_(False).eval()
