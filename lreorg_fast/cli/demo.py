"""``lreorg demo``: the whole system on avatars, offline."""

from __future__ import annotations

from pathlib import Path

import click

from lreorg_fast.cli.terminal import print_json, print_line, print_table, say
from lreorg_fast.errors import OutputError


@click.command(short_help="Anonymize avatars, offline, and measure how well it works.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="lreorg-demo",
    show_default=True,
    metavar="FOLDER",
    help="Where the contact sheet, the pictures and the report go.",
)
@click.option(
    "--faces",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How many people are drawn; more give narrower intervals.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which people are drawn. The privacy draws have no seed.",
)
@click.option("--force", is_flag=True, help="Use a folder that is not empty.")
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of a table.")
def demo(output: Path, faces: int, seed: int, force: bool, as_json: bool) -> None:
    """Anonymize avatars that no network has seen, and measure how well that works.

    Needs no network and no GPU. The figures are about avatars and say nothing about photographs.
    """
    _check_folder(output, force)
    from lreorg_fast.demo import run_demo

    report = run_demo(output, faces, seed, say)
    if as_json:
        print_json(report)
        return
    print_table(
        ("measured", "value", "from", "to", "n", "note"),
        (
            (
                figure["name"],
                *(f"{figure[key]:.3f}" for key in ("value", "low", "high")),
                figure["n"],
                figure["note"],
            )
            for figure in report["figures"]
        ),
    )
    print_line(report["statement"])
    for path in report["paths"]:
        print_line(str(path))


def _check_folder(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the output '{folder}' is not a folder; name a folder")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"the folder '{folder}' is not empty; name another one, or use --force to replace the "
            "demo's files in it"
        )
