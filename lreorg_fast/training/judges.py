"""The frozen networks that keyword swap training asks, loaded from anybody's weights files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import Keyword
from lreorg_fast.log import once
from lreorg_fast.models.backbone import FaceBackbone
from lreorg_fast.models.identity_view import arcface_view
from lreorg_fast.models.stylegan2 import StyleGAN2Generator
from lreorg_fast.models.vgg_face import VggFace
from lreorg_fast.models.views import recognizes

_SPACES = ("w", "w+")
_SPREAD_LATENTS = 10_000


@dataclass(frozen=True)
class LatentsConfig:
    """Which latents CDFNet is trained on.

    Args:
        space: ``w``, one row each, which is cheapest and enough (CDFNet treats rows alike and
            apart); or ``w+``, as many rows as the generator takes.
        mix_probability: how many latents of ``w+`` have their later rows from somebody else.
        row_noise: deviation of noise on every second latent, in deviations of w: an encoder's
            rows are off the mapping network's.

    Raises:
        ConfigError: another space, or a number out of range.
    """

    space: str = "w"
    mix_probability: float = 0.0
    row_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.space not in _SPACES:
            raise ConfigError(f"latents.space is '{self.space}', but must be w or w+")
        if not 0 <= self.mix_probability <= 1:
            raise ConfigError(
                f"latents.mix_probability is {self.mix_probability}, but must be from 0 to 1"
            )
        if self.mix_probability and self.space == "w":
            raise ConfigError("latents.mix_probability needs rows to mix; set latents.space to w+")
        if not 0 <= self.row_noise < 10:
            raise ConfigError(f"latents.row_noise is {self.row_noise}, but must be from 0 to 10")


class WeightsJudges:
    """:class:`~lreorg_fast.training.keyword_swap.Judges` of loaded networks.

    Args:
        generator: of :func:`lreorg_fast.weights.load_generator`.
        identity: of :func:`lreorg_fast.weights.load_identity`.
        clip: of :func:`lreorg_fast.weights.load_clip`.
        keywords: by name.
        perceptual: of :func:`lreorg_fast.weights.load_vgg_face`, as the paper has it; without it
            the identity network's own feature maps are compared.
        latents: where they are drawn.
        sharpness: what CLIP's cosines are multiplied with before the softmax of D (Eq. 9); None
            for the model's own scale, which is 100 for the published ones.
        dtype: of the generator's convolutions; float32 or bfloat16.

    Everything is frozen in place; gradients flow through to the latents. All networks must be on
    one device.

    Raises:
        ConfigError: a network does not fit the others; one sentence.
    """

    def __init__(
        self,
        generator: StyleGAN2Generator,
        identity: nn.Module,
        clip: Any,
        keywords: Mapping[str, Keyword],
        *,
        perceptual: VggFace | None = None,
        latents: LatentsConfig | None = None,
        sharpness: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.generator = generator.requires_grad_(False).eval()
        self.recognizer: Any = identity.requires_grad_(False).eval()
        self.clip = clip
        clip.model.requires_grad_(False).eval()
        self.perceptual = perceptual
        self.config = latents or LatentsConfig()
        self.dtype = dtype
        self.device = generator.latent_avg.device
        self._check_recognizer()
        if sharpness is not None and not 0 < sharpness < float("inf"):
            raise ConfigError(
                f"sharpness is {sharpness}, but must be positive and finite, or None for CLIP's own"
            )
        if perceptual is not None:
            perceptual.requires_grad_(False).eval()
        with torch.no_grad():
            names = list(keywords)
            self._names = dict(zip(names, self._text(names), strict=True))
            self._sentences = {
                name: self._text(list(keyword.sentences))
                for name, keyword in keywords.items()
                if keyword.contents
            }
            self.sharpness = _own_scale(clip) if sharpness is None else sharpness
            self._spread = self._w(_SPREAD_LATENTS).std(0) if self.config.row_noise else None

    def keyword_features(self) -> dict[str, Tensor]:
        """Unit text feature ``(cond_dim,)`` of each keyword's own name."""
        return dict(self._names)

    @torch.no_grad()
    def latents(self, count: int) -> Tensor:
        """``(count, rows, dim)``: 1 row in W, the generator's number in W+."""
        w = self._w(count)[:, None]
        if self.config.space == "w+":
            w = self._mixed(w.repeat(1, self.generator.num_ws, 1))
        if self._spread is not None:
            noise = torch.randn(w.shape).to(w) * self._spread
            noise[::2] = 0
            w = w + self.config.row_noise * noise
        return w

    def picture(self, latents: Tensor) -> Tensor:
        """``(N, rows, dim) -> (N, 3, R, R)``; one row is taken for all rows."""
        w = latents[:, 0] if latents.shape[1] == 1 else latents
        picture: Tensor = self.generator.synthesis(w, dtype=self.dtype)
        # A little beyond what a file can hold, so that there is still a gradient back.
        return picture.float().clamp(-1.2, 1.2)

    def identity(self, picture: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Unit embeddings, and the feature maps of the perceptual distance."""
        same = self.recognizer.config.input_size == picture.shape[-1]
        seen = picture if same else arcface_view(picture)
        if self.perceptual is not None:
            found: Tensor = self.recognizer(seen)
            maps = list(self.perceptual.maps(picture).values())
        else:
            maps = self.recognizer.features(seen)
            found = self.recognizer.head(maps[-1])
        return F.normalize(found.float(), dim=1), maps

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        """CLIP's distributions over each keyword's sentences; the picture is looked at once."""
        if not keywords:
            return []
        image = self.clip.image(picture, normalize=True)
        return [
            torch.softmax(self.sharpness * image @ self._sentences[name].t(), dim=1)
            for name in keywords
        ]

    def _w(self, count: int) -> Tensor:
        # Drawn on the CPU, so that a seed means the same people on every device.
        z = torch.randn(count, self.generator.config.z_dim).to(self.device)
        return self.generator.mapping(z)

    def _mixed(self, rows: Tensor) -> Tensor:
        """Some latents with the rows from a random one on of the next person."""
        count, num_ws, _ = rows.shape
        first = torch.randint(1, num_ws, (count, 1))
        mixed = torch.rand(count, 1) < self.config.mix_probability
        other = (mixed & (torch.arange(num_ws) >= first)).to(rows.device)[:, :, None]
        return torch.where(other, rows.roll(1, dims=0), rows)

    def _text(self, sentences: list[str]) -> Tensor:
        features: Tensor = self.clip.text(sentences, normalize=True)
        return features.to(self.device)

    def _check_recognizer(self) -> None:
        size, resolution = self.recognizer.config.input_size, self.generator.resolution
        if not recognizes(size, resolution):
            raise ConfigError(
                f"the identity network takes {size} pixels, but must take 112 or the generator's "
                f"{resolution}; give another file"
            )
        if self.perceptual is None:
            if not isinstance(self.recognizer, FaceBackbone):
                raise ConfigError(
                    f"a {type(self.recognizer).__name__} gives no feature maps for the perceptual "
                    "loss; name a VGG-Face file under 'perceptual', or take an IR-SE50"
                )
            once(
                "perceptual",
                "without VGG-Face the perceptual loss compares the identity network's feature maps",
            )


def _own_scale(clip: Any) -> float:
    return float(clip.model.logit_scale.exp())
