"""``python -m lreorg_fast.avatars.train``: make the demo bundle from nothing.

Renders avatars, trains every network, builds the tables, measures, and writes the bundle with
its recipe and figures. Each stage resumes where it was interrupted; on a CPU all of it takes
hours, with a GPU minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch

from lreorg_fast.avatars.recipe.stages import STAGES, Recipe, Stages
from lreorg_fast.training.run import Say
from lreorg_fast.training.workers import local_device
from lreorg_fast.weights import open_bundle

_COMMAND = "python -m lreorg_fast.avatars.train"
# Instead of all the other stages: see lreorg_fast.avatars.recipe.extension.
_EXTENSION = "extension"


def _say(message: str) -> None:
    click.echo(message, err=True)


def make_demo_bundle(work: Path, device: str, say: Say) -> Path:
    """All stages in ``work``, or what is left of them, and the bundle in ``work/bundle``.

    ``device``: as for :func:`~lreorg_fast.training.workers.local_device`.
    """
    runner = Stages(Recipe(), work, local_device(device), say)
    for stage in STAGES:
        runner.run(stage)
    target = work / "bundle"
    write_bundle_of(runner, target)
    return target


def write_bundle_of(runner: Stages, target: Path, command: str = _COMMAND) -> None:
    """The bundle of finished stages, with its figures and the command that made it."""
    from lreorg_fast.avatars.recipe.bundle import write_demo_bundle

    trained = runner.trained()
    write_demo_bundle(trained, runner.recipe, runner.work, target, command, runner.say)


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/demo"))
@click.option(
    "--stage",
    "stages",
    type=click.Choice([*STAGES, "bundle", _EXTENSION]),
    multiple=True,
    help="Run only this stage (may be repeated); by default all of them in order but 'extension', "
    "which trains the recognizers that the bundle of --from lacks and adds them to it; all else "
    "in it stays as it is.",
)
@click.option(
    "--target",
    type=click.Path(path_type=Path),
    default=Path("runs/demo/bundle"),
    help="Folder of the finished bundle.",
)
@click.option(
    "--from",
    "made",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take the networks before CDFNet from this finished demo bundle.",
)
@click.option("--device", default="cpu", help="auto, cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads.")
def main(
    work: Path,
    stages: tuple[str, ...],
    target: Path,
    made: Path | None,
    device: str,
    threads: int | None,
) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    runner = Stages(Recipe(), work, local_device(device), _say)
    command = _COMMAND
    if _EXTENSION in stages:
        _extend(made, runner, stages, target)
        return
    if made is not None:
        from lreorg_fast.avatars.recipe.adopt import adopt_stages

        adopt_stages(open_bundle(made), runner.recipe, work, _say)
        command += " --from BUNDLE"
    wanted = stages or (*STAGES, "bundle")
    for stage in wanted:
        if stage != "bundle":
            runner.run(stage)
        else:
            write_bundle_of(runner, target, command)


def _extend(made: Path | None, runner: Stages, stages: tuple[str, ...], target: Path) -> None:
    if made is None or len(stages) > 1:
        raise click.UsageError(
            f"--stage {_EXTENSION} needs --from BUNDLE, and no other --stage beside it"
        )
    from lreorg_fast.avatars.recipe.adopt import adopt_stages
    from lreorg_fast.avatars.recipe.extension import extend_bundle

    bundle = open_bundle(made)
    adopt_stages(bundle, runner.recipe, runner.work, runner.say)
    runner.run("recognizers")
    extend_bundle(bundle, runner, target, f"{_COMMAND} --from BUNDLE --stage {_EXTENSION}")


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except KeyboardInterrupt:
        _say("interrupted: run the same command again to go on")
        sys.exit(130)
