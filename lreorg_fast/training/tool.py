"""``lreorg train``: a configuration and a folder, from weights files to a trained CDFNet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import KEYWORDS, Keyword, load_keywords
from lreorg_fast.training.config import TrainConfig, config_to_json, read_config
from lreorg_fast.training.judges import WeightsJudges
from lreorg_fast.training.keyword_swap import IDENTITY, PRECISIONS
from lreorg_fast.training.observer import Observer
from lreorg_fast.training.run import Run, Say
from lreorg_fast.training.settings import settle
from lreorg_fast.training.trainer import train_cdfnet
from lreorg_fast.training.workers import Workers, join_workers, leave_workers, local_device

_CONFIG = "config.json"
NETWORK, AVERAGE = "cdfnet.safetensors", "cdfnet-average.safetensors"


def train(config: TrainConfig | Path, folder: Path, *, device: str = "auto", say: Say) -> Path:
    """Train a CDFNet, or go on where ``folder`` stopped.

    Args:
        config: a configuration, whose files are relative to the working folder; or the path of
            one, whose files are relative to its own.
        folder: of the run; see docs/training.md for what is in it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Under torchrun every process takes a
            GPU of its own, or all take the CPU.
        say: is told one line at a time.

    Returns:
        The trained network's file: the moving average's where one is kept.

    Raises:
        ConfigError: something of the configuration does not fit, or not what the folder was begun
            with; the message names the field.
        CheckpointError: a weights file, or the folder's checkpoint, cannot be used.
        TrainingStopped: a loss was not finite.
        Interrupted: a signal; the state is saved.
    """
    settings = read_config(config) if isinstance(config, Path) else config
    base = config.parent if isinstance(config, Path) else Path()
    files = {role: base / path for role, path in settings.files().items()}
    _check_files(files)
    design = base / settings.clip.name  # a file, or else a name that open_clip knows
    if design.is_file():
        files["clip config"] = design
    chosen = local_device(device)
    joined = join_workers(chosen)
    try:
        return _train(settings, files, folder, chosen, say)
    finally:
        if joined:
            leave_workers()


def _train(
    config: TrainConfig, files: Mapping[str, Path], folder: Path, device: torch.device, say: Say
) -> Path:
    first = Workers().rank == 0
    torch.manual_seed(config.seed)
    table = load_keywords(files["keywords"]) if "keywords" in files else dict(KEYWORDS)
    _check_keywords(config, table)
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        _settle(folder / _CONFIG, config, files)
    done = folder / (AVERAGE if config.training.average else NETWORK)
    if Run(folder, "cdfnet", 0, "", say, writes=False).done and done.exists():
        say(f"{folder} is finished; {done} is its network")
        return done
    judges = _judges(config, files, table, device, say if first else _quiet)
    features = judges.keyword_features()
    _check_widths(config, judges, features[IDENTITY])
    net = CDFNet(config.model).to(device)
    contents = [name for name, keyword in table.items() if keyword.contents]
    used = {name: features[name] for name in config.training.keyword_shares}
    shown = [name for name in contents if name in used]
    observer = Observer(config.report, folder, judges, used, shown, net) if first else None
    result = train_cdfnet(
        net,
        judges,
        used,
        config.training,
        folder,
        say,
        config.report.save_every_seconds,
        watch=observer,
        on_resume=None if observer is None else observer.resume,
    )
    if observer is not None:
        observer.finish(config.training.steps, result)
        _write_networks(folder, net, result)
        say(f"written to {done}")
    return done


def _quiet(_message: str) -> None:
    """What the other processes say."""


def _check_files(files: Mapping[str, Path]) -> None:
    for role, path in files.items():
        if not path.is_file():
            field = "clip.file" if role == "clip" else role
            raise ConfigError(f"'{field}' is '{path}', which does not exist; give the file's path")


def _check_keywords(config: TrainConfig, table: Mapping[str, Keyword]) -> None:
    for name in config.training.keyword_shares:
        if name not in table:
            raise ConfigError(
                f"'training.keyword_shares' has '{name}', but the keywords are {', '.join(table)}"
            )
        if name != IDENTITY and not table[name].contents:
            raise ConfigError(
                f"the keyword '{name}' has no contents to swap; give it two or more, or take it "
                "out of 'training.keyword_shares'"
            )


def _check_widths(config: TrainConfig, judges: WeightsJudges, feature: Tensor) -> None:
    width, style = feature.shape[0], judges.generator.config.style_dim
    if config.model.dim != style:
        raise ConfigError(
            f"'model.dim' is {config.model.dim}, but the generator's latents have {style} numbers; "
            f"set it to {style}"
        )
    if config.model.cond_dim != width:
        raise ConfigError(
            f"'model.cond_dim' is {config.model.cond_dim}, but the CLIP model's features have "
            f"{width} numbers; set it to {width}"
        )


def _judges(
    config: TrainConfig,
    files: Mapping[str, Path],
    table: Mapping[str, Keyword],
    device: torch.device,
    say: Say,
) -> WeightsJudges:
    from lreorg_fast.weights.clip import load_clip
    from lreorg_fast.weights.generators import load_generator
    from lreorg_fast.weights.identity import load_identity
    from lreorg_fast.weights.vgg_face import load_vgg_face

    say("loading the generator, the recognizer and CLIP")
    perceptual = load_vgg_face(files["perceptual"]).to(device) if "perceptual" in files else None
    return WeightsJudges(
        load_generator(files["generator"]).to(device),
        load_identity(files["identity"]).to(device),
        load_clip(files.get("clip config", config.clip.name), files["clip"]).to(device),
        table,
        perceptual=perceptual,
        latents=config.latents,
        sharpness=config.sharpness,
        dtype=PRECISIONS[config.training.precision],
    )


def _settle(path: Path, config: TrainConfig, files: Mapping[str, Path]) -> None:
    """What is reported may change from session to session; everything else decides the result."""
    from lreorg_fast.weights.cache import sha256_of

    new = {
        "config": config_to_json(config),
        "files": {
            role: {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
            for role, file in files.items()
        },
    }
    settle(path, new, _decisive)


def _decisive(record: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: value for name, value in record["config"].items() if name != "report"}
    # Where a file lies does not matter, and its digest says what it is.
    for name in ("generator", "identity", "perceptual", "keywords"):
        config.pop(name, None)
    described = "clip config" in record["files"]
    clip = {} if described else {"name": config["clip"]["name"]}
    return {**config, "clip": clip, "files": record["files"]}


def _write_networks(folder: Path, net: CDFNet, result: CDFNet) -> None:
    from lreorg_fast.weights.networks import write_network

    write_network(folder / NETWORK, net, overwrite=True)
    if result is not net:
        write_network(folder / AVERAGE, result, overwrite=True)
