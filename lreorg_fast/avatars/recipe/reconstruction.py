"""What an encoded portrait must be again: the loss that all encoder stages share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.avatars.recipe.recognizers import look
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.training import losses

_SCALES = 3
# Where eyes, glasses and mouth are, in units of half a picture from its centre.
_FACE_CENTRE, _FACE_WIDTH, _FACE_HEIGHT = 0.1, 0.45, 0.5
_FACE_WEIGHT = 4.0


@dataclass(frozen=True)
class ReconstructionWeights:
    """Weights of the terms named.

    ``meaning`` is of the distance between CLIP's image features, ``contents`` of what CLIP reads
    under every keyword that is kept by default: a feature's cosine says too faintly of something
    as small as a smile or a wrinkle that it is gone.
    """

    pixels: float = 4.0
    details: float = 8.0
    features: float = 0.1
    identity: float = 0.5
    meaning: float = 1.0
    contents: float = 0.0


class PictureMeaning(Protocol):
    """A CLIP model."""

    def image(self, picture: Tensor) -> Tensor:
        """Unit features of pictures in [-1, 1]."""

    def contents_of(self, image: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        """Distributions over each keyword's contents, from unit image features."""


@dataclass(frozen=True)
class Reconstruction:
    """The loss, for frozen judges."""

    weights: ReconstructionWeights
    recognizer: FaceBackbone
    clip: PictureMeaning

    def of_pixels(self, real: Tensor, back: Tensor) -> dict[str, Tensor]:
        """Weighted terms that no network is asked for."""
        return {
            "pixels": self.weights.pixels * F.l1_loss(back, real),
            "details": self.weights.details * detail_error(real, back),
        }

    def of_judges(self, real: Tensor, back: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the frozen networks."""
        weights = self.weights
        with torch.no_grad():
            wanted, wanted_maps = look(self.recognizer, real)
            meant = self.clip.image(real)
        found, found_maps = look(self.recognizer, back)
        means = self.clip.image(back)
        terms = {
            "features": weights.features * losses.perceptual(wanted_maps, found_maps),
            "identity": weights.identity * losses.cosine_distance(wanted, found),
            "meaning": weights.meaning * losses.cosine_distance(meant, means),
        }
        if weights.contents:
            was, now = (self.clip.contents_of(image, DEFAULT_KEEP) for image in (meant, means))
            lost = [losses.content_divergence(a, b) for a, b in zip(was, now, strict=True)]
            terms["contents"] = weights.contents * torch.stack(lost).sum()
        return terms


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
