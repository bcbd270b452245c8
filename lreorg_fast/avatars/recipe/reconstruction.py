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

_SCALES = 3
# Where eyes, glasses and mouth are, in units of half a picture from its centre.
_FACE_CENTRE, _FACE_WIDTH, _FACE_HEIGHT = 0.1, 0.45, 0.5
_FACE_WEIGHT = 4.0


@dataclass(frozen=True)
class ReconstructionWeights:
    """Weights of the terms named."""

    pixels: float = 4.0
    details: float = 8.0
    features: float = 0.1
    identity: float = 0.5
    meaning: float = 1.0


class ImageMeaning(Protocol):
    """A CLIP model's image tower: unit features of pictures in [-1, 1]."""

    def image(self, picture: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Reconstruction:
    """The loss, for frozen judges."""

    weights: ReconstructionWeights
    recognizer: FaceBackbone
    clip: ImageMeaning

    def terms(self, real: Tensor, back: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Weighted terms of one batch, and the CLIP features of ``real`` and ``back``."""
        weights = self.weights
        with torch.no_grad():
            wanted, wanted_maps = look(self.recognizer, real)
            meant = self.clip.image(real)
        found, found_maps = look(self.recognizer, back)
        means = self.clip.image(back)
        terms = {
            "pixels": weights.pixels * F.l1_loss(back, real),
            "details": weights.details * detail_error(real, back),
            "features": weights.features * losses.perceptual(wanted_maps, found_maps),
            "identity": weights.identity * losses.cosine_distance(wanted, found),
            "meaning": weights.meaning * losses.cosine_distance(meant, means),
        }
        return terms, (meant, means)


def detail_error(real: Tensor, back: Tensor) -> Tensor:
    """Mean absolute error of differences between neighbouring pixels, at three scales.

    Pixels alone leave pictures blurred: a thin line that is a pixel off costs twice what no line
    costs, and flat areas, which are most of a picture, outweigh glasses and smiles. Here flat areas
    cost nothing, and the middle of the face counts five times.
    """
    error, total = back - real, real.new_zeros(())
    for _ in range(_SCALES):
        weight = _face_weight(error.shape[-1] - 1, error.device)
        corner = error[:, :, :-1, :-1]
        total = total + (weight * (error[:, :, 1:, :-1] - corner).abs()).mean()
        total = total + (weight * (error[:, :, :-1, 1:] - corner).abs()).mean()
        error = F.avg_pool2d(error, 2)
    return total


def _face_weight(size: int, device: torch.device) -> Tensor:
    axis = torch.linspace(-1, 1, size, device=device)
    across, down = (axis / _FACE_WIDTH) ** 2, ((axis - _FACE_CENTRE) / _FACE_HEIGHT) ** 2
    return 1 + _FACE_WEIGHT * torch.exp(-(down[:, None] + across))
