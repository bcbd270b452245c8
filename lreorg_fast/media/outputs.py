"""Which result goes where: decided for the whole run before the first picture is opened.

Every input gets a target of its own or a reason why it is left out, so that nothing is
overwritten by a neighbour and nothing is missed in silence.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from lreorg_fast.errors import ConfigError, OutputError, VideoError
from lreorg_fast.files import make_folder
from lreorg_fast.media.containers import kind_of
from lreorg_fast.media.images import ENCODERS
from lreorg_fast.media.muxing import result_suffix

_LONGEST_NAME = 255  # bytes, on every common file system


@dataclass(frozen=True)
class Skipped:
    """An input that is left out, and why.

    Attributes:
        path: the file or folder.
        reason: one clause, without the path.
        failure: True if something was asked for and is not done; False for what merely lies
            beside the pictures in a folder, is named twice or is the output folder itself.
    """

    path: Path
    reason: str
    failure: bool


@dataclass(frozen=True)
class Wanted:
    """Which files of a run are done.

    Args:
        only: shell patterns (``*``, ``?``, ``[...]``); a file is done if one of them fits, or if
            there is none.
        unless: patterns of files that are left out all the same.

    A pattern fits the name of a file, or its whole way down from the folder that was named
    (``sub/*.jpg``); upper and lower case are the same.
    """

    only: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def __call__(self, way: str) -> bool:
        """``way``: names from the folder down, joined by ``/``."""
        texts = [way.casefold(), way.rsplit("/", 1)[-1].casefold()]

        def fits(patterns: tuple[str, ...]) -> bool:
            return any(fnmatchcase(t, p.casefold()) for p in patterns for t in texts)

        return (not self.only or fits(self.only)) and not fits(self.unless)


@dataclass(frozen=True)
class OutputPlan:
    """The result of :func:`plan_outputs`; iterating gives the (source, target) pairs.

    Attributes:
        pairs: pictures and videos with their targets.
        skipped: what is left out.
        videos: which of the sources are videos.
    """

    pairs: tuple[tuple[Path, Path], ...]
    skipped: tuple[Skipped, ...]
    videos: frozenset[Path] = frozenset()

    def __iter__(self) -> Iterator[tuple[Path, Path]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def create_folders(self) -> None:
        """Create the folders of all targets.

        Raises:
            OutputError: a folder cannot be created, or a file stands in its place.
        """
        for folder in sorted({target.parent for _, target in self.pairs}):
            make_folder(folder)


def plan_outputs(
    inputs: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    suffix: str = "_anonymized",
    wanted: Wanted | None = None,
) -> OutputPlan:
    """Give every picture and video among ``inputs`` a target.

    A file goes to ``output`` under its own name, or beside itself with ``suffix`` added when
    ``output`` is None. A folder is walked in natural order (``a2`` before ``a10``) and mirrored:
    into ``output`` itself when it is the only input, else into a folder of its name there; when
    ``output`` is None, into a sibling folder with ``suffix`` added.

    Targets never collide, also on file systems that ignore case or Unicode normal forms: the
    later one gets ``suffix`` and, if needed, a number. A target is never one of the sources.
    Symbolic links are neither read nor written through; ``output`` itself may be one. A video is
    known by its content, whatever its name, and its target has the suffix of what can be written;
    the kind of a picture is taken from its suffix here and from its content when it is read.
    ``wanted`` leaves files out.

    Raises:
        ConfigError: ``suffix`` is empty or not part of a plain name.
        OutputError: ``output`` exists and is not a folder.
    """
    if not suffix or suffix != suffix.strip() or re.search(r"[/\\\0]|\.\.", suffix):
        raise ConfigError(
            f"suffix {suffix!r} must be a non-empty part of a file name without separators, "
            "for example '_anonymized'"
        )
    planner = _Planner(None if output is None else Path(output), suffix, wanted or Wanted())
    planner.collect([Path(entry) for entry in inputs])
    return planner.assign()


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which numbers inside names count as numbers; case is ignored."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def _same_name(name: str) -> str:
    """What a file system that ignores case and normal forms takes for one name."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _place(path: Path) -> str:
    return _same_name(os.path.realpath(path))


@dataclass
class _Source:
    """One file: the folder it was found under (None for a file input) and the way down."""

    path: Path
    root: Path | None
    folders: tuple[str, ...] = ()
    video: bool = False


@dataclass
class _Planner:
    output: Path | None
    suffix: str
    wanted: Wanted
    skipped: list[Skipped] = field(default_factory=list)
    sources: list[_Source] = field(default_factory=list)
    alone: bool = False
    # Names in use in each target folder, by where it really is; a folder has many spellings.
    taken: dict[str, set[str]] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    mirrored: dict[Path, Path] = field(default_factory=dict)
    source_places: set[str] = field(default_factory=set)
    output_place: str | None = None

    def __post_init__(self) -> None:
        if self.output is None:
            return
        if os.path.lexists(self.output) and not self.output.is_dir():
            raise OutputError(f"the output '{self.output}' is not a folder; name a folder")
        self.output_place = _place(self.output)

    def skip(self, path: Path, reason: str, failure: bool = True) -> None:
        self.skipped.append(Skipped(path, reason, failure))

    def collect(self, inputs: list[Path]) -> None:
        self.alone = len(inputs) == 1
        for path in inputs:
            reason = _refusal(path)
            if reason is not None:
                self.skip(path, reason)
            elif path.is_dir():
                self._walk(path)
            else:
                self._add(_Source(path, None))

    def _add(self, source: _Source) -> None:
        if not self.wanted("/".join((*source.folders, source.path.name))):
            self.skip(source.path, "it was left out by --only or --except", failure=False)
            return
        kind = _kind(source.path)
        if kind == "unread":
            self.skip(source.path, "it is a picture in a format that is not read; convert it")
            return
        if kind == "video":
            source = replace(source, video=True)
        elif source.path.suffix.lower() not in ENCODERS:
            reason = f"its suffix is not one of {', '.join(ENCODERS)}"
            self.skip(source.path, reason, failure=source.root is None)
            return
        place = os.path.realpath(source.path)
        if place in self.source_places:
            self.skip(source.path, "it is named twice and done once", failure=False)
            return
        self.source_places.add(place)
        self.sources.append(source)

    def _walk(self, root: Path) -> None:
        # An explicit stack: a folder can be nested deeper than Python's recursion goes.
        stack: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
        while stack:
            folder, way = stack.pop()
            try:
                names = sorted(os.listdir(folder), key=lambda name: (natural_key(name), name))
            except OSError as error:
                self.skip(folder, f"cannot be listed: {error.strerror or error}")
                continue
            below: list[tuple[Path, tuple[str, ...]]] = []
            for name in names:
                path = folder / name
                reason = _refusal(path)
                if reason is not None:
                    self.skip(path, reason)
                elif not path.is_dir():
                    self._add(_Source(path, root, way))
                elif _place(path) == self.output_place:
                    self.skip(path, "it is the output folder", failure=False)
                else:
                    below.append((path, (*way, name)))
            stack.extend(reversed(below))

    def assign(self) -> OutputPlan:
        self.source_places = {_same_name(place) for place in self.source_places}
        pairs = []
        for source in self.sources:
            folder = self._target_folder(source)
            if self._escapes(folder):
                self.skip(source.path, "its output folder would be a symbolic link")
                continue
            stem, extension = os.path.splitext(source.path.name)
            if source.video:
                extension = result_suffix(source.path)
            changed = self.output is None and source.root is None
            pairs.append((source.path, self._claim(folder, stem, extension, changed)))
        videos = frozenset(source.path for source in self.sources if source.video)
        return OutputPlan(tuple(pairs), tuple(self.skipped), videos)

    def _target_folder(self, source: _Source) -> Path:
        if source.root is None:
            return source.path.parent if self.output is None else self.output
        source_folder, target = source.root, self._target_root(source.root)
        for name in source.folders:
            source_folder = source_folder / name
            if source_folder not in self.mirrored:
                self.mirrored[source_folder] = self._claim(target, name)
            target = self.mirrored[source_folder]
        return target

    def _target_root(self, root: Path) -> Path:
        if root not in self.mirrored:
            whole = Path(os.path.realpath(root))  # "." and ".." have no name of their own
            if self.output is None:
                self.mirrored[root] = self._claim(whole.parent, whole.name, changed=True)
            elif self.alone:
                self.mirrored[root] = self.output
            else:
                self.mirrored[root] = self._claim(self.output, whole.name or "root")
        return self.mirrored[root]

    def _escapes(self, folder: Path) -> bool:
        base = self.output
        while folder != base and folder != folder.parent:
            if folder.is_symlink():
                return base is not None or folder in self.mirrored.values()
            folder = folder.parent
        return False

    def _claim(self, folder: Path, stem: str, extension: str = "", changed: bool = False) -> Path:
        """Reserve a name in ``folder``: the given one if it may stay, else a variation of it."""
        if folder not in self.places:
            self.places[folder] = _place(folder)
        place = self.places[folder]
        taken = self.taken.setdefault(place, set())
        for name in self._variations(stem, extension, changed):
            key = _same_name(name)
            if key not in taken and os.path.join(place, key) not in self.source_places:
                taken.add(key)
                break
        return folder / name

    def _variations(self, stem: str, extension: str, changed: bool) -> Iterator[str]:
        if not changed:
            yield stem + extension
        for number in itertools.count(1):
            end = self.suffix + (f"_{number}" if number > 1 else "") + extension
            yield _shorten(stem, _LONGEST_NAME - len(os.fsencode(end))) + end


def _shorten(stem: str, most_bytes: int) -> str:
    while len(os.fsencode(stem)) > most_bytes:
        stem = stem[:-1]
    return stem


def _kind(path: Path) -> Literal["video", "unread"] | None:
    """None for what its suffix decides, which includes what cannot be read."""
    try:
        kind = kind_of(path)
    except VideoError:
        return None
    if kind == "picture":
        return "unread"
    return "video" if kind == "video" else None


def _refusal(path: Path) -> str | None:
    """Why this entry is not even looked at."""
    try:
        if path.is_symlink():
            return "it is a symbolic link; name the real file or folder"
        if not path.exists():
            return "it does not exist"
        if not (path.is_dir() or path.is_file()):
            return "it is neither a file nor a folder"
    except (OSError, ValueError) as error:
        return f"cannot be looked at: {error}"
    return None
