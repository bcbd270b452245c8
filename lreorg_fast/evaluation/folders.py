"""Originals and the outputs of any method, read from folders and paired by name.

Nothing is trusted: folders are walked with a limit and without following links, and pictures are
decoded one at a time under the limits of :func:`lreorg_fast.media.read_image`.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from lreorg_fast.errors import CheckpointError, ConfigError, ImageError
from lreorg_fast.evaluation.people import PeopleTable, read_people
from lreorg_fast.evaluation.protocol import Indices, Labels
from lreorg_fast.log import logger
from lreorg_fast.media.images import ENCODERS, MAX_PIXELS, read_image
from lreorg_fast.media.outputs import natural_key
from lreorg_fast.media.pictures import Picture

MOST_ENTRIES = 2_000_000  # of a folder with all below it: about 1 GB of names
PHOTOGRAPHS = "photographs"
_NAMED = 3  # file names in a message

PathLike = str | os.PathLike[str]


class FolderPictures:
    """Pictures of a folder in a given order; None stands where there is none.

    Args:
        root: the folder.
        names: of files below it, or None.
        tolerant: a file that cannot be read counts as none; otherwise it is an error.
        max_pixels: see :func:`lreorg_fast.media.read_image`.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str | None],
        tolerant: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.root = root
        self._files = tuple(names)
        self._tolerant, self._max_pixels = tolerant, max_pixels
        self._unreadable: set[int] = set()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def unreadable(self) -> int:
        """How many files could not be read so far; always 0 unless tolerant."""
        return len(self._unreadable)

    def picture(self, index: int) -> Picture | None:
        """See :class:`lreorg_fast.evaluation.protocol.Pictures`.

        Raises:
            ImageError: it cannot be read, unless tolerant.
        """
        name = self._files[index]
        if name is None:
            return None
        try:
            return read_image(self.root / name, self._max_pixels)
        except ImageError:
            if not self._tolerant:
                raise
            self._note_unreadable(index)
            return None

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the file, which says more than its time and costs less than decoding it.

        Raises:
            ImageError: it cannot be read, unless tolerant.
        """
        from lreorg_fast.weights.cache import sha256_of

        name = self._files[index]
        if name is None:
            return "none"
        try:
            return sha256_of(self.root / name)
        except CheckpointError as error:
            if self._tolerant:
                return "none"
            raise ImageError(str(error)) from error

    def _note_unreadable(self, index: int) -> None:
        if not self._unreadable:
            logger.warning("outputs that cannot be read are counted as not released")
        self._unreadable.add(index)


@dataclass(frozen=True, eq=False)
class FolderCollection:
    """Originals in a folder; a :class:`lreorg_fast.evaluation.protocol.Collection`.

    Attributes:
        root: the folder.
        names: paths below it, with ``/``.
        subjects: (N,) number of the person.
        people: names of the persons by number.
        attributes, groups: from the table, empty without one.
        left_out: entries that are not evaluated, by reason.
    """

    root: Path
    names: Sequence[str]
    subjects: Indices
    people: Sequence[str]
    attributes: Mapping[str, Labels] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS
    domain: str = PHOTOGRAPHS

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.root.resolve().name or "originals"

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, index: int) -> Picture:
        """(H, W, 3) uint8 RGB.

        Raises:
            ImageError: it cannot be read.
        """
        return read_image(self.root / self.names[index], self.max_pixels)

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the file."""
        return FolderPictures(self.root, self.names).fingerprint(index)


