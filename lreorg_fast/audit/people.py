"""Whose pictures layers 4 and 5 look at: drawn avatars, or aligned faces of a folder."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lreorg_fast.errors import ConfigError
from lreorg_fast.media import read_image
from lreorg_fast.media.images import ENCODERS
from lreorg_fast.media.pictures import Picture, checked_pictures, resized
from lreorg_fast.models.pixels import to_tensor
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy.subjects import picture_digest

FEWEST_PEOPLE = 20
_MOST_FILES = 1_000_000
_BATCH = 16


@dataclass(frozen=True, eq=False)
class People:
    """Pictures of different people, and a sentence that says where they are from."""

    pictures: Sequence[Picture] = field(repr=False)
    statement: str


def drawn_people(anonymizer: Anonymizer, count: int, seed: int) -> People:
    """Avatars, one per person.

    Raises:
        ConfigError: the bundle is for other faces.
    """
    domain = anonymizer.bundle.manifest.domain.kind
    if "avatar" not in domain:
        raise ConfigError(
            f"layers 4 and 5 draw avatars, but the bundle is for {domain}; give aligned faces of "
            "its kind with --faces FOLDER, or audit it with layers 1,2,3"
        )
    from lreorg_fast.demo.figures import draw_people

    drawn = draw_people(count, seed, anonymizer.resolution)
    return People(drawn.probes, f"Layers 4 and 5: {count} drawn avatars.")


def people_of_folder(
    anonymizer: Anonymizer, folder: str | os.PathLike[str], most: int, seed: int
) -> People:
    """Aligned faces of a folder that the bundle can represent, at most ``most``, by chance.

    Args:
        anonymizer: its bundle decides which faces are of its kind.
        folder: pictures, square and aligned as the bundle wants them; not those of folders in it.
        most: number of faces.
        seed: of the choice, if there are more.

    Raises:
        ConfigError: no folder; fewer than 20 faces of the bundle's kind; a picture twice.
        ImageError: a file is no picture, or no square one.
    """
    paths = _pictures_in(Path(folder))
    # Not more than asked for are ever decoded, whatever lies in the folder.
    chosen = sorted(random.Random(seed).sample(paths, min(most, len(paths))))
    size = anonymizer.encoder.config.input_size
    side = max(size, anonymizer.resolution)
    known: list[Picture] = []
    digests: set[bytes] = set()
    for batch in _batches(chosen):
        found = []
        for path in batch:
            (picture,) = checked_pictures(read_image(path))
            # Small before the next one is read: 16 pictures of 40 megapixels would take 2 GB.
            found.append(resized(picture, (side, side)))
            digest = picture_digest(picture)
            if digest in digests:
                raise ConfigError(f"'{path}' is a picture that another file has too; remove it")
            digests.add(digest)
        known += [
            resized(picture, (size, size))
            for picture, reason in zip(found, _refusals(anonymizer, found), strict=True)
            if reason is None
        ]
    if len(known) < FEWEST_PEOPLE:
        raise ConfigError(
            f"{len(known)} of {len(chosen)} faces of '{folder}' are of the kind of the bundle "
            f"'{anonymizer.bundle.manifest.name}', but {FEWEST_PEOPLE} are needed; give more, cut "
            "out as the bundle's domain says"
        )
    return People(
        known,
        f"Layers 4 and 5: {len(known)} of {len(chosen)} faces of a folder of {len(paths)}, those "
        "that the bundle represents; each is taken for another person, which is not checked. The "
        "bounds are about these pictures.",
    )


def _pictures_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_FILES)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"the faces '{folder}' cannot be listed ({reason}); give a folder of pictures"
        ) from error
    return sorted(folder / name for name in names if Path(name).suffix.lower() in ENCODERS)


def _batches(paths: Sequence[Path]) -> Iterable[Sequence[Path]]:
    return (paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH))


def _refusals(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> list[str | None]:
    """Why the bundle would fill each of them; None where it would not."""
    with torch.inference_mode():
        originals, seen = (
            to_tensor([resized(picture, (side, side)) for picture in pictures]).to(
                anonymizer.device
            )
            for side in (anonymizer.resolution, anonymizer.encoder.config.input_size)
        )
        codes = anonymizer.encoder(seen)
        back = anonymizer.generator.synthesis(codes)
        features = anonymizer.verification.features(originals)
        return anonymizer.verification.refusals(originals, codes, back, features)
