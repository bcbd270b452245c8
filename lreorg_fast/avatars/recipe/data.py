"""Pictures and labels for training, rendered where they are used and kept with their labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import LATENT_DIM, Avatars, avatars_of, sample_people
from lreorg_fast.files import atomic_file
from lreorg_fast.models.pixels import to_bytes, to_unit
from lreorg_fast.training.run import Say

_CHUNK = 1000


@dataclass(frozen=True)
class PictureSet:
    """uint8 pictures ``(N, 3, H, W)`` with identities ``(N, 20)`` and attributes ``(N, 10)``."""

    pictures: Tensor
    identities: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, count: int) -> Tensor:
        """Random pictures in [-1, 1]."""
        return to_unit(self.pictures[torch.randint(len(self), (count,))])


def _render_all(avatars: Avatars, size: int, name: str, say: Say) -> PictureSet:
    parts = []
    for start in range(0, len(avatars), _CHUNK):
        chunk = avatars[start : start + _CHUNK]
        parts.append((render(chunk, size) * 255).round().to(torch.uint8))
        if start % (10 * _CHUNK) == 0:
            say(f"{name}: rendered {start + len(chunk)} of {len(avatars)}")
    return PictureSet(torch.cat(parts), avatars.identity, avatars.labels())


def picture_set(
    path: Path, size: int, seed: int, say: Say, *, people: int, pictures: int = 1
) -> PictureSet:
    """Load the set at ``path``, or render ``people`` x ``pictures`` and keep them there.

    With one picture each, they are the avatars of :func:`portrait_latents`.
    """
    if path.exists():
        return PictureSet(**torch.load(path, weights_only=True))
    if pictures == 1:
        avatars = avatars_of(portrait_latents(people, seed))
    else:
        avatars = sample_people(people, pictures, torch.Generator().manual_seed(seed))
    data = _render_all(avatars, size, path.stem, say)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, overwrite=True) as stream:
        torch.save(vars(data), stream)
    return data


def portrait_latents(people: int, seed: int) -> Tensor:
    """The latents ``(people, LATENT_DIM)`` whose avatars a set of single pictures shows."""
    return torch.randn(people, LATENT_DIM, generator=torch.Generator().manual_seed(seed))


def sheet(pictures: Tensor, path: Path, columns: int, zoom: int = 2) -> None:
    """Write pictures in [-1, 1] as one PNG grid, row by row."""
    count, channels, height, width = pictures.shape
    rows = -(-count // columns)
    grid = torch.full((rows * columns, channels, height, width), 255, dtype=torch.uint8)
    grid[:count] = to_bytes(pictures.float().cpu())
    grid = grid.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    image = Image.fromarray(grid.reshape(rows * height, columns * width, channels).numpy())
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.LANCZOS).save(path)