def open_collection(
    root: PathLike,
    table: PathLike | None = None,
    *,
    allow_missing: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> FolderCollection:
    """Originals of known people.

    Without a table, the first folder below ``root`` is the person; pictures that lie in ``root``
    itself are of one person each, and then nothing that needs a second picture can be measured.

    Args:
        root: the folder; it may be a link, nothing below it is followed.
        table: CSV with the columns ``name,person`` and any more, see
            :func:`lreorg_fast.evaluation.people.read_people`.
        allow_missing: leave out pictures without a row, and rows without a picture.
        max_pixels: of a picture.

    Raises:
        ConfigError: no folder, no pictures, some pictures in folders and some not, or a table
            that does not fit. Pictures themselves are read later.
    """
    folder = Path(root)
    names, left_out = picture_names(folder)
    if table is None:
        persons: Sequence[str] = _folders_of(folder, names)
        chosen, rows = names, None
    else:
        rows = read_people(table)
        chosen = _listed(names, rows, Path(table), allow_missing)
        left_out = left_out | _count("not in the table", len(names) - len(chosen))
        persons = [rows.people[rows.index[_key(name)]] for name in chosen]
    numbers = {person: i for i, person in enumerate(dict.fromkeys(persons))}
    kept = [] if rows is None else [rows.index[_key(name)] for name in chosen]
    return FolderCollection(
        folder,
        tuple(chosen),
        np.array([numbers[person] for person in persons], dtype=np.int64),
        tuple(numbers),
        {} if rows is None else {n: values[kept] for n, values in rows.attributes.items()},
        {} if rows is None else {n: [v[i] for i in kept] for n, v in rows.groups.items()},
        left_out,
        max_pixels,
    )


def open_outputs(
    originals: FolderCollection, folder: PathLike, *, allow_missing: bool = False
) -> FolderPictures:
    """A method's outputs: the same path below their folder as the original, any picture suffix.

    A file with the original's own suffix goes first, so ``a.jpg`` and ``a.png`` may both be there
    if both are originals.

    Args:
        originals: from :func:`open_collection`.
        folder: of the outputs.
        allow_missing: originals without an output, or with one that cannot be read, count as not
            released, and outputs without an original are left out.

    Returns:
        As many pictures as originals, in their order.

    Raises:
        ConfigError: no folder, one that holds the originals or lies among them, or files that are
            not paired, or not in one way.
    """
    root = Path(folder)
    _refuse_nested(originals.root, root)
    names, _ = picture_names(root)
    found = _paired(originals.names, names, root)
    alone = [name for name, output in zip(originals.names, found, strict=True) if output is None]
    extra = sorted(set(names) - {name for name in found if name is not None}, key=natural_key)
    if len(alone) == len(found):
        raise ConfigError(
            f"no file of '{root}' has the name of an original, such as '{alone[0]}'; outputs must "
            "have the same path below their folder, with any picture suffix"
        )
    if (alone or extra) and not allow_missing:
        raise ConfigError(
            f"'{root}' is not paired with '{originals.root}': "
            + "; ".join(_unpaired("originals without an output", alone))
            + "; " * bool(alone and extra)
            + "; ".join(_unpaired("outputs without an original", extra))
            + "; add or remove them, or count them as not released with --allow-missing"
        )
    return FolderPictures(root, found, allow_missing, originals.max_pixels)


def picture_names(root: Path) -> tuple[list[str], dict[str, int]]:
    """Paths of pictures below a folder, in natural order, and what was left out, counted.

    Raises:
        ConfigError: no folder, no pictures, a folder that cannot be listed, more than
            :data:`MOST_ENTRIES` entries, or two names that differ in their Unicode form only.
    """
    names: list[str] = []
    left_out: dict[str, int] = defaultdict(int)
    stack, seen = [""], 0
    while stack:  # a folder can be nested deeper than Python's recursion goes
        below = stack.pop()
        for entry in _entries(root / below):
            seen += 1
            if seen > MOST_ENTRIES:
                raise ConfigError(
                    f"'{root}' holds more than {MOST_ENTRIES} files and folders; evaluate a part"
                )
            path = f"{below}{entry.name}"
            if entry.is_symlink():
                left_out["symbolic links, which are not followed"] += 1
            elif entry.is_dir(follow_symlinks=False):
                stack.append(f"{path}/")
            elif not entry.is_file(follow_symlinks=False) or not _is_picture(entry.name):
                left_out["not named as a picture"] += 1
            else:
                names.append(path)
    if not names:
        raise ConfigError(
            f"'{root}' holds no pictures; their suffixes are {', '.join(ENCODERS)}"
            + "".join(f"; {count} {reason}" for reason, count in left_out.items())
        )
    _refuse_twins(root, names)
    for reason, count in left_out.items():
        logger.warning("%d entries of a folder are left out: %s", count, reason)
    return sorted(names, key=lambda name: ([natural_key(p) for p in name.split("/")], name)), dict(
        left_out
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot list the folder '{folder}': {reason}") from error


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in ENCODERS


def _key(name: str) -> str:
    """One key for a name, whichever Unicode form a file system or a program gave it."""
    return unicodedata.normalize("NFC", name)


def _refuse_twins(root: Path, names: Sequence[str]) -> None:
    keys: dict[str, str] = {}
    for name in names:
        if keys.setdefault(_key(name), name) != name:
            raise ConfigError(
                f"'{root}' holds two files whose names look the same, '{name}'; rename one"
            )


def _folders_of(root: Path, names: Sequence[str]) -> list[str]:
    flat = [name for name in names if "/" not in name]
    if flat and len(flat) < len(names):
        raise ConfigError(
            f"'{root}' holds folders of people, and '{flat[0]}' and {len(flat) - 1} more pictures "
            "beside them; move those into a folder per person, or give a table of people"
        )
    if flat:
        logger.warning(
            "no folders and no table say who is on the pictures; each counts as another person"
        )
        return list(names)
    return [name.split("/", 1)[0] for name in names]


def _listed(names: Sequence[str], rows: PeopleTable, table: Path, allow_missing: bool) -> list[str]:
    """The pictures that have a row."""
    keys = {_key(name) for name in names}
    chosen = [name for name in names if _key(name) in rows.index]
    without_row = [name for name in names if _key(name) not in rows.index]
    without_picture = [name for name in rows.index if name not in keys]
    if (without_row or without_picture) and not allow_missing:
        raise ConfigError(
            f"'{table}' does not list the pictures that are there: "
            + "; ".join(
                [
                    *_unpaired("rows without a picture", without_picture),
                    *_unpaired("pictures without a row", without_row),
                ]
            )
            + "; correct it, or leave them out with --allow-missing"
        )
    if not chosen:
        raise ConfigError(f"'{table}' lists none of the pictures; names are paths below the folder")
    return chosen


def _paired(originals: Sequence[str], outputs: Sequence[str], root: Path) -> list[str | None]:
    exact = {_key(name): name for name in outputs}
    found: list[str | None] = [exact.get(_key(name)) for name in originals]
    claimed = {name for name in found if name is not None}
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in outputs:
        if name not in claimed:
            by_stem[_stem(name)].append(name)
    takers: dict[str, str] = {}
    for i, name in enumerate(originals):
        if found[i] is not None:
            continue
        offers = by_stem.get(_stem(name), [])
        if len(offers) > 1:
            raise ConfigError(
                f"'{root}' holds {len(offers)} outputs for '{name}': '{offers[0]}' and "
                f"'{offers[1]}'; keep one"
            )
        if offers:
            if takers.setdefault(offers[0], name) != name:
                raise ConfigError(
                    f"the output '{offers[0]}' belongs to '{takers[offers[0]]}' or to '{name}', "
                    "which differ in their suffix only; keep the suffixes of the originals"
                )
            found[i] = offers[0]
    return found


def _stem(name: str) -> str:
    return _key(str(PurePosixPath(name).with_suffix("")))


def _refuse_nested(originals: Path, outputs: Path) -> None:
    here, there = originals.resolve(), outputs.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConfigError(
            f"the outputs '{outputs}' and the originals '{originals}' are one folder or one holds "
            "the other; keep them apart"
        )


def _unpaired(what: str, names: Sequence[str]) -> Iterable[str]:
    if names:
        first = ", ".join(f"'{name}'" for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"{len(names)} {what} ({first}{more})"


def _count(reason: str, count: int) -> dict[str, int]:
    return {reason: count} if count else {}
