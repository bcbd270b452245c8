"""Going on after a run that was killed: what is done is written down file by file.

Beside the report lies its journal, one line of JSON per file, removed when the report is written.
A line that was cut by a crash is the last one and is left out. An entry is taken over only if its
source and its result still have the content that was written down, and if the run is the same one:
settings, bundle and engine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

from lreorg_fast.batch.report import FileEntry
from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.files import parse_json

_MOST_BYTES = 1 << 30
_SUFFIX = ".journal"
_FIELDS = {entry.name for entry in fields(FileEntry)}
_KEYS = ("settings", "bundle", "engine")


def sha256_of_file(path: Path) -> str:
    """64 hex digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Journal:
    """The journal of one report file; entries are durable when :meth:`add` returns."""

    def __init__(self, report: Path, run: Mapping[str, Any]) -> None:
        self.path = report.with_name(report.name + _SUFFIX)
        self._run = {key: run[key] for key in _KEYS}
        self._stream: BinaryIO | None = None

    def earlier(self, report: Path) -> dict[str, FileEntry]:
        """Entries of an earlier run by source; empty if there was none.

        Raises:
            ConfigError: the earlier run was another one: its settings, bundle or engine differ.
            OutputError: a file is there that is neither a report nor a journal.
        """
        found: dict[str, FileEntry] = {}
        for path, read in ((report, _report_parts), (self.path, _journal_parts)):
            if not os.path.lexists(path):
                continue
            run, entries = read(_content(path), path)
            if run != self._run:
                different = [key for key in _KEYS if run.get(key) != self._run[key]]
                raise ConfigError(
                    f"'{path}' is of a run with other {' and '.join(different)}; resume with the "
                    "same, or give another report and output"
                )
            found.update((entry.source, entry) for entry in entries)
        return found

    def start(self, entries: Mapping[str, FileEntry]) -> None:
        """A new journal with what is taken over.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self.path.unlink(missing_ok=True)
            self._stream = open(self.path, "xb")  # noqa: SIM115  (open until the run ends)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._write(self._run)
        for entry in entries.values():
            self.add(entry)

    def add(self, entry: FileEntry) -> None:
        """Raises OutputError if the line cannot be made durable."""
        self._write(entry.to_dict())

    def close(self, finished: bool) -> None:
        """``finished``: the report tells everything, so the journal goes."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if finished:
            self.path.unlink(missing_ok=True)

    def _write(self, value: Mapping[str, Any]) -> None:
        assert self._stream is not None
        try:
            self._stream.write((json.dumps(value, allow_nan=False) + "\n").encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error


def still_valid(entry: FileEntry) -> bool:
    """Whether the source and the result are as they were when the entry was made, and its seal is
    still there; that a seal belongs to a result is checked when it is opened."""
    if entry.seal is not None and not Path(entry.seal).is_file():
        return False
    if entry.target is None or entry.source_sha256 is None or entry.target_sha256 is None:
        return False
    try:
        return (
            sha256_of_file(Path(entry.source)) == entry.source_sha256
            and sha256_of_file(Path(entry.target)) == entry.target_sha256
        )
    except OSError:
        return False


def _content(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise OutputError(f"cannot read '{path}': {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise OutputError(f"'{path}' is too large to be resumed; start a new run")
    return content


def _report_parts(content: bytes, path: Path) -> tuple[dict[str, Any], list[FileEntry]]:
    try:
        report = parse_json(content)
        return {key: report[key] for key in _KEYS}, [_entry(e) for e in report["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"'{path}' is no report of this command; give another name") from error


def _journal_parts(content: bytes, path: Path) -> tuple[dict[str, Any], list[FileEntry]]:
    lines = content.split(b"\n")[:-1]  # after the last newline is nothing, or half a line
    if not lines:
        return {}, []
    try:
        return parse_json(lines[0]), [_entry(parse_json(line)) for line in lines[1:]]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"'{path}' is no journal of this command; remove it") from error


def _entry(value: Any) -> FileEntry:
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise ValueError("not an entry")
    epsilon = float("inf") if value["epsilon"] == "inf" else float(value["epsilon"])
    return FileEntry(**value | {"epsilon": epsilon, "faces": tuple(value["faces"])})


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write '{path}': {error.strerror or error}")
