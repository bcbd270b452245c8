"""``python -m lreorg_fast.demo.ablations``: the paper's ablations and comparisons, on avatars.

From the finished work folder of ``python -m lreorg_fast.avatars.train`` it trains CDFNets that
start from the same seed, run the same number of steps and differ in one setting, measures each on
the same unseen people, and writes results.json, results.md and frontier.png. Run it again to go on.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from lreorg_fast.assembly import network_part, versions
from lreorg_fast.avatars.recipe.cdfnet import CDFNetRecipe, load_cdfnet, train_demo_cdfnet
from lreorg_fast.avatars.recipe.stages import Recipe, Stages
from lreorg_fast.demo.ablation_tables import results_page
from lreorg_fast.demo.figures import Measurement, draw_people
from lreorg_fast.demo.frontier import frontier_picture
from lreorg_fast.demo.protocol import full_sections, variant_sections
from lreorg_fast.demo.variants import FULL, VARIANTS, different
from lreorg_fast.errors import ConfigError, LReorgError
from lreorg_fast.files import atomic_file, parse_json
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.media import write_image
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.training.run import Run, Say, format_seconds
from lreorg_fast.training.tables import build_tables
from lreorg_fast.training.trainer import TrainingStopped
from lreorg_fast.weights import Part, open_bundle, write_bundle


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is done.

    Args:
        steps: of every training; None as many as the recipe's.
        people: that figures are measured on, 1,000 or more for a published table.
        seed: of the people.
    """

    steps: int | None = None
    people: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.people < 2 or (self.steps is not None and self.steps < 1):
            raise ConfigError(
                f"people = {self.people} and steps = {self.steps}: at least 2 people and 1 step "
                "are needed"
            )


