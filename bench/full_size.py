"""Random networks in the shapes of the public FFHQ-256 ones, for measuring: they make no faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lreorg_fast as lf
from lreorg_fast.assembly import network_part
from lreorg_fast.keywords import KEYWORDS, Keyword
from lreorg_fast.models import (
    BackboneConfig,
    E4EConfig,
    E4EEncoder,
    FaceBackbone,
    StyleGAN2Config,
    StyleGAN2Generator,
)
from lreorg_fast.weights import BundleManifest, Domain, Part, write_bundle
from lreorg_fast.weights.bundle import Bundle

_GROUPS, _MEMBERS = 256, 4
# Verification that refuses nothing: random networks make no faces that it could know again.
_ACCEPTING = {"verify.similarity": 2.0, "verify.represented": -2.0, "verify.reconstruction": 1e30}


def random_networks() -> dict[str, nn.Module]:
    """Full size; statistics and strengths that make every part matter."""
    torch.manual_seed(0)
    encoder, generator = E4EEncoder(E4EConfig(num_ws=14)), StyleGAN2Generator(StyleGAN2Config())
    net = lf.CDFNet(lf.CDFNetConfig())
    with torch.no_grad():
        for part in encoder.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 1.5)
        for layer in (generator.conv1, *generator.convs):
            layer.noise.weight.fill_(0.1)
            layer.activate.bias.normal_(0, 0.1)
        for parameter in net.parameters():  # larger ones double the latents with every block
            parameter.normal_(std=0.1 / parameter.shape[1] ** 0.5 if parameter.dim() == 2 else 0.02)
    networks = {"encoder": encoder, "generator": generator, "cdfnet": net}
    return {role: network.eval().requires_grad_(False) for role, network in networks.items()}


def full_size_bundle(folder: Path, networks: Mapping[str, Any]) -> Bundle:
    """Encoder, generator and CDFNet with the default keywords: what is exported."""
    parts = {role: network_part(role, network) for role, network in networks.items()}
    width = networks["cdfnet"].config.cond_dim
    features = {f"keyword.{name}": torch.nn.functional.normalize(torch.randn(width), dim=0)
                for name in KEYWORDS}  # fmt: skip
    parts["tables"] = (Part("tables", "tables.safetensors"), features)
    return _written(folder, "noise", parts, KEYWORDS.values(), {})


def accepting_bundle(folder: Path) -> Path:
    """A whole bundle for photographs that replaces every face that is found, by nobody's."""
    networks = random_networks()
    networks["identity:training"] = FaceBackbone(BackboneConfig()).eval().requires_grad_(False)
    parts = {role: network_part(role, network) for role, network in networks.items()}
    dim, width = networks["cdfnet"].config.dim, networks["cdfnet"].config.cond_dim
    unit = torch.nn.functional.normalize
    members = unit(torch.randn(_GROUPS, _MEMBERS, dim), dim=-1)
    tables = {f"keyword.{name}": unit(torch.randn(width), dim=0) for name in KEYWORDS}
    tables |= {"codebook.members": members, "codebook.means": members.mean(dim=1)}
    parts["tables"] = (Part("tables", "tables.safetensors"), tables)
    _written(folder, "photographs", parts, map(Keyword, KEYWORDS), _ACCEPTING)
    return folder


def _written(
    folder: Path,
    kind: str,
    parts: Mapping[str, tuple[Part, Any]],
    keywords: Iterable[Keyword],
    calibration: Mapping[str, float],
) -> Bundle:
    manifest = BundleManifest(
        name="full size, random",
        license="Apache-2.0",
        domain=Domain(kind, 256, "random networks, for measuring"),
        parts={role: part for role, (part, _) in parts.items()},
        keywords=tuple(keywords),
        calibration=calibration,
    )
    return write_bundle(folder, manifest, {part.file: state for part, state in parts.values()})
