"""Latents of unit variance in every direction: made so once, and kept so while training.

An autoencoder's latents end up in few directions (measured: 20 of 128 held 99.9% of the variance),
and the finer a trait, the smaller its direction: the generator hears of it faintly, and whatever
moves a latent by a fixed length, as CDFNet's losses and an encoder's errors do, drowns it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lreorg_fast.models.e4e import E4EEncoder
from lreorg_fast.models.layers import EqualLinear
from lreorg_fast.models.stylegan2 import StyleGAN2Generator


@torch.no_grad()
def whiten(encoder: E4EEncoder, generator: StyleGAN2Generator, w: Tensor, ridge: float) -> None:
    """Change both in place so that latents have mean 0 and variance v / (v + ridge), v as it was.

    Pictures stay what they were: the generator's style layers undo what the encoder's last layers
    do. The mapping network is not changed, and no longer fits.

    Args:
        encoder: whose latents for many pictures are ``w (N, style_dim)``.
        generator: their generator.
        ridge: keeps directions that are all but empty from being blown up to noise.
    """
    mean = w.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(w.t()))
    deviation = (values.clamp(min=0) + ridge).sqrt()
    to_white = vectors / deviation @ vectors.t()
    from_white = vectors * deviation @ vectors.t()
    for row, head in enumerate(encoder.styles):
        layer = head.linear
        assert isinstance(layer, EqualLinear)
        # Every row is row 0 plus an offset, so only row 0 has a mean to lose.
        bias = layer.bias - mean if row == 0 else layer.bias
        _replace(layer, to_white @ layer.weight, to_white @ bias)
    for module in generator.modules():
        style = getattr(module, "modulation", None)
        if isinstance(style, EqualLinear):
            _replace(style, style.weight @ from_white, style(mean))


def _replace(layer: EqualLinear, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


class Variances:
    """A loss that pulls every number of the latents to mean 0 and variance 1.

    Enough to give latents a scale before they are whitened; it does not see directions that are
    copies of one another.
    """

    def __init__(self, dim: int, device: torch.device) -> None:
        self.state: dict[str, Tensor] = {}

    def loss(self, w: Tensor) -> Tensor:
        """Mean square over the numbers of what is wrong with this batch; ``w (N, dim)``."""
        variance, mean = torch.var_mean(w, dim=0)
        return ((variance - 1).square() + mean.square()).mean()


class Covariance:
    """A moving estimate of the latents' mean and covariance, and a loss that pulls it to (0, 1)."""

    def __init__(self, dim: int, device: torch.device, decay: float = 0.97) -> None:
        self.decay = decay
        self.state = {
            "mean": torch.zeros(dim, device=device),
            "covariance": torch.eye(dim, device=device),
        }

    def loss(self, w: Tensor) -> Tensor:
        """Mean square over directions of what is wrong; ``w (N, dim)``.

        A batch is too small for a covariance of its own. The gradient is that of the moving
        estimate with respect to this batch, as if all of it were this batch.
        """
        mean, covariance = self._updated(w.detach())
        dim = len(mean)
        wrong = covariance - torch.eye(dim, device=w.device)
        value = (wrong.square().sum() + mean.square().sum()) / dim
        centred = w - mean
        slope = 2 * ((centred @ wrong * centred).sum(dim=1).mean() + (w @ mean).mean()) / dim
        return value + slope - slope.detach()

    def _updated(self, w: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.state["mean"].lerp(w.mean(0), 1 - self.decay)
        centred = w - mean
        now = centred.t() @ centred / len(w)
        covariance = self.state["covariance"].lerp(now, 1 - self.decay)
        self.state = {"mean": mean, "covariance": covariance}
        return mean, covariance


PENALTIES: dict[str, type[Variances] | type[Covariance]] = {
    "variances": Variances,
    "covariance": Covariance,
}
