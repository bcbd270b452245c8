"""``lreorg bundle``: public weights files into one folder that makes an Anonymizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from lreorg_fast.cli.terminal import print_json, print_line, progress_bar, say

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
    from lreorg_fast.assembly import Label, build_bundle
    from lreorg_fast.calibration import CalibrationSizes
    from lreorg_fast.keywords import KEYWORDS, load_keywords
    from lreorg_fast.sources import Sources, common_license, name_and_file
    from lreorg_fast.training.tables import TableSizes
    from lreorg_fast.weights.bundle import check_bundle_folder
    from lreorg_fast.weights.manifest import manifest_to_json

    clip_model, clip_file = name_and_file(clip)
    check_bundle_folder(output.absolute(), overwrite=False)
    sizes = TableSizes(seed, latents, groups, members, labelled)
    # Other people than those of the tables.
    calibration = CalibrationSizes(900_000 + seed, people, reconstructions, far)
    table = KEYWORDS if keywords is None else load_keywords(keywords)
    evaluation = files.pop("identity_evaluation")
    sources = Sources(clip=clip_file, clip_model=clip_model, evaluation=evaluation, **files)
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


@bundle.command("add-keyword", short_help="Teach a bundle one more keyword.")
@click.argument("source", metavar="BUNDLE")
@click.argument("name")
@click.option(
    "--content", "contents", multiple=True, required=True, metavar="TEXT",
    help="What the keyword tells apart; give it twice or more.",
)  # fmt: skip
@click.option(
    "--template", default="a photo of a {} person.", show_default=True,
    help="The sentence that a content completes.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FOLDER",
    help="The new bundle; must not exist.",
)  # fmt: skip
@click.option(
    "--work", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Of the training, which is resumed there; FOLDER.training of the output without it.",
)  # fmt: skip
@click.option(
    "--clip", metavar="NAME:FILE",
    help="The CLIP model that the bundle was built with, where the bundle does not hold it.",
)  # fmt: skip
@click.option("--sharpness", type=float, help="Of CLIP's distributions; the model's own without.")
@_count("--steps", 1_000, "Training steps.")
@_count("--batch", 8, "Pairs of faces a step.", 2)
@_count("--latents", 20_000, "Generated people who are sorted into groups.")
@_count("--groups", 256, "m: groups of identities.", 2)
@_count("--members", 8, "n: identities kept of each group.")
@_count("--labelled", 3_000, "Generated pictures that CLIP sorts by content.")
@_count("--seed", 81, "Of all draws.", 0)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor costs.")
def add_keyword(
    source: str,
    name: str,
    contents: tuple[str, ...],
    template: str,
    output: Path,
    work: Path | None,
    clip: str | None,
    sharpness: float | None,
    steps: int,
    batch: int,
    latents: int,
    groups: int,
    members: int,
    labelled: int,
    seed: int,
    device: str,
    quiet: bool,
) -> None:
    """Train BUNDLE's CDFNet for one more keyword NAME, and write a bundle that has it.

    Says first whether CLIP can tell the contents apart and how long it takes; at the end, what the
    training did to every keyword. BUNDLE stays as it is.
    """
    from lreorg_fast.keywords import Keyword
    from lreorg_fast.new_keyword import KeywordTraining
    from lreorg_fast.new_keyword import add_keyword as add
    from lreorg_fast.sources import clip_of
    from lreorg_fast.training.tables import TableSizes
    from lreorg_fast.training.workers import local_device
    from lreorg_fast.weights.bundle import open_bundle

    keyword = Keyword(name, contents, template)
    opened = open_bundle(source)
    add(
        opened,
        keyword,
        output,
        work or output.absolute().with_name(f"{output.name}.training"),
        clip=clip_of(opened, clip),
        settings=KeywordTraining(steps=steps, batch=batch, sharpness=sharpness, seed=seed),
        tables=TableSizes(latents=latents, groups=groups, members=members, labelled=labelled),
        device=local_device(device),
        say=(lambda _message: None) if quiet else say,
    )
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
