"""What judges answered, kept on the disk so that an interrupted evaluation goes on where it was.

**Answers are face data.** An embedding recognizes a person as well as a picture does. The file can
therefore be read by its owner only, lies in a folder that only the owner can open, and is removed
when the evaluation has ended unless it was asked to be kept.

The file is an SQLite database of which nothing is trusted: its tables must be these, every value
carries a digest of its key and content, and one that does not fit is asked for again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import OutputError
from lreorg_fast.log import once

FILE = "answers.sqlite"
_FORMAT = b"lreorg-answers-1"
_DIGEST = 16  # bytes; against damage, the folder's permissions are against people
_MOST_BYTES = 2**20  # of an answer; Inception's features have 8 kB
_TABLE = "CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"

_QUERY = "SELECT value FROM answers WHERE key = ?"
_REMEDY = "remove it, or start over with --force"

Answer = NDArray[np.float32]


class Answers:
    """Answers by judge and picture, in a folder of their own.

    Used by one process at a time, as a context manager.

    Args:
        folder: made with permissions 0700 if it does not exist.

    Raises:
        OutputError: the folder belongs to somebody else, others can open it, it cannot be
            written, the file is no such cache, or another evaluation holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _private_folder(folder)
        self._path = folder / FILE
        _private_file(self._path)
        try:
            self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            self._open()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _open(self) -> None:
        run = self._connection.execute
        run("PRAGMA trusted_schema = OFF")
        run("PRAGMA cell_size_check = ON")
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("BEGIN EXCLUSIVE")
        tables = [row[0] for row in run("SELECT sql FROM sqlite_master")]
        if not tables:
            run(_TABLE)
        run("COMMIT")
        if tables not in ([], [_TABLE]):
            raise OutputError(f"'{self._path}' is no cache of this version; {_REMEDY}")

    def __enter__(self) -> Answers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def get(self, judge: str, picture: str) -> Answer | None:
        """What a judge said of a picture, both by fingerprint; None if it is not known.

        Raises:
            OutputError: the file cannot be read.
        """
        key = _key(judge, picture)
        try:
            row = self._connection.execute(_QUERY, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if row is None:
            return None
        answer = _unpacked(key, row[0])
        if answer is None:
            message = "an answer in the cache is damaged; the judge is asked again"
            once(f"damaged answers {self._path}", message)
        return answer

    def put(self, judge: str, answers: Mapping[str, Answer]) -> None:
        """Keep answers of one judge by picture, all of them or none.

        Raises:
            OutputError: they cannot be written, such as on a full disk.
        """
        rows = []
        for picture, answer in answers.items():
            key = _key(judge, picture)
            rows.append((key, _packed(key, answer)))
        try:
            with self._transaction():
                self._connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _failed(self, error: sqlite3.Error) -> OutputError:
        if "locked" in str(error):
            return OutputError(f"another evaluation uses '{self._path}'; wait for it to end")
        return OutputError(f"the cache '{self._path}' cannot be used ({error}); {_REMEDY}")


def remove_answers(folder: Path) -> None:
    """Delete the cache of a folder, and the folder if nothing else is in it.

    Raises:
        OutputError: it cannot be deleted, which must not be overlooked: it is face data.
    """
    try:
        for name in (FILE, f"{FILE}-journal"):
            (folder / name).unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise OutputError(
            f"the cache '{folder}' cannot be removed: {error.strerror or error}; it holds face "
            "data, remove it by hand"
        ) from error


def holds_answers(folder: Path) -> bool:
    """Whether an earlier evaluation left its cache there."""
    return (folder / FILE).exists()


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.lstat()
    except OSError as error:
        raise OutputError(
            f"cannot create the folder '{folder}': {error.strerror or error}; choose another"
        ) from error
    if not stat.S_ISDIR(state.st_mode):
        raise OutputError(
            f"'{folder}' is no folder, or a link to one; choose another for the cache"
        )
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o077):
        raise OutputError(
            f"other users can open '{folder}', but the cache holds face data; run: "
            f"chmod 700 '{folder}', or remove it"
        )


def _private_file(path: Path) -> None:
    try:
        # No link is followed: whoever made one could send the answers anywhere.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is not a regular file")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(f"cannot use '{path}': {error.strerror or error}; {_REMEDY}") from error


def _key(judge: str, picture: str) -> bytes:
    text = f"{len(judge)}:{judge}{picture}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(_FORMAT + text).digest()


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.sha256(_FORMAT + key + content).digest()[:_DIGEST]


def _packed(key: bytes, answer: Answer) -> bytes:
    content = np.ascontiguousarray(answer, dtype="<f4").tobytes()
    return _digest(key, content) + content


def _unpacked(key: bytes, value: object) -> Answer | None:
    """None if it is not what :func:`_packed` made."""
    if not isinstance(value, bytes) or not _DIGEST <= len(value) <= _MOST_BYTES:
        return None
    content = value[_DIGEST:]
    if _digest(key, content) != value[:_DIGEST] or len(content) % 4:
        return None
    return np.frombuffer(content, dtype="<f4").astype(np.float32)
