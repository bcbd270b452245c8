"""Weights files of the toy bundle's networks, and a CLIP that needs no open_clip."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from bundles import COND_DIM, toy_bundle
from torch import Tensor, nn

from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.networks import write_network
from lreorg_fast.weights.parts import load_part

COND = COND_DIM


class ToyClip:
    """The interface of :class:`lreorg_fast.weights.Clip`; a text is a direction by its letters."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(3)
        self.model = nn.Linear(3 * 16, COND)
        for parameter in self.model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random)
        self.model.register_parameter("logit_scale", nn.Parameter(torch.tensor(2.0)))
        self.model.requires_grad_(False)

    def to(self, device: torch.device) -> ToyClip:
        self.model.to(device)
        return self

    def text(self, sentences: Sequence[str], normalize: bool = False) -> Tensor:
        rows = []
        for sentence in sentences:
            random = torch.Generator().manual_seed(zlib.crc32(sentence.encode()))
            rows.append(torch.randn(COND, generator=random))
        features = torch.stack(rows)
        return F.normalize(features, dim=1) if normalize else features

    def image(self, x: Tensor, normalize: bool = False) -> Tensor:
        features: Tensor = self.model(F.adaptive_avg_pool2d(x, 4).flatten(1))
        return F.normalize(features, dim=1) if normalize else features

    def classify(self, x: Tensor, sentences: Sequence[str]) -> Tensor:
        cosines = self.image(x, normalize=True) @ self.text(sentences, normalize=True).t()
        return torch.softmax(self.model.logit_scale.exp() * cosines, dim=1)


def toy_files(folder: Path) -> dict[str, Path]:
    """Generator and identity network as files of our own; clip.bin is only a name."""
    bundle = open_bundle(toy_bundle(folder / "bundle"))
    paths = {}
    for name, role in (("generator", "generator"), ("identity", "identity:training")):
        paths[name] = folder / f"{name}.safetensors"
        write_network(paths[name], load_part(bundle, role))
    paths["clip"] = folder / "clip.bin"
    paths["clip"].write_bytes(b"stand-in")
    return paths
