"""A bundle from networks that fit together: tables, limits, provenance.

The demo bundle and bundles for photographs are made of the same parts by this code. Whatever
does not fit is said before anything long is computed, and nothing is written before the end.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lreorg_fast
from lreorg_fast.calibration import Calibration, CalibrationSizes, calibrate
from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import KEYWORDS, Keyword
from lreorg_fast.models import E4EEncoder, StyleGAN2Generator
from lreorg_fast.models.inference import prepare_generator
from lreorg_fast.models.views import recognizes
from lreorg_fast.training.tables import (
    IDENTITY,
    ClipKeywords,
    ClipModel,
    Progress,
    TableSizes,
    build_tables,
    silent,
)
from lreorg_fast.weights.bundle import Bundle, check_bundle_folder, write_bundle
from lreorg_fast.weights.manifest import BundleManifest, Domain, Part
from lreorg_fast.weights.parts import ARCHITECTURES, LATENT_AVERAGE

# Where encoder and generator say the average latent is, at most this far apart, in deviations of
# w. Means of 10,000 latents, which public files hold, differ by a hundredth.
_AVERAGE_TOLERANCE = 0.25
_AVERAGE_SAMPLES = 4_096


@dataclass(frozen=True)
class Networks:
    """What a bundle is made of: float32, on the CPU, frozen.

    Args:
        generator, encoder, cdfnet: the chain of a face.
        clip: gives keyword features and labels; not part of the bundle.
        identity: the recognizer that verifies.
        evaluation: another recognizer, for figures; never used in training.
    """

    generator: StyleGAN2Generator
    encoder: E4EEncoder
    cdfnet: CDFNet
    clip: ClipModel
    identity: nn.Module
    evaluation: nn.Module | None = None

    def parts(self) -> dict[str, nn.Module]:
        """By role in the bundle."""
        roles = {
            "generator": self.generator,
            "encoder": self.encoder,
            "cdfnet": self.cdfnet,
            "identity:training": self.identity,
            "identity:evaluation": self.evaluation,
        }
        return {role: network for role, network in roles.items() if network is not None}


@dataclass(frozen=True)
class Label:
    """What the bundle says about itself.

    Args:
        name: for people.
        license: of the weights.
        kind: of the pictures, such as ``ffhq``.
        recipe: where the networks came from; JSON data.
    """

    name: str
    license: str
    kind: str = "ffhq"
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def build_bundle(
    folder: str | Path,
    networks: Networks,
    label: Label,
    *,
    keywords: Mapping[str, Keyword] = KEYWORDS,
    tables: TableSizes | None = None,
    calibration: CalibrationSizes | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Make tables and limits, and write the bundle, whole or not at all.

    Args:
        folder: must not exist; the folder around it must.
        networks: checked by :func:`check_fit`.
        label: what the bundle says about itself.
        keywords: what the CDFNet was trained on, by name.
        tables, calibration: how much is computed; the defaults if None.
        progress: called with (what, done, of how many); may raise to interrupt.

    Raises:
        ConfigError: the networks do not fit together, or what is computed shows that they cannot
            be used; one sentence.
        OutputError: the folder exists or cannot be written.
    """
    check_bundle_folder(Path(folder), overwrite=False)
    tables, calibration = tables or TableSizes(), calibration or CalibrationSizes()
    started = time.monotonic()
    meaning = check_fit(networks, keywords)
    made, measured = _compute(networks, meaning, keywords, tables, calibration, progress)
    parts = {role: network_part(role, network) for role, network in networks.parts().items()}
    parts["tables"] = (Part("tables", "tables.safetensors"), made)
    manifest = BundleManifest(
        name=label.name,
        license=label.license,
        domain=Domain(
            label.kind,
            networks.generator.resolution,
            "Aligned faces as the generator makes them; other pictures are filled.",
        ),
        parts={role: part for role, (part, _) in parts.items()},
        keywords=tuple(keywords.values()),
        calibration=measured.limits,
        recipe={
            **label.recipe,
            "settings": {
                "tables": dataclasses.asdict(tables),
                "calibration": dataclasses.asdict(calibration),
            },
            "versions": versions(),
            "seconds": round(time.monotonic() - started, 1),
        },
        figures=measured.figures,
    )
    progress("writing", 0, 1)
    bundle = write_bundle(folder, manifest, {part.file: state for part, state in parts.values()})
    progress("writing", 1, 1)
    return bundle


