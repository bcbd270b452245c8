"""Where fetched weights lie, and what was recorded about each.

A folder per published file holds the file itself, ``record.json`` with the size and SHA-256 that
it had when it came, and while it is fetched a ``.part`` file. The digest of a file that nobody
published one for is trusted on first use: recorded then, compared ever after.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from lreorg_fast.errors import CheckpointError, OutputError
from lreorg_fast.files import atomic_file, parse_json
from lreorg_fast.weights.registry import PublishedFile, published_file

CACHE_VARIABLE = "LREORG_CACHE"
PART_SUFFIX = ".part"
_RECORD = "record.json"
_LOCK = ".lock"
_MAX_RECORD_BYTES = 1 << 16
_CHUNK = 1 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Record:
    """What a file was when it came: size in bytes, SHA-256, from where, and when (UTC)."""

    file: str
    bytes: int
    sha256: str
    origin: str
    added: str


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found of one file: ``ok``, ``damaged`` or ``missing``, and why."""

    name: str
    state: str
    detail: str


def cache_folder() -> Path:
    """``LREORG_CACHE``, or the platform's folder for what can be fetched again.

    That is ``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS and
    ``%LOCALAPPDATA%`` on Windows, each with ``lreorg`` in it. The folder need not exist.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        # The specification has relative paths ignored.
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "lreorg"


def place(entry: PublishedFile) -> Path:
    """Where the file of ``entry`` belongs, there or not."""
    return cache_folder() / "weights" / entry.name / entry.file


def cached(name: str) -> Path | None:
    """The path of a published file if it is here, None if it is not. Never uses the network.

    Args:
        name: of the registry; ``lreorg weights list`` shows them.

    Raises:
        CheckpointError: an unknown name, or a file of another size than the one that came.
    """
    return cached_file(published_file(name))


def cached_file(entry: PublishedFile) -> Path | None:
    """:func:`cached` for an entry that is at hand. Compares the size; :func:`verify` hashes."""
    path = place(entry)
    if not path.is_file():
        return None
    record = read_record(entry)
    expected = entry.bytes if record is None else record.bytes
    size = path.stat().st_size
    if expected is not None and size != expected:
        raise CheckpointError(
            f"'{path}' was changed or damaged: it has {size} bytes and not {expected}; delete it "
            f"and {entry.how_to_get_it}"
        )
    return path


def state_of(entry: PublishedFile) -> str:
    """``here``, ``damaged`` (another size), ``partial`` or ``missing``."""
    try:
        if cached_file(entry) is not None:
            return "here"
    except CheckpointError:
        return "damaged"
    return "partial" if part_of(entry).is_file() else "missing"


def part_of(entry: PublishedFile) -> Path:
    """Where the beginning of the file lies while it is fetched."""
    path = place(entry)
    return path.with_name(path.name + PART_SUFFIX)


def expected_sha256(entry: PublishedFile) -> str | None:
    """The digest published, or the one recorded when the file first came."""
    if entry.sha256 is not None:
        return entry.sha256
    record = read_record(entry)
    return None if record is None else record.sha256


def read_record(entry: PublishedFile) -> Record | None:
    """What was written down when the file came; None if it never did.

    Raises:
        CheckpointError: the record is unreadable.
    """
    path = place(entry).with_name(_RECORD)
    try:
        with open(path, "rb") as stream:
            value = parse_json(stream.read(_MAX_RECORD_BYTES))
        record = Record(**value)
        if not isinstance(record.bytes, int) or not isinstance(record.sha256, str):
            raise ValueError("its size or digest has the wrong type")
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the record '{path}' cannot be read: {error}; delete the folder '{path.parent}' and "
            f"{entry.how_to_get_it}"
        ) from error
    return record


def write_record(entry: PublishedFile, size: int, sha256: str, origin: str) -> None:
    """Write down what came."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record = Record(entry.file, size, sha256, origin, now)
    with atomic_file(place(entry).with_name(_RECORD), overwrite=True) as stream:
        stream.write(json.dumps(asdict(record), indent=1).encode())


@contextlib.contextmanager
def locked(entry: PublishedFile) -> Iterator[Path]:
    """Make the folder of ``entry``, readable by its owner only, and keep other processes out.

    Yields:
        where the file belongs.

    Raises:
        CheckpointError: another process is at it.
        OutputError: the folder cannot be made or written to.
    """
    import fcntl  # POSIX only; everything else here works without

    path = place(entry)
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for private in (cache_folder(), folder.parent):
            private.chmod(0o700)  # mkdir gives parents the permissions of the umask
        lock = open(folder / _LOCK, "ab")  # noqa: SIM115 - closed below, which unlocks it
    except OSError as error:
        raise OutputError(
            f"the cache '{folder}' cannot be written: {error.strerror or error}; choose another "
            f"folder with the environment variable {CACHE_VARIABLE}"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"another process is fetching or adding {entry.name}; wait for it to end"
            ) from None
        except OSError as error:
            raise OutputError(
                f"the cache '{folder}' cannot be locked: {error.strerror or error}; choose "
                f"another folder with the environment variable {CACHE_VARIABLE}"
            ) from error
        yield path


def sha256_of(path: Path, progress: Progress | None = None) -> str:
    """The lower-case hex digest of a file, read in pieces.

    Raises:
        CheckpointError: unreadable.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            size, done = os.fstat(stream.fileno()).st_size, 0
            while piece := stream.read(_CHUNK):
                digest.update(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, size)
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror or error}") from error
    return digest.hexdigest()


def verify(name: str, progress: Progress | None = None) -> Verification:
    """Hash one file in the cache again and compare it with what was published or recorded."""
    entry = published_file(name)
    path = place(entry)
    if not path.is_file():
        return Verification(name, "missing", entry.how_to_get_it)
    try:
        expected = expected_sha256(entry)
        found = sha256_of(path, progress)
    except CheckpointError as error:
        return Verification(name, "damaged", str(error))
    if expected is None:
        detail = f"nothing is recorded of it; add it with: lreorg weights add FILE --as {name}"
        return Verification(name, "damaged", detail)
    if found != expected:
        detail = f"SHA-256 {found} and not {expected}; delete '{path}' and {entry.how_to_get_it}"
        return Verification(name, "damaged", detail)
    by = "as published" if entry.sha256 is not None else "as it first came"
    return Verification(name, "ok", f"SHA-256 {found}, {by}")
