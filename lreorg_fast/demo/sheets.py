"""``python -m lreorg_fast.demo.sheets -o FOLDER``: contact sheets like the paper's Figures 5 to 9.

Avatars that no network has seen, through a bundle: other draws of the identity, joint hiding, one
attribute alone, reversal with the key, and methods side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from lreorg_fast.demo.figures import (
    METHODS,
    draw_people,
    encoded,
    reconstruct,
    reversed_with_keys,
    swapped_with_next,
)
from lreorg_fast.demo.protocol import joint_label
from lreorg_fast.errors import LReorgError
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP
from lreorg_fast.media import write_image
from lreorg_fast.media.contact_sheet import contact_sheet
from lreorg_fast.media.pictures import Picture
from lreorg_fast.pipeline import Anonymizer

Rows = dict[str, Sequence[Picture]]
_DRAWS = 4
_FARTHEST = {"attribute_rule": "farthest"}


def sheets(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> dict[str, Rows]:
    """The rows of every sheet by its name, one column per picture of the demo's size."""
    shown: Rows = {"original": pictures, "encoded and rendered": reconstruct(anonymizer, pictures)}
    makers: Mapping[str, Callable[[Anonymizer, Sequence[Picture]], Rows]] = {
        "identity": _identity,
        "joint": _joint,
        "alone": _alone,
        "swapped": _swapped,
        "reversed": _reversed,
        "methods": _methods,
    }
    return {name: shown | make(anonymizer, pictures) for name, make in makers.items()}


def write_sheets(
    folder: Path, anonymizer: Anonymizer, pictures: Sequence[Picture], side: int = 96
) -> list[Path]:
    """Write every sheet as ``folder/NAME.png``; faces are ``side`` pixels wide.

    Raises:
        OutputError: a sheet cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in sheets(anonymizer, pictures).items():
        paths.append(folder / f"{name}.png")
        write_image(paths[-1], contact_sheet(rows, side), overwrite=True)
    return paths


def _made(anonymizer: Anonymizer, pictures: Sequence[Picture], **settings: Any) -> list[Picture]:
    return list(anonymizer(list(pictures), **settings).images)


def _identity(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Rows:
    made = partial(_made, anonymizer, pictures)
    return {f"new identity, draw {draw + 1}": made() for draw in range(_DRAWS)}


def _joint(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Rows:
    """Identity, and identity with one attribute; each first with the other attributes back."""
    made = partial(_made, anonymizer, pictures)
    rows: Rows = {
        "identity,\nothers recovered": made(),
        "identity,\nnothing recovered": made(keep=()),
    }
    for name in DEFAULT_KEEP:
        hide = [*DEFAULT_HIDE, name]
        others = [other for other in DEFAULT_KEEP if other != name]
        for recovered, keep in ((True, others), (False, [])):
            label = joint_label(name, recovered).replace(", ", ",\n")
            rows[label] = made(hide=hide, keep=keep, **_FARTHEST)
    return rows


def _alone(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Rows:
    made = partial(_made, anonymizer, pictures)
    return {f"{name} hidden": made(hide=[name], keep=(), **_FARTHEST) for name in DEFAULT_KEEP}


def _swapped(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Rows:
    """One key feature of the right neighbour (of the first face, in the last column)."""
    latents = encoded(anonymizer, pictures)
    return {
        f"{name} of the next": swapped_with_next(anonymizer, latents, name)
        for name in (*DEFAULT_HIDE, *DEFAULT_KEEP)
    }


def _reversed(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Rows:
    everything = [*DEFAULT_HIDE, *DEFAULT_KEEP]
    rows: Rows = {}
    hidden: Mapping[str, dict[str, Any]] = {
        "identity": {},
        "all attributes": {"hide": everything, "keep": (), **_FARTHEST},
    }
    for label, settings in hidden.items():
        result = anonymizer(list(pictures), recovery=True, **settings)
        rows[f"{label} hidden"] = result.images
        rows[f"{label} reversed"] = reversed_with_keys(anonymizer, result, len(pictures))
    return rows


def _methods(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Rows:
    made = partial(_made, anonymizer, pictures)
    rows: Rows = {"this one": made(), "this one,\nnothing recovered": made(keep=())}
    return rows | {name: made(keep=(), **settings) for name, settings in METHODS.items()}


@click.command(help=__doc__)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--bundle", default="demo", help="A bundle of avatars; the packaged one.")
@click.option("--people", type=click.IntRange(2, 40), default=10, help="Columns.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which people.")
@click.option("--side", type=click.IntRange(16, 1024), default=96, help="Pixels of a face.")
def main(output: Path, bundle: str, people: int, seed: int, side: int) -> None:
    try:
        anonymizer = Anonymizer.load(bundle)
        pictures = draw_people(people, seed, anonymizer.resolution).probes
        for path in write_sheets(output, anonymizer, pictures, side):
            click.echo(path)
    except LReorgError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
