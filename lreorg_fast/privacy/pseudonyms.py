"""Secret keys of people: the same person gets the same new face in every file, until deleted.

The keys come from the system's generator and never from a face. Whoever has the file can link all
outputs of a person and repeat their draws, so it is as sensitive as the originals. Deleting a
person's key makes their earlier outputs ones that nobody can link to a person by a key again.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.files import atomic_file, exclusive, parse_json, read_bounded
from lreorg_fast.log import once
from lreorg_fast.privacy.randomness import PSEUDONYM_KEY_BYTES, PseudonymSampler

_FORMAT, _VERSION = "lreorg-pseudonyms", 1
_MOST_BYTES = 64 << 20
_LONGEST_LABEL = 1000
DEFAULT_CONTEXT = "default"


@dataclass(frozen=True)
class _Entry:
    key: bytes
    track: str

    def __repr__(self) -> str:
        return f"_Entry(track={self.track!r})"  # not the key


class Pseudonyms:
    """The file of people's keys; safe among threads and processes, readable by its owner only.

    Args:
        path: the file.
        create: make it; otherwise a misspelt name would give everybody another pseudonym.

    Raises:
        ConfigError: the file does not exist, or with ``create`` it does.
        PrivacyError: it is damaged or something else.
        OutputError: it or its lock cannot be written.
    """

    def __init__(self, path: str | Path, create: bool = False) -> None:
        self._path = Path(path)
        exists = self._path.exists() or self._path.is_symlink()
        if exists == create:
            raise ConfigError(
                f"the pseudonyms '{path}' "
                + (
                    "exist already; leave out that they are to be made"
                    if exists
                    else f"do not exist; check the name, or make them with: lreorg pseudonyms "
                    f"{path} --create"
                )
            )
        if create:
            with exclusive(self._path):
                self._write({}, overwrite=False)
        self._read()
        if self._path.stat().st_mode & 0o077:
            once(
                "pseudonyms-open",
                "the file of pseudonyms can be read by others, who can then link people; take "
                "that right away with: chmod 600",
            )

    @property
    def people(self) -> dict[str, str]:
        """Label of each person -> name of their track."""
        return {label: entry.track for label, entry in self._read().items()}

    def sampler(self, person: str, context: str = DEFAULT_CONTEXT) -> PseudonymSampler:
        """The draws of one person; a new person gets a fresh key, which is on the disk first.

        Args:
            person: label; any text of at most 1,000 letters. It stays in this file.
            context: what the outputs are for. Outputs of two contexts cannot be linked by their
                draws, so give each recipient one of their own.

        Raises:
            ConfigError: a label that is empty or too long.
            PrivacyError, OutputError: as for the class.
        """
        if not isinstance(person, str) or not 0 < len(person) <= _LONGEST_LABEL:
            raise ConfigError(
                f"a person's label must be text of 1 to {_LONGEST_LABEL} letters; shorten it"
            )
        entry = self._read().get(person)
        if entry is None:
            with exclusive(self._path):
                entries = self._read()
                entry = entries.setdefault(person, _fresh())
                self._write(entries)
        return PseudonymSampler(entry.key, entry.track, context)

    def delete(self, person: str) -> None:
        """Forget a person's key. Their next output gets another pseudonym and another track.

        Copies of the file (backups) must be dealt with by whoever made them.

        Raises:
            ConfigError: there is no such person.
            PrivacyError, OutputError: as for the class.
        """
        with exclusive(self._path):
            entries = self._read()
            if entries.pop(person, None) is None:
                raise ConfigError(
                    f"there is no such person in '{self._path}'; `lreorg pseudonyms` lists them"
                )
            self._write(entries)

    def _read(self) -> dict[str, _Entry]:
        try:
            if self._path.is_symlink():
                raise ValueError("it is a symbolic link")
            return _parsed(parse_json(read_bounded(self._path, _MOST_BYTES)))
        except (OSError, ValueError) as error:
            raise PrivacyError(
                f"pseudonyms '{self._path}' cannot be read, and other keys would be other people; "
                "restore the file from a copy"
            ) from error

    def _write(self, entries: dict[str, _Entry], overwrite: bool = True) -> None:
        people = {
            label: {"key": entry.key.hex(), "track": entry.track}
            for label, entry in entries.items()
        }
        content = {"format": _FORMAT, "version": _VERSION, "people": people}
        with atomic_file(self._path, overwrite, private=True) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode("utf-8"))


def _fresh() -> _Entry:
    # The track is not made from the key or the label: it stands in reports.
    return _Entry(secrets.token_bytes(PSEUDONYM_KEY_BYTES), f"pseudonym-{secrets.token_hex(8)}")


def _parsed(content: Any) -> dict[str, _Entry]:
    """ValueError for anything odd; it never shows a key or a label."""
    if (
        not isinstance(content, dict)
        or set(content) != {"format", "version", "people"}
        or content["format"] != _FORMAT
        or content["version"] != _VERSION
        or not isinstance(content["people"], dict)
    ):
        raise ValueError("not a file of pseudonyms")
    entries = {label: _entry(value) for label, value in content["people"].items()}
    for distinct in ({e.key for e in entries.values()}, {e.track for e in entries.values()}):
        if len(distinct) != len(entries):
            raise ValueError("two people share a key or a track")
    return entries


def _entry(value: Any) -> _Entry:
    if not isinstance(value, dict) or set(value) != {"key", "track"}:
        raise ValueError("not an entry")
    key, track = value["key"], value["track"]
    if not isinstance(key, str) or not isinstance(track, str) or not track.startswith("pseudonym-"):
        raise ValueError("not a key and a track")
    number = track.removeprefix("pseudonym-")
    raw = bytes.fromhex(key)
    if len(raw) != PSEUDONYM_KEY_BYTES or not number.isalnum() or len(number) > 64:
        raise ValueError("a key or a track of another form")
    return _Entry(raw, track)
