"""A ledger that lives in a file: its budget survives restarts and is shared by processes."""

from __future__ import annotations

import hmac
import json
import secrets
from decimal import Decimal, DecimalException
from pathlib import Path
from typing import Any

from lreorg_fast.errors import ConfigError, LReorgError, OutputError, PrivacyError
from lreorg_fast.files import atomic_file, exclusive, parse_json, read_bounded
from lreorg_fast.privacy.ledger import (
    LEDGER_FORMAT,
    MAX_LEDGER_BYTES,
    Ledger,
    json_epsilon,
    parsed_ledger,
)

_VERSION = 2
_SALT_BYTES = 32
_TRACK_LETTERS = 32  # hexadecimal: 128 bits, so that two subjects never share a track


class LedgerFile(Ledger):
    """Counts epsilon per person-track in a file. Safe among threads and processes.

    Every payment reads the file, adds, and replaces the file in one step, under a lock, before
    anything is drawn. So what a crash interrupts was paid, and two processes cannot spend the
    same rest of a budget. Draws are held in memory only, as by :class:`Ledger`.

    The file holds the budget, a salt and, by track, totals. The salt names tracks
    (:meth:`track_of`), so that no name of a person or of a file is in it; whoever has the file
    can still test whether a person or picture that they already know is in it.

    Args:
        path: the file. If it does not exist it is made, which needs ``budget``: otherwise a
            misspelt name would start from zero.
        budget: most epsilon that one track may cost, finite and >= 0; None takes the file's.

    Raises:
        ConfigError: the file does not exist and no budget is given, or it has another budget.
        PrivacyError: the file is damaged or something else. It is never taken for an empty one.
        OutputError: the file or its lock cannot be written.
    """

    def __init__(self, path: str | Path, budget: float | None = None) -> None:
        super().__init__(budget)
        self._path = Path(path)
        self._touched: set[str] = set()
        with exclusive(self._path):
            self._created = not self._path.exists() and not self._path.is_symlink()
            if self._created:
                self._start()
            else:
                self._open()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def created(self) -> bool:
        """The file did not exist before: nothing was counted yet."""
        return self._created

    def track_of(self, kind: str, subject: bytes) -> str:
        """The name of a track for a person or picture; it tells neither.

        Args:
            kind: what ``subject`` is, ``person`` or ``picture``; they never meet.
            subject: a label, or a digest of a file's content.

        Returns:
            ``kind`` and 32 hexadecimal letters of HMAC-SHA256 under the file's salt.
        """
        digest = hmac.new(self._salt, kind.encode() + b"\0" + subject, "sha256").hexdigest()
        return f"{kind}-{digest[:_TRACK_LETTERS]}"

    def total(self, track: str | int) -> float:
        """Epsilon spent on a track so far, by all processes; 0 for an unknown one."""
        with self._lock:
            self._refresh()
        return super().total(track)

    def report(self, measured: str | None = None) -> dict[str, Any]:
        """As :meth:`Ledger.report`, of the tracks that this object paid or was refused for; their
        totals include what earlier runs and other processes paid."""
        whole = super().report(measured)
        with self._lock:
            tracks = {track: whole["tracks"].get(track, 0.0) for track in sorted(self._touched)}
        largest = max((float(total) for total in tracks.values()), default=0.0)
        return whole | {"tracks": tracks, "largest": json_epsilon(largest)}

    def _spend(self, key: str, epsilon: Decimal) -> float:
        with exclusive(self._path):
            self._refresh()
            self._touched.add(key)
            total = super()._spend(key, epsilon)
            self._write()
        return total

    def _start(self) -> None:
        if self._budget is None:
            raise ConfigError(
                f"the ledger '{self._path}' does not exist; check its name, or give a budget to "
                "start a new one"
            )
        self._salt = secrets.token_bytes(_SALT_BYTES)
        self._write(overwrite=False)

    def _open(self) -> None:
        budget, self._totals, self._salt = self._read()
        if self._budget is not None and self._budget != budget:
            raise ConfigError(
                f"budget is {self._budget}, but the ledger '{self._path}' was started with "
                f"{'no limit' if budget is None else budget}; leave the budget out, or start "
                "another ledger"
            )
        self._budget = budget

    def _refresh(self) -> None:
        """What other processes paid meanwhile; the file may grow and change in nothing else."""
        budget, totals, salt = self._read()
        lost = any(totals.get(track, 0) < total for track, total in self._totals.items())
        if lost or (budget, salt) != (self._budget, self._salt):
            raise PrivacyError(
                f"ledger '{self._path}' was exchanged or set back while it was in use, and what it "
                "counted cannot be guessed; restore it from a copy"
            )
        self._totals = totals

    def _read(self) -> tuple[Decimal | None, dict[str, Decimal], bytes]:
        try:
            if self._path.is_symlink():
                raise ValueError("it is a symbolic link")
            content = parse_json(read_bounded(self._path, MAX_LEDGER_BYTES))
            budget, totals = parsed_ledger(content, _VERSION, "salt")
            salt = bytes.fromhex(content["salt"])
            if len(salt) != _SALT_BYTES:
                raise ValueError("a salt of another size")
        except (OSError, ValueError, TypeError, DecimalException) as error:
            raise PrivacyError(
                f"ledger '{self._path}' cannot be read as a version {_VERSION} ledger, and what it "
                "counted cannot be guessed; restore it from a copy"
            ) from error
        return budget, totals, salt

    def _write(self, overwrite: bool = True) -> None:
        content = {
            "format": LEDGER_FORMAT,
            "version": _VERSION,
            "budget": None if self._budget is None else str(self._budget),
            "salt": self._salt.hex(),
            "totals": {track: str(total) for track, total in self._totals.items()},
        }
        data = (json.dumps(content, indent=1) + "\n").encode("utf-8")
        if len(data) > MAX_LEDGER_BYTES:
            raise OutputError(
                f"ledger '{self._path}' would be larger than {MAX_LEDGER_BYTES} bytes; start "
                "another one for the next release"
            )
        try:
            with atomic_file(self._path, overwrite, private=True) as file:
                file.write(data)
        except LReorgError as error:
            raise PrivacyError(
                f"the payment could not be written to the ledger ({error}), so nothing is drawn"
            ) from error
