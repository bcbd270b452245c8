"""Bring published weights into the cache: from a mirror, or from a file that the user has."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from lreorg_fast.errors import CheckpointError, ConfigError, OutputError
from lreorg_fast.files import atomic_file, sync_folder
from lreorg_fast.log import logger
from lreorg_fast.weights.cache import (
    Progress,
    cached_file,
    expected_sha256,
    locked,
    part_of,
    sha256_of,
    write_record,
)
from lreorg_fast.weights.download import Received, Refused, Transfer, Wanted, finish
from lreorg_fast.weights.registry import PublishedFile, published_file, published_files

OFFLINE_VARIABLE = "LREORG_OFFLINE"
_CHUNK = 1 << 20


def is_offline() -> bool:
    """Whether ``LREORG_OFFLINE`` forbids the network: anything but empty and ``0`` does."""
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def fetch(
    file: str | PublishedFile,
    *,
    accept_licence: bool = False,
    offline: bool | None = None,
    progress: Progress | None = None,
    allow_local_http: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """The path of a published file, fetched first if it is not in the cache.

    Args:
        file: its name in the registry, or an entry of your own.
        accept_licence: you have read the licence and its limits; needed for every file that may
            not be used for everything.
        offline: never open a connection; None for what ``LREORG_OFFLINE`` says.
        progress: called with (bytes that are here, bytes of the file).
        allow_local_http: let mirrors be plain http on this very machine, for tests.
        sleep: waits between attempts, seconds.

    Raises:
        CheckpointError: unknown name, not here and offline, by hand only, or every mirror failed;
            the message has each mirror's reason.
        ConfigError: the licence was not accepted.
        OutputError: the cache cannot be written.
    """
    entry = published_file(file) if isinstance(file, str) else file
    here = cached_file(entry)
    if here is not None:
        return here
    if is_offline() if offline is None else offline:
        raise CheckpointError(
            f"{entry.name} ({entry.file}) is not in the cache, and offline nothing is fetched; "
            f"{entry.how_to_get_it}"
        )
    if not entry.mirrors:
        raise CheckpointError(f"{entry.name} cannot be fetched by a program; {entry.how_to_get_it}")
    if entry.licence.must_be_accepted and not accept_licence:
        raise ConfigError(
            f"{entry.name} is under a licence with limits ({entry.licence.name}: "
            f"{entry.licence.limits}); if you may use it, ask again with accept_licence=True, on "
            "the command line --accept-licence"
        )
    with locked(entry) as target:
        here = cached_file(entry)  # another process may have just brought it
        if here is not None:
            return here
        return _fetch(entry, target, Transfer(allow_local_http, sleep, progress))


def _fetch(entry: PublishedFile, target: Path, transfer: Transfer) -> Path:
    part = part_of(entry)
    wanted = Wanted(entry.bytes, expected_sha256(entry))
    reasons = []
    for url in entry.mirrors:
        try:
            received = transfer.get(url, part, wanted)
        except Refused as error:
            reasons.append(f"{url}: {error}")
            continue
        _name(entry, part, target, received, url)
        return target
    raise CheckpointError(
        f"{entry.name} could not be fetched; {'; '.join(reasons)}; try again later, or get the "
        f"file elsewhere and: lreorg weights add FILE --as {entry.name}"
    )


def _name(entry: PublishedFile, part: Path, target: Path, received: Received, url: str) -> None:
    """Give a complete part its name. The record comes first: without it the file is not trusted."""
    try:
        with open(part, "rb") as stream:
            os.fsync(stream.fileno())
        write_record(entry, received.bytes, received.sha256, url)
        os.replace(part, target)
        finish(part)
        sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write '{target}': {error.strerror or error}") from error
    _tell_first_use(entry, received.sha256)


def _tell_first_use(entry: PublishedFile, sha256: str) -> None:
    if entry.sha256 is None:
        logger.info(
            "nobody published a digest of %s; its SHA-256 %s is trusted from now on",
            entry.name,
            sha256,
        )


def add(
    path: str | os.PathLike[str], name: str | None = None, progress: Progress | None = None
) -> tuple[PublishedFile, Path]:
    """Copy a file that the user has into the cache.

    Args:
        path: the file; stays where it is.
        name: which published file it is; without it the digest tells, where one was published.
        progress: called with (bytes hashed, bytes of the file).

    Returns:
        the entry and the path in the cache.

    Raises:
        CheckpointError: unreadable, not the file that it should be, or not recognised.
        OutputError: the cache cannot be written.
    """
    source = Path(path)
    sha256 = sha256_of(source, progress)
    entry = _recognise(source, sha256) if name is None else published_file(name)
    expected = expected_sha256(entry)
    if expected is not None and sha256 != expected:
        which = "published" if entry.sha256 is not None else "recorded when it first came"
        raise CheckpointError(
            f"'{source}' is not {entry.name}: its SHA-256 is {sha256} and the one {which} is "
            f"{expected}; if it is another version that you trust, give its path to the loader"
        )
    if entry.sha256 is None:
        _check_content(source, entry)
    with locked(entry) as target:
        _copy(source, target, sha256)
        write_record(entry, target.stat().st_size, sha256, "added by hand")
    _tell_first_use(entry, sha256)
    return entry, target


def _recognise(source: Path, sha256: str) -> PublishedFile:
    for entry in published_files().values():
        if entry.sha256 == sha256:
            return entry
    unknown = [entry.name for entry in published_files().values() if entry.sha256 is None]
    raise CheckpointError(
        f"'{source}' is none of the files whose digest is known; if it is one of "
        f"{', '.join(unknown)}, say which with --as NAME; if it is your own, give its path to the "
        "loader"
    )


def _check_content(source: Path, entry: PublishedFile) -> None:
    """Where no digest was published, the file must at least be of the right kind."""
    from lreorg_fast.weights.checkpoint import open_checkpoint
    from lreorg_fast.weights.layouts import describe, wrong_kind

    with open_checkpoint(source) as checkpoint:
        kind = describe(checkpoint)
        if kind is None or entry.loader not in kind.loaders:
            raise wrong_kind(checkpoint, entry.name)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """A copy and not a link: who changes the original later must not change the cache."""
    digest = hashlib.sha256()
    with open(source, "rb") as stream, atomic_file(target, overwrite=True) as copy:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            copy.write(piece)
        if digest.hexdigest() != sha256:
            raise CheckpointError(f"'{source}' changed while it was copied; add it again")
