"""A finished demo bundle with the recognizers that it lacks: the rest stays byte for byte.

Recognizers that only judge take part in nothing else, so that adding one need not change what was
trained, drawn and measured before.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from torch import Tensor

from lreorg_fast.assembly import network_part, versions
from lreorg_fast.avatars.recipe.bundle import FIGURES_SEED, machine, plain_figures, stored
from lreorg_fast.avatars.recipe.recognizers import Recognizer
from lreorg_fast.avatars.recipe.stages import Stages
from lreorg_fast.avatars.recipe.tables import judges_thresholds
from lreorg_fast.demo.figures import Measurement, draw_people
from lreorg_fast.demo.recognizers import further_figures
from lreorg_fast.errors import ConfigError
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.weights import Bundle, BundleManifest, Part, write_bundle


def extend_bundle(bundle: Bundle, stages: Stages, target: Path, command: str) -> None:
    """Write ``bundle`` with every recognizer of ``stages`` that it lacks to ``target``.

    Each comes with its thresholds, measured as it is stored, its settings, the record of its
    training, and its figures on a new draw over the people that the other figures are about.

    Raises:
        ConfigError: it lacks none.
    """
    lacking = {
        role: net
        for role, net in stages.recognizer_nets().items()
        if f"identity:{role}" not in bundle.manifest.parts
    }
    if not lacking:
        raise ConfigError(
            f"'{bundle.root}' has every recognizer of the recipe; there is none to add"
        )
    parts: dict[str, Part] = {}
    files: dict[str, Mapping[str, Tensor] | bytes] = {
        name: bundle.read(name) for name in bundle.manifest.files
    }
    rounded: dict[str, Recognizer] = {}
    for role, net in lacking.items():
        part, tensors = network_part(f"identity:{role}", net)
        parts[f"identity:{role}"] = part
        files[part.file] = stored(tensors)
        rounded[role] = copy.deepcopy(net)
        rounded[role].load_state_dict(stored(net.state_dict()))
    tables = stages.recipe.tables
    thresholds = judges_thresholds(tables, rounded, bundle.manifest.domain.resolution)
    manifest = dataclasses.replace(
        bundle.manifest,
        parts={**bundle.manifest.parts, **parts},
        calibration={**bundle.manifest.calibration, **thresholds},
        recipe=_recipe(bundle.manifest, stages, tuple(lacking), command),
        package_version=versions()["lreorg_fast"],
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    write_bundle(target, manifest, files, overwrite=True)
    stages.say(f"extension: measuring {tables.figures_people} people")
    anonymizer = Anonymizer.load(target)
    people = draw_people(tables.figures_people, FIGURES_SEED, anonymizer.resolution)
    figures = plain_figures(further_figures(Measurement(anonymizer, people)), stages.say)
    measured = dataclasses.replace(manifest, figures={**manifest.figures, **figures})
    write_bundle(target, measured, files, overwrite=True)
    stages.say(f"extension: written to {target}")


def _recipe(
    manifest: BundleManifest, stages: Stages, roles: tuple[str, ...], command: str
) -> dict[str, object]:
    """How the bundle was made, with what was added and by what."""
    made = dict(manifest.recipe)
    records = [
        json.loads((stages.work / f"recognizer_{role}" / "done.json").read_text()) for role in roles
    ]
    recognizers = json.loads(json.dumps(dataclasses.asdict(stages.recipe)))["recognizers"]
    addition = {
        "command": command,
        "parts": [f"identity:{role}" for role in roles],
        "versions": versions(),
        "machine": machine(),
    }
    return {
        **made,
        "settings": {**made["settings"], "recognizers": recognizers},
        "stages": sorted([*made["stages"], *records], key=lambda record: str(record["stage"])),
        "additions": [*made.get("additions", []), addition],
    }
