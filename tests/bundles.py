"""A bundle of tiny random networks: the whole pipeline runs on it in milliseconds.

Nothing in it was trained, so its pictures are noise; it serves everything that must hold whatever
the networks are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.models import (
    BackboneConfig,
    E4EConfig,
    E4EEncoder,
    FaceBackbone,
    StyleGAN2Config,
    StyleGAN2Generator,
    WindowBackbone,
    WindowConfig,
)
from lreorg_fast.weights import BundleManifest, Domain, Part, write_bundle
from lreorg_fast.weights.parts import LATENT_AVERAGE

RESOLUTION = 32
DIM = 16
COND_DIM = 8
NUM_GROUPS, NUM_MEMBERS = 16, 4
ATTRIBUTES = 10  # outputs of the attribute net before the face logit

# Lets every picture through, since neither the pictures nor the judges mean anything.
PERMISSIVE = {
    "verify.similarity": 2.0,
    "verify.face": -1e9,
    "verify.reconstruction": 1e9,
    "verify.represented": -2.0,
}

_SMALL = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1)}
_RECOGNIZER = BackboneConfig(input_size=RESOLUTION, outputs=8, **_SMALL)
_CONFIGS: dict[str, tuple[str, type[nn.Module], Any]] = {
    "generator": (
        "stylegan2",
        StyleGAN2Generator,
        StyleGAN2Config(RESOLUTION, DIM, mapping_layers=2, channels={4: 8, 8: 8, 16: 8, 32: 8}),
    ),
    "encoder": (
        "e4e",
        E4EEncoder,
        E4EConfig(RESOLUTION, num_ws=8, style_dim=DIM, style_channels=8, **_SMALL),
    ),
    "identity:training": ("face-backbone", FaceBackbone, _RECOGNIZER),
    "identity:evaluation": ("face-backbone", FaceBackbone, _RECOGNIZER),
    "attributes": (
        "face-backbone",
        FaceBackbone,
        BackboneConfig(input_size=RESOLUTION, outputs=ATTRIBUTES + 1, normalize=False, **_SMALL),
    ),
    "cdfnet": ("cdfnet", CDFNet, CDFNetConfig(DIM, COND_DIM, num_blocks=2, growth=4)),
}
_SECOND_JUDGE: dict[str, tuple[str, type[nn.Module], Any]] = {
    "identity:evaluation-2": (
        "window-backbone",
        WindowBackbone,
        WindowConfig(RESOLUTION, 8, 10, BackboneConfig(input_size=16, outputs=8, **_SMALL)),
    )
}


def toy_bundle(
    folder: str | Path,
    *,
    calibration: Mapping[str, float] | None = None,
    figures: Mapping[str, Any] | None = None,
    detector: bool = True,
    second_judge: bool = False,
) -> Path:
    """Write the bundle to ``folder``, which must not exist, and return its path.

    Always the same weights. ``calibration`` overrides single entries of :data:`PERMISSIVE`.
    Without ``detector`` there is no part ``attributes``, as in a bundle for photographs. With
    ``second_judge`` there is ``identity:evaluation-2``.
    """
    parts: dict[str, Part] = {}
    files: dict[str, dict[str, Tensor]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        configs = {**_CONFIGS, **(_SECOND_JUDGE if second_judge else {})}
        for role, (architecture, make, config) in configs.items():
            name = f"{role.replace(':', '_')}.safetensors"
            parts[role] = Part(architecture, name, json.loads(json.dumps(config.to_dict())))
            files[name] = _weights(make(config))
        if not detector:
            del files[parts.pop("attributes").file]
        parts["tables"] = Part("tables", "tables.safetensors")
        files["tables.safetensors"] = _tables()
    manifest = BundleManifest(
        name="toy",
        license="Apache-2.0",
        domain=Domain("noise", RESOLUTION, "untrained networks for tests"),
        parts=parts,
        keywords=tuple(KEYWORDS.values()),
        calibration={**PERMISSIVE, **(calibration or {})},
        figures=figures or {},
    )
    return write_bundle(folder, manifest, files).root


def _weights(module: nn.Module) -> dict[str, Tensor]:
    if isinstance(module, CDFNet):
        _disturb(module)
    weights = dict(module.state_dict())
    average = getattr(module, LATENT_AVERAGE, None)
    if isinstance(average, Tensor):
        weights[LATENT_AVERAGE] = 0.1 * torch.randn(DIM)
    return weights


def _disturb(net: CDFNet) -> None:
    """A fresh CDFNet is the identity, which would hide whether it is used at all."""
    for name, parameter in net.named_parameters():
        if ".out." in name or ".layers.4." in name:
            nn.init.normal_(parameter, std=0.1)


def _tables() -> dict[str, Tensor]:
    means = torch.randn(NUM_GROUPS, DIM)
    tables = {
        "codebook.means": means,
        "codebook.members": means[:, None] + 0.3 * torch.randn(NUM_GROUPS, NUM_MEMBERS, DIM),
    }
    for name, keyword in KEYWORDS.items():
        tables[f"keyword.{name}"] = nn.functional.normalize(torch.randn(COND_DIM), dim=0)
        if keyword.contents:
            tables[f"attribute.{name}.means"] = torch.randn(len(keyword.contents), DIM)
    return tables
