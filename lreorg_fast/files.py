"""Files that appear whole or not at all, and JSON that is exactly what it seems.

Every writer of this package (pictures, tensors, bundles, reports) goes through
:func:`atomic_file`, so the rules are in one place: the content is written to a temporary file in
the same folder, flushed to the disk and then given its name in one step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lreorg_fast.errors import OutputError

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


def temporary_sibling(path: Path) -> Path:
    """A fresh hidden name in the folder of ``path``; it carries nothing of the file's own name."""
    return path.with_name(f".lreorg-{secrets.token_hex(8)}.tmp")


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder for results and those above it; one that exists is kept.

    Raises:
        OutputError: it cannot be created, or a file stands in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the folder '{folder}': {error.strerror or error}; choose another output"
        ) from error


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that cannot or must not be written.

    Raises:
        OutputError: the folder is missing, the target is a folder, or it exists already.
    """
    if not path.parent.is_dir():
        raise OutputError(
            f"cannot write '{path}': the folder '{path.parent}' does not exist; create it first"
        )
    if path.is_dir() and not path.is_symlink():
        raise OutputError(f"cannot write '{path}': it is a folder; name a file")
    if not overwrite and os.path.lexists(path):
        raise _exists(path)


def check_targets(folder: Path, names: Iterable[str], overwrite: bool) -> list[Path]:
    """The files of a report in ``folder``, which is made; asked for before anything is measured.

    Raises:
        OutputError: as :func:`make_folder` and :func:`check_target`.
    """
    make_folder(folder)
    paths = [folder / name for name in names]
    for path in paths:
        check_target(path, overwrite)
    return paths


@contextlib.contextmanager
def atomic_file(
    path: str | os.PathLike[str], overwrite: bool = False, private: bool = False
) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing; it takes that name when the block ends.

    If the block raises, nothing is left behind. Without ``overwrite`` an existing file is never
    replaced, not even one that another process made meanwhile. With it, a symbolic link is
    replaced itself and not followed. A ``private`` file can be read by its owner only, from before
    its first byte is written.

    Raises:
        OutputError: see :func:`check_target`, and any error of the file system on the way.
    """
    target = Path(path)
    check_target(target, overwrite)
    temporary = temporary_sibling(target)
    try:
        with open(temporary, "xb", opener=_private if private else None) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _commit(temporary, target, overwrite)
        sync_folder(target.parent)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write '{target}': {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_bounded(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """The content of a regular file that is not larger than ``most_bytes``; pipes do not block.

    Raises:
        OSError: missing, unreadable or no regular file.
        ValueError: larger, or a name with a NUL byte.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes} bytes")
    return content


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], patience_seconds: float = 30.0) -> Iterator[None]:
    """Hold ``path`` among processes and threads while the block runs.

    What is locked is the empty file ``PATH.lock`` beside it, because ``path`` itself is replaced
    when it is written. That file stays: to remove it would let two holders in.

    Raises:
        OutputError: the lock file cannot be made, locking does not work there, or another process
            held it for longer than ``patience_seconds``.
    """
    lock = Path(f"{os.fspath(path)}.lock")
    try:
        # No link is followed: whoever may write to the folder could point it anywhere.
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"cannot make the lock file '{lock}': {reason}; choose a folder that can be written"
        ) from error
    with open(descriptor, "rb") as stream:
        until = time.monotonic() + patience_seconds
        while not _locked(stream, lock):
            if time.monotonic() > until:
                raise OutputError(
                    f"'{path}' has been held by another process for {patience_seconds:g} seconds; "
                    "wait for it to end"
                )
            time.sleep(0.01)
        yield


def _locked(stream: BinaryIO, lock: Path) -> bool:
    import fcntl  # POSIX only; everything else here works without

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OutputError(
            f"cannot lock '{lock}': {error.strerror or error}; choose a folder on a local disk"
        ) from error
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _exists(target: Path) -> OutputError:
    return OutputError(
        f"'{target}' exists already; choose another name or ask for it to be overwritten"
    )


def _commit(temporary: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        # A hard link fails if the name is taken, which a rename would not.
        os.link(temporary, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _claim_and_replace(temporary, target)


def _claim_and_replace(temporary: Path, target: Path) -> None:
    """For file systems without hard links (exFAT, SMB): take the name exclusively, then fill it."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise _exists(target) from None
    try:
        os.replace(temporary, target)
    except OSError:
        target.unlink(missing_ok=True)
        raise


def check_folder_target(target: Path, overwrite: bool, marker: str, what: str) -> None:
    """Refuse a folder that :func:`atomic_folder` would refuse; worth asking before a long work.

    Raises:
        OutputError: see :func:`atomic_folder`.
    """
    if not target.parent.is_dir():
        raise OutputError(f"cannot write '{target}': the folder '{target.parent}' does not exist")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(f"'{target}' exists already; choose another name or ask to overwrite it")
    if target.is_symlink() or not (target / marker).is_file():
        raise OutputError(f"'{target}' is not {what} and is not replaced; choose another name")


@contextlib.contextmanager
def atomic_folder(
    folder: str | os.PathLike[str], overwrite: bool, marker: str, what: str
) -> Iterator[Path]:
    """Make a temporary folder beside ``folder``; it takes that name when the block ends.

    If the block raises, nothing is left behind.

    Args:
        folder: target; the folder around it must exist.
        overwrite: replace an existing folder, if it holds the file ``marker``.
        marker: name of the file by which such a folder is known.
        what: what such a folder is, for messages: "a bundle".

    Raises:
        OutputError: the folder exists, is something else, or cannot be written.
    """
    target = Path(os.path.abspath(folder))
    check_folder_target(target, overwrite, marker, what)
    temporary = temporary_sibling(target)
    try:
        temporary.mkdir()
        yield temporary
        sync_folder(temporary)
        _move_into_place(temporary, target)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write '{target}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        sync_folder(target.parent)
        return
    old = temporary_sibling(target)
    target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def parse_json(content: bytes) -> Any:
    """JSON as the standard has it: no NaN, no repeated names, no bottomless nesting.

    Raises:
        ValueError: with the reason.
    """

    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is not a JSON number")

    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_names,
            parse_constant=refuse_constant,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"the name {name!r} appears twice")
        result[name] = value
    return result
