"""Stage 8: CDFNet by keyword swap training on the avatar generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lreorg_fast.avatars.recipe.clip import EMBED_DIM, ClipMeaning
from lreorg_fast.avatars.recipe.recognizers import look
from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.stylegan2 import StyleGAN2Generator
from lreorg_fast.training.keyword_swap import LossWeights, SwapTrainingConfig
from lreorg_fast.training.run import Say
from lreorg_fast.training.trainer import train_cdfnet

_SHARES = {
    "identity": 0.30,
    **dict.fromkeys(DEFAULT_KEEP, 0.13),
    "color": 0.06,
    "curly": 0.06,
    "length": 0.06,
}


_MODEL = CDFNetConfig(dim=128, cond_dim=EMBED_DIM, num_blocks=8, growth=32, clamp=1.0)


@dataclass(frozen=True)
class CDFNetRecipe:
    """How the demo's CDFNet is trained.

    It departs from the paper (reasons in docs/training_notes.md): a floor under the identity
    similarity, every second step through a sampled plan, a stronger pull that keeps the identity
    in attribute swaps (4 instead of 0.2), twice the weight on lost information, which is what a key
    cannot bring back, pulls that keep the contents of other keywords and that bring latent and
    identity back with the original's key feature, and half the clamp, because scales within e^2
    made the inverse explode within 80 steps. One row and eight blocks leave so little to store
    that recomputing it would only cost time. ``sharpness`` multiplies CLIP's cosines in D (Eq. 9):
    at 5 an age moved in a quarter of the swaps only, since a D that is not sure of anything is
    matched by leaving everything as it is.
    """

    model: CDFNetConfig = _MODEL
    seed: int = 61
    row_noise: float = 0.3
    sharpness: float = 10.0
    training: SwapTrainingConfig = field(
        default_factory=lambda: SwapTrainingConfig(
            steps=8_000,
            batch=12,
            learning_rate=1.5e-4,
            weights=LossWeights(
                information=20.0,
                identity_kept=4.0,
                contents_kept=5.0,
                reversal=3.0,
                identity_back=12.0,
            ),
            keyword_shares=_SHARES,
            kept_keywords=DEFAULT_KEEP,
            identity_floor=0.05,
            recurrence_every=2,
            keep_probability=0.6,
            hide_probability=0.6,
            gradient_limit=10.0,
            warm_up=150,
            skip_limit=3,
            constant_memory=False,
            average=0.999,
            final_rate=0.05,
        )
    )


class AvatarJudges:
    """The frozen networks of the demo, as :class:`~lreorg_fast.training.keyword_swap.Judges`."""

    def __init__(
        self,
        generator: StyleGAN2Generator,
        recognizer: FaceBackbone,
        clip: ClipMeaning,
        row_noise: float,
        sharpness: float,
    ) -> None:
        self.generator = generator
        self.recognizer = recognizer
        self.clip = clip
        self.row_noise = row_noise
        self.sharpness = sharpness
        self.device = generator.latent_avg.device
        with torch.no_grad():
            w = self._map(10_000)
        self.spread = w.std(0)

    def _map(self, count: int) -> Tensor:
        z = torch.randn(count, self.generator.config.z_dim).to(self.device)
        return self.generator.mapping(z)

    @torch.no_grad()
    def latents(self, count: int) -> Tensor:
        """One row each, half of them exactly in W, half off it as an encoder's rows are.

        CDFNet treats rows alike and apart, so one row teaches what ten would, at a tenth of its
        cost; all rows of the picture are that one.
        """
        w = self._map(count)
        noise = torch.randn(w.shape).to(self.device) * self.spread
        noise[::2] = 0
        return (w + self.row_noise * noise)[:, None]

    def picture(self, latents: Tensor) -> Tensor:
        picture = self.generator.synthesis(latents[:, 0], dtype=torch.bfloat16)
        return picture.clamp(-1.2, 1.2)

    def identity(self, picture: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        return look(self.recognizer, picture)

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        return self.clip.contents(picture, keywords, self.sharpness)


def train_demo_cdfnet(
    recipe: CDFNetRecipe,
    generator: StyleGAN2Generator,
    recognizer: FaceBackbone,
    clip: ClipMeaning,
    folder: Path,
    device: torch.device,
    say: Say,
) -> None:
    """Train, or go on training, the demo bundle's CDFNet."""
    torch.manual_seed(recipe.seed)
    net = CDFNet(recipe.model).to(device)
    judges = AvatarJudges(
        generator.to(device), recognizer.to(device), clip, recipe.row_noise, recipe.sharpness
    )
    features: Mapping[str, Tensor] = clip.keyword_features()
    train_cdfnet(net, judges, features, recipe.training, folder, say)


def load_cdfnet(recipe: CDFNetRecipe, folder: Path) -> CDFNet:
    """The trained network, frozen; the moving average of its parameters where one was kept."""
    net = CDFNet(recipe.model)
    payload = torch.load(folder / "state.pt", weights_only=True)["payload"]
    net.load_state_dict(payload.get("average", payload["net"]))
    return net.requires_grad_(False).eval()
