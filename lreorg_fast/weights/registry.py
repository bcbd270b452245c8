"""The published weights files that this package reads, as data: ``data/weights.json``.

Sizes and digests stand there only where somebody published them; ``null`` means not known, and
then the digest is recorded when a file is first fetched or added. Nothing here opens a socket.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.files import parse_json

FORMAT = "lreorg-weights"
VERSION = 1
PURPOSES = {
    "generator": "makes the picture from a latent",
    "encoder": "finds the latent of a picture",
    "identity": "measures who a face is",
    "clip": "measures what a sentence says of a picture",
    "fid": "features of the Fréchet distance",
    "perceptual": "features of the perceptual loss",
}
COMMERCIAL_USE = ("yes", "no", "unknown")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"https?://[^\s\x00-\x1f]+")
_MAX_NAME = 64
_MAX_TEXT = 1000
_MAX_BYTES = 2**40

Built = TypeVar("Built")


@dataclass(frozen=True)
class Licence:
    """What may be done with a file.

    Args:
        name: SPDX identifier, or a sentence where there is none.
        commercial: ``yes``, ``no`` or ``unknown``.
        limits: in plain words.
    """

    name: str
    commercial: str
    limits: str

    def __post_init__(self) -> None:
        _check_text("licence.name", self.name)
        _check_text("licence.limits", self.limits)
        _check_choice("licence.commercial", self.commercial, COMMERCIAL_USE)

    @property
    def must_be_accepted(self) -> bool:
        """Whether it has to be read before the file is fetched: always, unless all is allowed."""
        return self.commercial != "yes"


@dataclass(frozen=True)
class PublishedFile:
    """One entry of the registry.

    Args:
        name: lower-case words with hyphens; what ``lreorg weights fetch`` takes.
        title: what it is, in one line.
        purpose: one of :data:`PURPOSES`.
        architecture: name of the class that it is built as.
        loader: function of :mod:`lreorg_fast.weights` that reads it.
        licence: what may be done with it.
        paper: who to cite.
        repository: of the authors.
        file: its name in the cache; as published, unless that name says nothing.
        bytes: its size; None if not known.
        sha256: 64 lower-case hex digits; None if nobody published it.
        mirrors: https addresses, the first tried first; empty if it can be got by hand only.
        by_hand: where a person finds it; None where mirrors do.
        source: where each fact above was read.
        checked: how this package's reading of it is tested.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """

    name: str
    title: str
    purpose: str
    architecture: str
    loader: str
    licence: Licence
    paper: str
    repository: str
    file: str
    bytes: int | None
    sha256: str | None
    mirrors: tuple[str, ...]
    by_hand: str | None
    source: tuple[str, ...]
    checked: str

    def __post_init__(self) -> None:
        _check_pattern("name", self.name, _NAME, "lower-case words joined by hyphens")
        for field in ("title", "architecture", "loader", "paper", "repository", "checked"):
            _check_text(field, getattr(self, field))
        _check_choice("purpose", self.purpose, tuple(PURPOSES))
        _check_pattern("file", self.file, _FILE_NAME, "a plain file name with a suffix")
        if self.bytes is not None and not (
            type(self.bytes) is int and 0 < self.bytes <= _MAX_BYTES
        ):
            raise _wrong("bytes", self.bytes, f"null or 1 to {_MAX_BYTES}")
        if self.sha256 is not None:
            _check_pattern("sha256", self.sha256, _SHA256, "null or 64 lower-case hex digits")
        for mirror in self.mirrors:
            _check_pattern("mirrors", mirror, _URL, "web addresses", _MAX_TEXT)
        for source in self.source:
            _check_text("source", source)
        if self.by_hand is not None:
            _check_text("by_hand", self.by_hand)
        if not self.source:
            raise _wrong("source", self.source, "at least one place where the facts were read")
        if bool(self.mirrors) == (self.by_hand is not None):
            raise _wrong("by_hand", self.by_hand, "given exactly where there are no mirrors")

    @property
    def how_to_get_it(self) -> str:
        """One sentence for someone who does not have the file."""
        if self.mirrors:
            return f"get it with: lreorg weights fetch {self.name}"
        return f"{self.by_hand}; then: lreorg weights add FILE --as {self.name}"


def published_files() -> Mapping[str, PublishedFile]:
    """Everything in the packaged registry, by name, in its order."""
    return _packaged()


def published_file(name: str) -> PublishedFile:
    """One entry.

    Raises:
        CheckpointError: no file of that name is known; the message lists those that are.
    """
    known = published_files()
    if name not in known:
        raise CheckpointError(
            f"no published weights are called {name!r:.80}; known are {', '.join(known)}; a file "
            "of your own needs no name, give its path to the loader"
        )
    return known[name]


def read_registry(content: bytes | str) -> dict[str, PublishedFile]:
    """Parse and check a registry.

    Args:
        content: JSON, UTF-8.

    Raises:
        ConfigError: it is not a registry; names the entry, the field and what is allowed.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        table = parse_json(data)
    except ValueError as error:
        raise ConfigError(f"the registry is not JSON: {error}") from error
    if not isinstance(table, dict) or set(table) != {"format", "version", "files"}:
        raise ConfigError("the registry is not an object of format, version and files")
    if (table["format"], table["version"]) != (FORMAT, VERSION):
        raise ConfigError(
            f"the registry is {table['format']!r:.80} version {table['version']!r:.20}; this "
            f"package reads {FORMAT} version {VERSION}"
        )
    if not isinstance(table["files"], list):
        raise ConfigError("the registry's files are not a list")
    entries = [_read_entry(entry) for entry in table["files"]]
    result = {entry.name: entry for entry in entries}
    if len(result) != len(entries):
        raise ConfigError("the registry has two files of the same name; rename one")
    return result


def _read_entry(value: object) -> PublishedFile:
    name = value.get("name") if isinstance(value, dict) else None
    try:
        given = _fields_of(PublishedFile, value)
        given["licence"] = Licence(**_fields_of(Licence, given["licence"]))
        for field in ("mirrors", "source"):
            if not isinstance(given[field], list):
                raise _wrong(field, given[field], "a list of texts")
            given[field] = tuple(given[field])
        return PublishedFile(**given)
    except ConfigError as error:
        raise ConfigError(f"weights {name!r:.80}: {error}") from error


def _fields_of(kind: type[Built], value: object) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(value, dict) or set(value) != names:
        raise _wrong(kind.__name__, value, f"an object of exactly {', '.join(sorted(names))}")
    return dict(value)


@functools.lru_cache(maxsize=1)
def _packaged() -> Mapping[str, PublishedFile]:
    path = resources.files("lreorg_fast") / "data" / "weights.json"
    return read_registry(Path(str(path)).read_bytes())


def _wrong(field: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{field} is {value!r:.80}, but must be {allowed}")


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise _wrong(field, value, f"a printable text of 1 to {_MAX_TEXT} characters")


def _check_choice(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _wrong(field, value, f"one of {', '.join(allowed)}")


def _check_pattern(
    field: str, value: object, pattern: re.Pattern[str], meaning: str, longest: int = _MAX_NAME
) -> None:
    if not isinstance(value, str) or len(value) > longest or not pattern.fullmatch(value):
        raise _wrong(field, value, f"{meaning}, at most {longest} characters")
