"""Take the stages before CDFNet from a finished demo bundle instead of repeating them.

Recognizers that the bundle lacks are left to be trained: what only judges may be added later.
CDFNet is what this project is about and what is tried most; the networks that it is trained with
take five hours of a core. They are the ones that the bundle's users have: matrices rounded to
bfloat16, which is how a bundle stores them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.avatars.recipe.recognizers import RecognizerRecipe
from lreorg_fast.avatars.recipe.stages import Recipe
from lreorg_fast.avatars.recipe.tables import JUDGES
from lreorg_fast.avatars.traits import ATTRIBUTES
from lreorg_fast.errors import ConfigError
from lreorg_fast.files import atomic_file
from lreorg_fast.training.run import Say
from lreorg_fast.training.settings import differences
from lreorg_fast.weights import Bundle
from lreorg_fast.weights.parts import LATENT_AVERAGE

# Settings of the stages that follow; everything else made the networks that are taken.
_OWN = ("cdfnet", "tables")
# Bundles that were made before a setting of recognizers existed do not name it.
_UNNAMED = {f.name: f.default for f in fields(RecognizerRecipe) if f.default is not MISSING}


def adopt_stages(bundle: Bundle, recipe: Recipe, work: Path, say: Say) -> None:
    """Lay the bundle's networks into ``work`` as finished stages; finished ones stay as they are.

    Raises:
        ConfigError: the bundle was made with other settings of these stages, or is no demo bundle.
    """
    check_settings(bundle, recipe)
    payloads = _payloads(bundle, recipe)
    for record in bundle.manifest.recipe["stages"]:
        name = record["stage"].replace(" ", "_")
        folder = work / name
        if name in _OWN or (folder / "done.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if name in payloads:
            with atomic_file(folder / "state.pt", overwrite=True) as stream:
                torch.save({"payload": payloads[name]}, stream)
        with atomic_file(folder / "done.json", overwrite=True) as stream:
            stream.write(json.dumps(record, indent=1).encode())
        say(f"{record['stage']}: taken from '{bundle.root}'")


def check_settings(bundle: Bundle, recipe: Recipe) -> None:
    """The stages before CDFNet must be the recipe's; it may have further recognizers that judge.

    Raises:
        ConfigError: they are not, or it is no demo bundle.
    """
    made = bundle.manifest.recipe.get("settings")
    if not isinstance(made, Mapping) or "stages" not in bundle.manifest.recipe:
        raise ConfigError(f"'{bundle.root}' does not say how it was made; name a demo bundle")
    now = json.loads(json.dumps(asdict(recipe)))
    old, new = ({k: v for k, v in s.items() if k not in _OWN} for s in (made, now))
    old["recognizers"], new["recognizers"] = (_by_role(s["recognizers"]) for s in (old, new))
    for role in [r for r in new["recognizers"] if r.startswith(JUDGES)]:
        if role not in old["recognizers"]:
            del new["recognizers"][role]
    changed = differences(old, new)
    if changed:
        raise ConfigError(
            f"'{bundle.root}' was made with other settings ({', '.join(changed)}); run the stages "
            "from nothing, or restore the settings"
        )


def _by_role(recognizers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["role"]: _UNNAMED | entry for entry in recognizers}


def _payloads(bundle: Bundle, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """What the loaders of the stages read, by the stage's folder.

    Nothing reads what the stage ``autoencoder`` left but ``refinement``, which went on from it.
    """
    encoder, generator = bundle.tensors("encoder"), bundle.tensors("generator")
    # Beside the parameters in a bundle, as in public files; no part of a module's state.
    averages = [state.pop(LATENT_AVERAGE) for state in (encoder, generator)]
    style = {n.removeprefix("style."): t for n, t in generator.items() if n.startswith("style.")}
    pair = _prefixed("encoder", encoder) | _prefixed("generator", generator)
    calibration = bundle.manifest.calibration
    mean, deviation = (
        torch.tensor([calibration[f"attributes.{a.name}.{what}"] for a in ATTRIBUTES])
        for what in ("mean", "deviation")
    )
    payloads: dict[str, dict[str, Any]] = {
        "attributes": {
            "net": bundle.tensors("attributes"),
            "mean": mean,
            "deviation": deviation,
        },
        "clip": {"model": bundle.tensors("clip")},
        "refinement": {"average": pair},
        "encoder": {"encoder": encoder, "latent_avg": averages[0]},
        "mapping": {"style": style, "latent_avg": averages[1]},
    }
    for recognizer in recipe.recognizers:
        part = f"identity:{recognizer.role}"
        if part in bundle.manifest.parts:
            payloads[f"recognizer_{recognizer.role}"] = {"net": bundle.tensors(part)}
    return payloads


def _prefixed(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in state.items()}
