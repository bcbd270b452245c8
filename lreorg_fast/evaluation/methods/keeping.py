"""A method's outputs as files, to be looked at or measured again.

The folder appears whole or not at all, holds names like those of the originals, and never a pixel
of an original: where nothing was released there is a picture in the fill colour.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.evaluation.methods.running import Method
from lreorg_fast.evaluation.protocol import Collection
from lreorg_fast.files import atomic_file, atomic_folder, check_folder_target, make_folder
from lreorg_fast.media import write_image
from lreorg_fast.media.images import ENCODERS
from lreorg_fast.media.pictures import FILL_COLOUR, Picture

RECORD = "outputs.json"
Progress = Callable[[int, int], None]
# Name, size (width, height) of its original, and the output.
Entry = tuple[str, tuple[int, int], Picture | None]
_WHAT = "a folder of kept outputs"
_LONGEST_NAME = 255  # bytes, on every common file system
# As many as a method works on together; an original is not in memory for longer.
_CHUNK = 32


def keep_outputs(
    method: Method,
    originals: Collection,
    folder: str | os.PathLike[str],
    overwrite: bool = False,
    progress: Progress | None = None,
    tracks: Sequence[int | str] | None = None,
) -> int:
    """Run a method over originals and keep what comes out.

    Args:
        method: any but ``original``, whose outputs are the originals.
        originals: their names are those of the outputs.
        folder: see :func:`write_outputs`.
        overwrite: the same.
        progress: called with (pictures done, pictures in all) after each chunk.
        tracks: see :meth:`Method.__call__`.

    Returns:
        How many pictures were released; the others are in the fill colour.

    Raises:
        ConfigError: the method is ``original``, or another number of tracks than of originals.
        ImageError: an original cannot be read.
        OutputError: see :func:`write_outputs`.
    """
    if method.info.kind == "original":
        raise ConfigError(
            "the method 'original' would copy the originals; keep the outputs of another method"
        )
    if tracks is not None and len(tracks) != len(originals):
        raise ConfigError(f"there are {len(tracks)} tracks for {len(originals)} originals")

    def made() -> Iterator[Entry]:
        for start in range(0, len(originals), _CHUNK):
            part = range(start, min(start + _CHUNK, len(originals)))
            pictures = [_original(originals, i) for i in part]
            labels = None if tracks is None else [tracks[i] for i in part]
            outputs = method(pictures, labels)
            for i, picture, output in zip(part, pictures, outputs, strict=True):
                yield originals.names[i], (picture.shape[1], picture.shape[0]), output
            if progress is not None:
                progress(part.stop, len(originals))

    about = {name: getattr(method, name) for name in ("name", "title", "description", "guarantee")}
    return write_outputs(
        folder, originals.names, made(), about | {"command": method.command}, overwrite
    )


def write_outputs(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    entries: Iterable[Entry],
    about: dict[str, Any],
    overwrite: bool = False,
) -> int:
    """Write outputs as ``folder/NAME`` beside ``outputs.json``, which says what became of each.

    Args:
        folder: must not exist; the folder around it is made. With ``overwrite`` an earlier folder
            of kept outputs is replaced, and no other.
        names: paths below a folder with ``/``, of all entries; they are checked before the first
            entry is asked for. A name without a suffix that can be written gets ``.png``. A
            ``.jpg`` is written with losses, which a judge of the files sees.
        entries: (name, (width, height), output or None) of each name, in this order.
        about: JSON data about the method, for ``outputs.json``.
        overwrite: see ``folder``.

    Returns:
        How many were released.

    Raises:
        OutputError: a name that leads out of the folder or twice to one file, or that cannot be
            written; nothing is left behind.
    """
    target = Path(os.path.abspath(folder))
    places = _places(names)
    make_folder(target.parent)
    check_folder_target(target, overwrite, RECORD, _WHAT)
    became = {}
    with atomic_folder(target, overwrite, RECORD, _WHAT) as temporary:
        for place, (name, (width, height), output) in zip(places, entries, strict=True):
            file = temporary / place
            make_folder(file.parent)
            filled = np.full((height, width, 3), FILL_COLOUR, dtype=np.uint8)
            write_image(file, filled if output is None else output)
            became[name] = {"file": place, "released": output is not None}
        record = json.dumps({**about, "outputs": became}, indent=1) + "\n"
        with atomic_file(temporary / RECORD) as stream:
            stream.write(record.encode())
    return sum(entry["released"] is True for entry in became.values())


def _original(originals: Collection, index: int) -> Picture:
    picture = originals.picture(index)
    if picture is None:
        raise ConfigError(f"there is no original '{originals.names[index]}'; leave it out")
    return picture


def _places(names: Sequence[str]) -> list[str]:
    """Where each name lies below the folder."""
    places = [_place(name) for name in names]
    # As file systems do that ignore case: a target must not depend on where it is written.
    known: dict[str, str] = {RECORD: RECORD}
    for name, place in zip(names, places, strict=True):
        earlier = known.get(place.casefold())
        if earlier is not None:
            raise OutputError(
                f"the outputs of {earlier!r} and {name!r} would be one file; rename one original"
            )
        known[place.casefold()] = name
    return places


def _place(name: str) -> str:
    parts = name.split("/")
    try:
        fits = all(0 < len(os.fsencode(part)) <= _LONGEST_NAME for part in parts)
    except UnicodeEncodeError:
        fits = False
    # A drive or a backslash leads out of the folder elsewhere than here.
    leads_out = {".", ".."} & set(parts) or "\\" in name or PureWindowsPath(name).drive
    if not fits or leads_out or "\0" in name:
        raise OutputError(
            f"the name {name!r} cannot be kept: give originals plain names below their folder"
        )
    return name if PurePosixPath(name).suffix.lower() in ENCODERS else f"{name}.png"