class Ablations:
    """Trains and measures in one folder; what is there already is not done again.

    Args:
        stages: of a recipe whose stages are finished.
        bundle: the recipe's finished bundle, whose other networks and limits every variant takes.
        folder: gets one folder per variant and what :meth:`write` writes.
        sizes, say: how much, and who is told.
    """

    def __init__(self, stages: Stages, bundle: Path, folder: Path, sizes: Sizes, say: Say) -> None:
        self.stages = stages
        self.bundle = open_bundle(bundle)
        self.folder = folder
        self.sizes = sizes
        self.say = say
        recipe = stages.recipe.cdfnet
        self.steps = sizes.steps if sizes.steps is not None else recipe.training.steps
        self.recipes = {
            name: dataclasses.replace(recipe, training=training)
            for name, training in different(recipe.training, self.steps).items()
        }
        self._seconds: list[float] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, names: tuple[str, ...] = ()) -> dict[str, Any]:
        """Train and measure these variants (all of them if none is named), then write the page.

        Raises:
            ConfigError: an unknown or idle variant, or a folder of other settings.
        """
        for name in names:
            if name not in self.recipes:
                raise ConfigError(
                    f"variant is '{name}', but must be one of {', '.join(self.recipes)}; any other "
                    "is unknown or equal to the full setting of this recipe"
                )
        wanted = names or tuple(self.recipes)
        for index, name in enumerate(wanted):
            self.say(f"ablations: {name} ({index + 1} of {len(wanted)})")
            stopped = self._train(name)
            self._measure(name, stopped)
        return self.write()

    def write(self) -> dict[str, Any]:
        """``results.json``, ``results.md`` and ``frontier.png`` of all that is measured so far."""
        records = {name: self._record(name) for name in self.recipes}
        results = {
            "steps": self.steps,
            "people": self.sizes.people,
            "seed": self.sizes.seed,
            "left_out": [name for name in VARIANTS if name not in self.recipes],
            "versions": versions(),
            "variants": {name: record for name, record in records.items() if record is not None},
        }
        _write_json(self.folder / "results.json", results)
        with atomic_file(self.folder / "results.md", overwrite=True) as stream:
            stream.write(results_page(results).encode())
        write_image(self.folder / "frontier.png", frontier_picture(results), overwrite=True)
        self.say(f"ablations: written to {self.folder / 'results.md'}")
        return results

    # ---- training

    def _path(self, name: str) -> Path:
        return self.folder / name.replace(" ", "_").replace("'", "")

    def _trained_at(self, name: str) -> Path:
        own = self._path(name) / "cdfnet"
        return self.stages.work / "cdfnet" if self._shares_network(name) else own

    def _shares_network(self, name: str) -> bool:
        """The recipe's own network is the full one, if it was trained for as many steps."""
        same = self.recipes[name] == self.stages.recipe.cdfnet
        return same and (self.stages.work / "cdfnet" / "done.json").exists()

    def _train(self, name: str) -> str | None:
        """Train to the end; the reason if a loss stopped being a number before that."""
        path = self._path(name)
        path.mkdir(exist_ok=True)
        self._check_settings(name, path / "settings.json")
        folder = self._trained_at(name)
        stopped = folder / "stopped.json"
        if stopped.exists():
            return str(_read_json(stopped)["reason"])
        if Run(folder, "cdfnet", 0, "", self.say).done:
            return None
        stages = self.stages
        try:
            train_demo_cdfnet(
                self.recipes[name],
                stages.encoder_and_generator()[1],
                stages.teacher(),
                stages.clip_meaning(stages.device),
                folder,
                stages.device,
                self.say,
            )
        except TrainingStopped as error:
            _write_json(stopped, {"reason": str(error)})
            return str(error)
        return None

    def _check_settings(self, name: str, path: Path) -> None:
        recipe = json.loads(json.dumps(dataclasses.asdict(self.recipes[name])))
        settings = {**recipe.pop("training"), **recipe, **self._networks(name)}
        if not path.exists():
            _write_json(path, settings)
            return
        before = _read_json(path)
        names = sorted({*before, *settings})
        other = [n for n in names if before.get(n) != settings.get(n)]
        if other:
            raise ConfigError(
                f"'{path.parent}' was trained with another {', '.join(other)}; choose another "
                "folder or delete it"
            )

    def _networks(self, name: str) -> dict[str, str]:
        """Digests of what a variant shares with the recipe's bundle, by file."""
        manifest = self.bundle.manifest
        own_roles = ["tables"] if self._shares_network(name) else ["tables", "cdfnet"]
        own = {manifest.parts[role].file for role in own_roles}
        return {n: file.sha256 for n, file in manifest.files.items() if n not in own}

    # ---- measuring

    def _measure(self, name: str, stopped: str | None) -> None:
        path = self._path(name) / "figures.json"
        record = self._record(name) or {
            "people": self.sizes.people,
            "seed": self.sizes.seed,
            "changes": dict(VARIANTS[name]),
            "stopped": stopped,
            "sections": {},
        }
        if not (self._trained_at(name) / "state.pt").exists():
            _write_json(path, record)  # it stopped before its first checkpoint
            return
        measurement = self._measurement(name)
        sections = (full_sections if name == FULL else variant_sections)(measurement)
        missing = [section for section in sections if section not in record["sections"]]
        for index, section in enumerate(missing):
            start = time.monotonic()
            found = {label: dataclasses.asdict(figure) for label, figure in sections[section]()}
            record["sections"][section] = found
            _write_json(path, record)
            self._seconds.append(time.monotonic() - start)
            left = (len(missing) - index - 1) * sum(self._seconds) / len(self._seconds)
            self.say(
                f"ablations: {name}: measured {section} ({index + 1} of {len(missing)}, "
                f"{format_seconds(left)} left for this network)"
            )

    def _measurement(self, name: str) -> Measurement:
        anonymizer = Anonymizer.load(self._bundle(name), dtype="float32", precision="float32")
        people = draw_people(self.sizes.people, self.sizes.seed, anonymizer.resolution)
        return Measurement(anonymizer, people)

    def _record(self, name: str) -> dict[str, Any] | None:
        """What is measured of a variant on these people, if anything."""
        path = self._path(name) / "figures.json"
        if not path.exists():
            return None
        record: dict[str, Any] = _read_json(path)
        asked = {"people": self.sizes.people, "seed": self.sizes.seed}
        if any(record[field] != value for field, value in asked.items()):
            raise ConfigError(
                f"'{path}' was measured on {record['people']} people of seed {record['seed']}; ask "
                "for the same, or delete it to measure again"
            )
        return record

    def _bundle(self, name: str) -> Path:
        """The recipe's bundle with this variant's network, and tables made with that network."""
        target = self._path(name) / "bundle"
        if target.exists():
            return target
        recipe = self.recipes[name]
        self.say(f"ablations: {name}: building tables")
        manifest = self.bundle.manifest
        files: dict[str, Mapping[str, Tensor] | bytes] = {
            file: self.bundle.read(file) for file in manifest.files
        }
        for role, (part, tensors) in self._own_parts(recipe, self._trained_at(name)).items():
            stored = self.bundle.tensors(role)
            files[part.file] = {n: t.to(stored[n].dtype) for n, t in tensors.items()}
        own = dataclasses.replace(manifest, name=f"demo {name}".replace("'", ""), figures={})
        write_bundle(target, own, files)
        return target

    def _own_parts(
        self, recipe: CDFNetRecipe, folder: Path
    ) -> dict[str, tuple[Part, Mapping[str, Tensor]]]:
        net = load_cdfnet(recipe, folder)
        generator = self.stages.encoder_and_generator()[1]
        clip = self.stages.clip_meaning(torch.device("cpu"))
        tables = build_tables(self.stages.recipe.tables, net, generator, clip, KEYWORDS)
        return {
            "cdfnet": network_part("cdfnet", net),
            "tables": (self.bundle.part("tables"), tables),
        }


def _write_json(path: Path, data: Any) -> None:
    with atomic_file(path, overwrite=True) as stream:
        stream.write(json.dumps(data, indent=1).encode())


def _read_json(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"'{path}' cannot be read ({error}); delete it") from error


def _say(message: str) -> None:
    click.echo(message, err=True)


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/demo"))
@click.option("--bundle", type=click.Path(path_type=Path), help="Finished bundle; WORK/bundle.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="WORK/ablations.")
@click.option("--steps", type=click.IntRange(1), help="Of each training; the recipe's number.")
@click.option("--people", type=click.IntRange(2), default=1_000)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the people.")
@click.option("--variant", "variants", multiple=True, help="Only this one (may be repeated).")
@click.option("--device", default="cpu", help="For training: cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads.")
def main(
    work: Path,
    bundle: Path | None,
    output: Path | None,
    steps: int | None,
    people: int,
    seed: int,
    variants: tuple[str, ...],
    device: str,
    threads: int | None,
) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    stages = Stages(Recipe(), work, torch.device(device), _say)
    sizes = Sizes(steps, people, seed)
    try:
        Ablations(stages, bundle or work / "bundle", output or work / "ablations", sizes, _say).run(
            variants
        )
    except LReorgError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except KeyboardInterrupt:
        _say("interrupted: run the same command again to go on")
        sys.exit(130)
