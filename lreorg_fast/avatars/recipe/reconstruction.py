"""What an encoded portrait must be again: the loss that both encoder stages share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.avatars.recipe.recognizers import look
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.training import losses


@dataclass(frozen=True)
class ReconstructionWeights:
    """Weights of the terms named."""

    pixels: float
    features: float
    identity: float
    meaning: float
    latent: float
    offsets: float


class ImageMeaning(Protocol):
    """A CLIP model's image tower: unit features of pictures in [-1, 1]."""

    def image(self, picture: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Reconstruction:
    """The loss, for frozen judges; ``spread`` (dim,) is the deviation of w."""

    weights: ReconstructionWeights
    recognizer: FaceBackbone
    clip: ImageMeaning
    spread: Tensor

    def terms(
        self, real: Tensor, back: Tensor, codes: Tensor, latents: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Weighted terms of one batch, and the CLIP features of ``real`` and ``back``.

        ``codes`` holds those of the portraits ``real``, then those of as many generated pictures,
        whose latents ``(N, rows or 1, dim)`` are known.
        """
        weights, half = self.weights, len(real)
        with torch.no_grad():
            wanted, wanted_maps = look(self.recognizer, real)
            meant = self.clip.image(real)
        found, found_maps = look(self.recognizer, back)
        means = self.clip.image(back)
        error = (codes[half:] - latents) / self.spread
        offsets = (codes[:half] - codes[:half, :1]) / self.spread
        terms = {
            "pixels": weights.pixels * F.mse_loss(back, real),
            "features": weights.features * losses.perceptual(wanted_maps, found_maps),
            "identity": weights.identity * losses.cosine_distance(wanted, found),
            "meaning": weights.meaning * losses.cosine_distance(meant, means),
            "latent": weights.latent * error.square().mean(),
            "offsets": weights.offsets * offsets.square().mean(),
        }
        return terms, (meant, means)