def _compute(
    networks: Networks,
    meaning: ClipKeywords,
    keywords: Mapping[str, Keyword],
    tables: TableSizes,
    calibration: CalibrationSizes,
    progress: Progress,
) -> tuple[dict[str, Tensor], Calibration]:
    """The long work. The prepared generator is gone again before the bundle is written."""
    generator = prepare_generator(networks.generator)
    made = build_tables(tables, networks.cdfnet, generator, meaning, keywords, progress)
    judges = (networks.identity, networks.evaluation)
    return made, calibrate(calibration, networks.encoder, generator, *judges, progress)


@torch.inference_mode()
def check_fit(networks: Networks, keywords: Mapping[str, Keyword]) -> ClipKeywords:
    """Check that the networks are of one system; gives the keywords as CLIP reads them.

    Raises:
        ConfigError: naming the two that do not fit, and how.
    """
    if IDENTITY not in keywords:
        raise ConfigError(f"the keywords lack '{IDENTITY}', which every bundle hides; add it")
    for role, network in networks.parts().items():
        for name, tensor in {**network.state_dict(), **_average(network)}.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ConfigError(
                    f"the {role} has '{name}' with NaN or infinity; take an undamaged file"
                )
    generator, encoder, net = networks.generator, networks.encoder, networks.cdfnet
    _check_equal("encoder", "rows", encoder.config.num_ws, generator.num_ws)
    _check_equal("encoder", "width", encoder.config.style_dim, generator.config.style_dim)
    _check_equal("CDFNet", "dim", net.config.dim, generator.config.style_dim)
    for role in ("identity", "evaluation"):
        recognizer: Any = getattr(networks, role)
        if recognizer is None:
            continue
        size = recognizer.config.input_size
        if not recognizes(size, generator.resolution):
            raise ConfigError(
                f"the {role} network takes {size} pixels, but must take 112 or the generator's "
                f"{generator.resolution}; give another file"
            )
    _check_average(generator, encoder)
    meaning = ClipKeywords(networks.clip, keywords)
    width = meaning.keyword_features()[IDENTITY].shape[0]
    if width != net.config.cond_dim:
        raise ConfigError(
            f"the CLIP model's features have {width} numbers, but the CDFNet's keywords "
            f"{net.config.cond_dim} (cond_dim); give the CLIP model that it was trained with"
        )
    return meaning


def _check_equal(what: str, measure: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ConfigError(
            f"the {what}'s {measure} is {found}, but the generator's latents need {wanted}; give "
            "files that were trained together"
        )


def _check_average(generator: StyleGAN2Generator, encoder: E4EEncoder) -> None:
    """An encoder adds the average latent of the generator that it was trained for."""
    if not bool(encoder.latent_avg.any()):
        return
    random = torch.Generator().manual_seed(0)
    w = generator.mapping(torch.randn(_AVERAGE_SAMPLES, generator.config.z_dim, generator=random))
    centre = generator.latent_avg if bool(generator.latent_avg.any()) else w.mean(0)
    offset = float((encoder.latent_avg.mean(0) - centre).square().mean().sqrt())
    spread = float(w.std(0).square().mean().sqrt())
    if not offset <= _AVERAGE_TOLERANCE * spread:
        raise ConfigError(
            f"the encoder's average latent is {offset / spread:.2f} deviations from the "
            "generator's: they were not trained together; give the encoder of this generator"
        )


def network_part(role: str, network: nn.Module) -> tuple[Part, dict[str, Tensor]]:
    """A network as part of a bundle: its manifest entry and its tensors.

    Raises:
        ConfigError: a network of no known architecture.
    """
    known = [name for name, entry in ARCHITECTURES.items() if type(network) is entry.network]
    if not known:
        raise ConfigError(
            f"the {role} is a {type(network).__name__}, but bundles hold {', '.join(ARCHITECTURES)}"
        )
    settings: Any = network.config
    config = json.loads(json.dumps(settings.to_dict()))
    file = f"{role.replace(':', '_')}.safetensors"
    return Part(known[0], file, config), {**network.state_dict(), **_average(network)}


def _average(network: nn.Module) -> dict[str, Tensor]:
    """The average latent lies beside the state dict, as in public files."""
    average = getattr(network, LATENT_AVERAGE, None)
    return {LATENT_AVERAGE: average} if isinstance(average, Tensor) else {}


def versions() -> dict[str, str]:
    """What the figures of a bundle may depend on."""
    return {
        "lreorg_fast": lreorg_fast.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
