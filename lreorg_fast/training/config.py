"""What ``lreorg train`` reads: files, network, losses, schedule, and what is reported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lreorg_fast.cdfnet import CDFNetConfig
from lreorg_fast.errors import ConfigError
from lreorg_fast.files import parse_json
from lreorg_fast.keywords import DEFAULT_KEEP, KEYWORDS
from lreorg_fast.training.judges import LatentsConfig
from lreorg_fast.training.keyword_swap import IDENTITY, LossWeights, SwapTrainingConfig
from lreorg_fast.training.settings import from_json, to_json

_LONGEST = 1_000_000  # bytes of a configuration


@dataclass(frozen=True)
class ClipFiles:
    """A model name of open_clip (or the path of its JSON config), and its weights."""

    name: str
    file: str


@dataclass(frozen=True)
class ReportConfig:
    """What a run tells of itself.

    Args:
        log_every: steps between rows of log.csv.
        save_every_seconds: what an interruption costs at most.
        sheet_every: steps between contact sheets; 0 for none but the last.
        validate_every: steps between validations; 0 for none but the last.
        validation_people: held-out latents that are validated on.
        tensorboard: write event files too.

    Raises:
        ConfigError: a number out of range.
    """

    log_every: int = 10
    save_every_seconds: float = 300.0
    sheet_every: int = 1_000
    validate_every: int = 1_000
    validation_people: int = 64
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.log_every < 1 or self.validation_people < 8 or not self.save_every_seconds > 0:
            raise ConfigError(
                "report.log_every must be at least 1, report.validation_people at least 8 and "
                "report.save_every_seconds above 0"
            )
        if self.sheet_every < 0 or self.validate_every < 0:
            raise ConfigError("report.sheet_every and report.validate_every must be at least 0")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Args:
        generator: a StyleGAN2 file; all files relative to the configuration's own folder.
        identity: a recognizer's file.
        clip: a CLIP model.
        perceptual: a VGG-Face file; None compares the recognizer's own feature maps.
        keywords: a JSON table; None for the package's own.
        model: the CDFNet; ``dim`` must be the generator's width of w, ``cond_dim`` CLIP's.
        training: losses and schedule.
        latents: what is trained on.
        sharpness: of CLIP's distributions; None for the model's own scale.
        seed: of the parameters and of all draws.
        report: what is written on the way.

    Raises:
        ConfigError: a number out of range.
    """

    generator: str
    identity: str
    clip: ClipFiles
    perceptual: str | None = None
    keywords: str | None = None
    model: CDFNetConfig = field(default_factory=CDFNetConfig)
    training: SwapTrainingConfig = field(default_factory=SwapTrainingConfig)
    latents: LatentsConfig = field(default_factory=LatentsConfig)
    sharpness: float | None = None
    seed: int = 0
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**62:
            raise ConfigError(f"seed is {self.seed}, but must be from 0 to 2**62")
        if self.sharpness is not None and not 0 < self.sharpness <= 1000:
            raise ConfigError(f"sharpness is {self.sharpness}, but must be in (0, 1000] or null")

    def files(self) -> dict[str, str]:
        """Role -> path as written, without those not given."""
        given = {
            "generator": self.generator,
            "identity": self.identity,
            "clip": self.clip.file,
            "perceptual": self.perceptual,
            "keywords": self.keywords,
        }
        return {role: path for role, path in given.items() if path is not None}


def read_config(path: Path) -> TrainConfig:
    """Read a configuration file.

    Raises:
        ConfigError: missing, no JSON, or a field that does not fit; the message names it.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror or error}") from error
    if len(content) > _LONGEST:
        raise ConfigError(f"'{path}' has more than {_LONGEST} bytes: this is no configuration")
    try:
        data = parse_json(content)
    except ValueError as error:
        raise ConfigError(f"'{path}' is not JSON: {error}") from error
    try:
        return from_json(TrainConfig, data)
    except ConfigError as error:
        raise ConfigError(f"'{path}': {error}") from error


def config_to_json(config: TrainConfig) -> dict[str, Any]:
    """All fields as JSON data; :func:`read_config` reads the file of it."""
    data: dict[str, Any] = json.loads(json.dumps(to_json(config)))
    return data


def _shares() -> Mapping[str, float]:
    """Half of the swaps are of the identity, the other half of any attribute."""
    attributes = [name for name in KEYWORDS if name != IDENTITY]
    return {IDENTITY: 0.5, **dict.fromkeys(attributes, round(0.5 / len(attributes), 4))}


def preset(name: str) -> TrainConfig:
    """A complete configuration to start from; the names of its files are those of docs/weights.md.

    ``paper``: the published losses, weights and schedule. ``recommended``: with what repaired the
    trade-off between privacy and utility on the demo's avatars (docs/training_notes.md).

    Raises:
        ConfigError: another name.
    """
    paper = SwapTrainingConfig(keyword_shares=_shares())
    trainings = {
        "paper": paper,
        "recommended": dataclasses.replace(
            paper,
            weights=LossWeights(
                identity_kept=4.0, contents_kept=5.0, reversal=3.0, identity_back=12.0
            ),
            kept_keywords=DEFAULT_KEEP,
            identity_floor=0.05,
            recurrence_every=2,
            gradient_limit=10.0,
            skip_limit=3,
            average=0.999,
            final_rate=0.05,
        ),
    }
    if name not in trainings:
        raise ConfigError(f"preset is '{name}', but must be one of {', '.join(trainings)}")
    return TrainConfig(
        generator="stylegan2-ffhq-256.pt",
        identity="model_ir_se50.pth",
        clip=ClipFiles("ViT-B-32-quickgelu", "ViT-B-32.pt"),
        perceptual="vgg_face_dag.pth" if name == "paper" else None,
        training=trainings[name],
        latents=LatentsConfig(row_noise=0.3 if name == "recommended" else 0.0),
    )
