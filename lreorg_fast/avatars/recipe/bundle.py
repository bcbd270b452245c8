"""Stage 9: the trained networks and tables as one bundle, with recipe and figures inside."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lreorg_fast.assembly import network_part, versions
from lreorg_fast.avatars.landmarks import mean_landmarks
from lreorg_fast.avatars.recipe.clip import MODEL_CONFIG, PREPROCESS_CONFIG
from lreorg_fast.avatars.recipe.stages import Recipe, Trained
from lreorg_fast.avatars.recipe.tables import calibrate
from lreorg_fast.demo.figures import Measurement, Named, draw_people
from lreorg_fast.demo.recognizers import further_figures
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.training.run import Say
from lreorg_fast.training.tables import build_tables
from lreorg_fast.weights import BundleManifest, Domain, Part, write_bundle

# open_clip finds these two under exactly these names, so the bundle folder is a model of its own:
# open_clip.create_model("local-dir:<bundle>").
_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_config.json")
FIGURES_SEED = 0


def stored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in bfloat16; vectors, statistics and counters as they are.

    bfloat16 and not float16, because its exponents repeat: the wheel compresses it to 70% and
    float16 only to 93% (13.6 and 15.8 MB for the networks that there were with two recognizers).
    """
    return {
        name: tensor.bfloat16() if tensor.dim() > 1 and tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _parts(trained: Trained, recipe: Recipe) -> dict[str, tuple[Part, dict[str, Tensor]]]:
    """Role -> manifest entry and tensors."""
    networks: dict[str, nn.Module] = {
        "generator": trained.generator,
        "encoder": trained.encoder,
        "cdfnet": trained.net,
        "attributes": trained.attributes,
        **{f"identity:{name}": net for name, net in trained.recognizers.items()},
    }
    parts = {}
    for role, network in networks.items():
        part, tensors = network_part(role, network)
        parts[role] = (part, stored(tensors))
    clip = Part("open_clip", _CLIP_FILES[0], MODEL_CONFIG)
    parts["clip"] = (clip, stored(trained.clip.model.state_dict()))
    tables = build_tables(recipe.tables, trained.net, trained.generator, trained.clip, KEYWORDS)
    members = {"codebook.members": tables["codebook.members"].bfloat16()}
    parts["tables"] = (Part("tables", "tables.safetensors"), tables | members)
    return parts


def _provenance(recipe: Recipe, work: Path, command: str) -> dict[str, Any]:
    """How the bundle was made: settings, time per stage, versions, machine."""
    stages = [json.loads(path.read_text()) for path in sorted(work.glob("*/done.json"))]
    return {
        "command": command,
        "settings": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "stages": stages,
        "versions": versions(),
        "machine": machine(),
    }


def machine() -> str:
    """Processor and number of cores, for people who compare times."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")  # Linux tells more than platform does
    if information.is_file():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = named[0] if named else name
    return f"{name}, {os.cpu_count()} cores"


def plain_figures(named: Iterable[Named], say: Say) -> dict[str, dict[str, Any]]:
    """Measure, tell, and return the figures as JSON data."""
    figures = {}
    for name, figure in named:
        figures[name] = dataclasses.asdict(figure)
        say(f"bundle: {name}: {figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]")
    return figures


def write_demo_bundle(
    trained: Trained, recipe: Recipe, work: Path, target: Path, command: str, say: Say
) -> None:
    """Assemble, measure on unseen people, and write the bundle with its figures."""
    say("bundle: building tables")
    parts = _parts(trained, recipe)
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}
    files: dict[str, Mapping[str, Tensor] | bytes] = {
        part.file: tensors for part, tensors in parts.values()
    }
    files[_CLIP_FILES[1]] = json.dumps(config, indent=1).encode()
    manifest = BundleManifest(
        name="demo",
        license="Apache-2.0",
        domain=Domain(
            kind="avatars",
            resolution=trained.generator.resolution,
            description="Procedural avatars: faces of nobody. Not for photographs.",
            alignment=tuple((x, y) for x, y in mean_landmarks()),
        ),
        parts={role: part for role, (part, _) in parts.items()},
        keywords=tuple(KEYWORDS.values()),
        calibration=calibrate(
            recipe.tables,
            trained.encoder,
            trained.generator,
            trained.recognizers,
            trained.attribute_statistics,
        ),
        recipe=_provenance(recipe, work, command),
    )
    write_bundle(target, manifest, files, overwrite=True)
    count = recipe.tables.figures_people
    say(f"bundle: measuring {count} people")
    anonymizer = Anonymizer.load(target)
    people = draw_people(count, FIGURES_SEED, anonymizer.resolution)
    measurement = Measurement(anonymizer, people)
    figures = plain_figures(chain(measurement.thorough(), further_figures(measurement)), say)
    measured = dataclasses.replace(manifest, figures=figures)
    write_bundle(target, measured, files, overwrite=True)
    say(f"bundle: written to {target}")
