"""``lreorg train``: keyword swap training of a CDFNet."""

from __future__ import annotations

from pathlib import Path

import click

from lreorg_fast.cli.terminal import print_json, print_line, say
from lreorg_fast.errors import ConfigError

_PRESETS = ("paper", "recommended")


@click.command(short_help="Train a CDFNet on your own generator.")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Of the run; give it again to go on.",
)  # fmt: skip
@click.option(
    "--device", default="auto", show_default=True,
    help="auto, cpu, cuda or cuda:N; under torchrun, a GPU for each process.",
)  # fmt: skip
@click.option("--demo", is_flag=True, help="Make the package's demo bundle from nothing.")
@click.option(
    "--print-config", "preset", type=click.Choice(_PRESETS), is_flag=False,
    flag_value=_PRESETS[0],
    help="Print a complete configuration to start from: the paper's, or what was found better.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def train(
    config: Path | None,
    output: Path | None,
    device: str,
    demo: bool,
    preset: str | None,
    quiet: bool,
) -> None:
    """Train a CDFNet as the JSON file CONFIG says; no pictures and no labels are needed.

    A run saves itself every few minutes and when it is interrupted, and the same command goes on
    exactly there.
    """
    if sum((config is not None, demo, preset is not None)) != 1:
        raise click.UsageError("give a CONFIG, or --demo, or --print-config; one of them")
    if preset is not None:
        from lreorg_fast.training.config import config_to_json
        from lreorg_fast.training.config import preset as preset_of

        print_json(config_to_json(preset_of(preset)))
        return
    if output is None:
        raise ConfigError("a training run needs a folder; give one with -o FOLDER")
    tell = _nothing if quiet else say
    if demo:
        from lreorg_fast.avatars.train import make_demo_bundle

        print_line(str(make_demo_bundle(output, device, tell)))
        return
    assert config is not None
    from lreorg_fast.training.tool import train as run

    print_line(str(run(config, output, device=device, say=tell)))


def _nothing(_message: str) -> None:
    """Progress that nobody wants to see."""
