"""``lreorg bundle build``: public weights files into one folder that makes an Anonymizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from lreorg_fast.cli.terminal import print_json, print_line, progress_bar, say
from lreorg_fast.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)


def _count(name: str, default: int, meaning: str, least: int = 1) -> Callable[[Command], Command]:
    return click.option(
        name, type=click.IntRange(min=least), default=default, show_default=True, help=meaning
    )


@click.group()
def bundle() -> None:
    """Make bundles: folders of networks and tables that anonymize."""


@bundle.command(short_help="Make a bundle from weights files.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FOLDER",
    help="The bundle; must not exist.",
)  # fmt: skip
@click.option("--generator", type=_FILE, required=True, help="StyleGAN2.")
@click.option("--encoder", type=_FILE, required=True, help="e4e, for this generator.")
@click.option("--cdfnet", type=_FILE, required=True, help="CDFNet, trained on this generator.")
@click.option(
    "--clip", required=True, metavar="NAME:FILE",
    help="open_clip model, such as ViT-B-32-quickgelu:ViT-B-32.pt.",
)  # fmt: skip
@click.option("--identity", type=_FILE, required=True, help="Recognizer that verifies results.")
@click.option(
    "--identity-evaluation", type=_FILE, help="Another recognizer, for figures; never verifies."
)
@click.option("--keywords", type=_FILE, help="JSON table; the package's own without it.")
@click.option("--domain", default="ffhq", show_default=True, help="What pictures it is for.")
@click.option("--name", help="Of the bundle; the folder's name without it.")
@click.option("--license", "licence", help="Of the weights; those of the sources without it.")
@_count("--groups", 256, "m: groups of identities.", 2)
@_count("--members", 8, "n: identities kept of each group.")
@_count("--latents", 20_000, "Generated people who are sorted into groups.")
@_count("--labelled", 3_000, "Generated pictures that CLIP sorts by content.")
@_count("--people", 1_500, "Generated people on whom the limits are measured.")
@_count("--reconstructions", 500, "How many of them are encoded and generated again.")
@click.option(
    "--far", type=float, default=1e-3, show_default=True,
    help="Share of strangers' pairs that verification takes for one person.",
)  # fmt: skip
@_count("--seed", 71, "Of all generated people.", 0)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def build(
    output: Path,
    clip: str,
    keywords: Path | None,
    domain: str,
    name: str | None,
    licence: str | None,
    groups: int,
    members: int,
    latents: int,
    labelled: int,
    people: int,
    reconstructions: int,
    far: float,
    seed: int,
    as_json: bool,
    quiet: bool,
    **files: Any,
) -> None:
    """Make a bundle from weights files, as their authors published them.

    Everything that does not fit is said before the long work, and nothing is written before its
    end. No picture of anybody is needed: all tables and limits are of generated people.
    """
    clip_model, colon, clip_file = clip.partition(":")
    if not colon or not clip_model or not clip_file:
        raise ConfigError(f"--clip is '{clip}', but must be NAME:FILE, the model and its weights")
    from lreorg_fast.assembly import Label, build_bundle
    from lreorg_fast.calibration import CalibrationSizes
    from lreorg_fast.keywords import KEYWORDS, load_keywords
    from lreorg_fast.sources import Sources, common_license
    from lreorg_fast.training.tables import TableSizes
    from lreorg_fast.weights.bundle import check_bundle_folder
    from lreorg_fast.weights.manifest import manifest_to_json

    check_bundle_folder(output.absolute(), overwrite=False)
    sizes = TableSizes(seed, latents, groups, members, labelled)
    # Other people than those of the tables.
    calibration = CalibrationSizes(900_000 + seed, people, reconstructions, far)
    table = KEYWORDS if keywords is None else load_keywords(keywords)
    evaluation = files.pop("identity_evaluation")
    sources = Sources(clip=Path(clip_file), clip_model=clip_model, evaluation=evaluation, **files)
    with _steps(visible=not quiet) as progress:
        networks = sources.load(progress)
        provenance = sources.provenance(progress)
        label = Label(
            name or output.absolute().name,
            licence or common_license(provenance),
            domain,
            {"command": "lreorg bundle build", "sources": provenance},
        )
        made = build_bundle(
            output, networks, label,
            keywords=table, tables=sizes, calibration=calibration, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(manifest_to_json(made.manifest))
    else:
        print_line(str(output))


@contextlib.contextmanager
def _steps(visible: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each step in turn; where stderr is a file, one line for each."""
    from rich.console import Console

    terminal = Console(stderr=True).is_terminal
    with contextlib.ExitStack() as stack:
        current: dict[str, Callable[[int, int], None]] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in current:
                stack.close()
                current.clear()
                current[what] = stack.enter_context(progress_bar(what, visible))
                if visible and not terminal:
                    say(what)
            current[what](done, total)

        yield advance
