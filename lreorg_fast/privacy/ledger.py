"""The epsilon ledger: what has been spent on each person-track, and when to refuse.

Independent draws of one person add up, so one draw is held per track: it is paid once, and every
later frame that uses it is post-processing and free.
"""

from __future__ import annotations

import json
import math
import numbers
import threading
from collections.abc import Callable, Mapping
from decimal import ROUND_UP, Context, Decimal, DecimalException
from pathlib import Path
from typing import Any

from lreorg_fast.errors import BudgetExceeded, ConfigError, PrivacyError
from lreorg_fast.files import atomic_file, parse_json, read_bounded
from lreorg_fast.privacy.replacement import Replacement

LEDGER_FORMAT = "lreorg-ledger"
_VERSION = 1
MAX_LEDGER_BYTES = 64 << 20
# Totals are kept in decimal, from the shortest text of each epsilon, so that three times 0.1 fits
# a budget of 0.3; where digits run out, sums round up, never down.
_SUM = Context(prec=60, rounding=ROUND_UP)


def picture_statement(measured: str | None = None) -> str:
    """The sentence that must stand wherever an epsilon is shown.

    Args:
        measured: the measured re-identification with its n and interval, if there is one.
    """
    return (
        "This is not a guarantee for the picture. "
        f"Measured re-identification: {measured or 'not measured here'}."
    )


def json_epsilon(epsilon: float) -> float | str:
    """An epsilon as a report writes it: JSON has no infinity, so that becomes ``"inf"``."""
    return "inf" if math.isinf(epsilon) else epsilon


class Ledger:
    """Counts epsilon per person-track and refuses to pass the budget. Thread-safe.

    Args:
        budget: most epsilon that one track may cost, finite and >= 0; None is no limit, and the
            only setting under which mechanisms without a guarantee (epsilon infinity) are let
            through.

    Raises:
        ConfigError: the budget is negative, NaN or infinite.
    """

    def __init__(self, budget: float | None = None) -> None:
        if budget is not None:
            _check_epsilon("budget", budget, "None for no limit")
            if math.isinf(budget):
                raise ConfigError("budget is inf, but must be finite; use None for no limit")
        self._budget = None if budget is None else _decimal(budget)
        self._totals: dict[str, Decimal] = {}
        self._held: dict[tuple[str, str], Replacement] = {}
        self._lock = threading.Lock()

    @property
    def budget(self) -> float | None:
        """Most epsilon per track; None is no limit."""
        return None if self._budget is None else float(self._budget)

    def spend(self, track: str | int, epsilon: float) -> float:
        """Record the cost of one draw, before it is made.

        Args:
            track: the person-track. Use a number or a random id: it is written to reports and
                files, so a person's name does not belong here. 1 and "1" are the same track.
            epsilon: >= 0, infinity for a draw without a guarantee.

        Returns:
            The new total of the track.

        Raises:
            BudgetExceeded: the total would pass the budget; nothing is recorded, and nothing may
                be drawn or released.
            ConfigError: epsilon is negative, NaN or not a number, or track is neither text nor
                integer.
        """
        key = _track_key(track)
        _check_epsilon("epsilon", epsilon, "the epsilon that the mechanism reports")
        with self._lock:
            return self._spend(key, _decimal(epsilon))

    def held(
        self,
        track: str | int,
        draw: Callable[[], Replacement],
        epsilon: float,
        keyword: str = "identity",
    ) -> Replacement:
        """The one replacement of a track: drawn and paid for the first time, then repeated.

        Args:
            track: as in :meth:`spend`.
            draw: makes the replacement; called at most once per track and keyword, after payment.
            epsilon: cost of the draw; the keywords of one track add up.
            keyword: what is replaced.

        Raises:
            BudgetExceeded, ConfigError: as in :meth:`spend`; nothing was drawn.
            PrivacyError: the replacement says that it cost more than was paid; it is not handed
                out. What was paid stays paid, as it does when ``draw`` raises.
        """
        key = _track_key(track)
        _check_epsilon("epsilon", epsilon, "the epsilon that the mechanism reports")
        # The lock is kept during the draw, or two frames of one track could both draw.
        with self._lock:
            held = self._held.get((key, keyword))
            if held is not None:
                return held
            self._spend(key, _decimal(epsilon))
            replacement = draw()
            if replacement.epsilon > epsilon:
                raise PrivacyError(
                    f"the draw for keyword '{keyword}' cost epsilon {replacement.epsilon}, but "
                    f"{epsilon} was paid; pay the epsilon that the mechanism reports"
                )
            self._held[key, keyword] = replacement
            return replacement

    def forget(self, track: str | int) -> None:
        """Drop the held draws of a track that ended; its total stays, a new draw costs again."""
        key = _track_key(track)
        with self._lock:
            for held_key in [held_key for held_key in self._held if held_key[0] == key]:
                del self._held[held_key]

    def drawn(self, track: str | int) -> dict[str, Replacement]:
        """The held draws of a track by keyword, for :meth:`resume`; empty for an unknown one.

        What was drawn is what is released, so it may be stored like the released pictures.
        """
        key = _track_key(track)
        with self._lock:
            return {name: held for (owner, name), held in self._held.items() if owner == key}

    def resume(self, track: str | int, drawn: Mapping[str, Replacement]) -> None:
        """Hold the draws of an interrupted run again: the same release goes on.

        Args:
            track: the person-track of that run.
            drawn: what :meth:`drawn` gave. It is paid for as far as this ledger has not yet
                counted it: a ledger that was saved has, a new one has not.

        Raises:
            BudgetExceeded: the total would pass the budget; nothing is held.
        """
        key = _track_key(track)
        cost = Decimal(0)
        for replacement in drawn.values():
            cost = _SUM.add(cost, _decimal(replacement.epsilon))
        with self._lock:
            missing = cost - self._totals.get(key, Decimal(0))
            if missing > 0:
                self._spend(key, missing)
            for keyword, replacement in drawn.items():
                self._held[key, keyword] = replacement

    def total(self, track: str | int) -> float:
        """Epsilon spent on a track so far; 0 for an unknown one."""
        key = _track_key(track)
        with self._lock:
            return float(self._totals.get(key, Decimal(0)))

    def report(self, measured: str | None = None) -> dict[str, Any]:
        """What was spent, as a JSON-able dict; an infinite epsilon is the text ``"inf"``.

        Args:
            measured: the measured re-identification, for the sentence that goes with epsilon.

        Returns:
            ``budget``, ``tracks`` (track to total), ``largest`` (total of any track, 0 for none),
            ``statement`` (:func:`picture_statement`).
        """
        with self._lock:
            totals = {track: float(total) for track, total in self._totals.items()}
        return {
            "budget": self.budget,
            "tracks": {track: json_epsilon(total) for track, total in totals.items()},
            "largest": json_epsilon(max(totals.values(), default=0.0)),
            "statement": picture_statement(measured),
        }

    def save(self, path: str | Path) -> None:
        """Write the budget and the totals as JSON; held draws are never written.

        An earlier file of that name is replaced in one step. Processes that share a file use
        :class:`lreorg_fast.privacy.LedgerFile`: here the last one wins.

        Raises:
            OutputError: the file cannot be written.
        """
        with self._lock:
            content = {
                "format": LEDGER_FORMAT,
                "version": _VERSION,
                "budget": None if self._budget is None else str(self._budget),
                "totals": {track: str(total) for track, total in self._totals.items()},
            }
        with atomic_file(path, overwrite=True) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode("utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> Ledger:
        """Read a ledger that :meth:`save` wrote; no draw is held in it.

        Raises:
            PrivacyError: the file is missing, damaged or of another format or version. A ledger
                that cannot be read is not an empty ledger.
        """
        try:
            content = parse_json(read_bounded(path, MAX_LEDGER_BYTES))
            budget, totals = parsed_ledger(content, _VERSION)
        except (OSError, ValueError, DecimalException) as error:
            raise PrivacyError(
                f"ledger '{path}' cannot be read as a version {_VERSION} ledger, and what it "
                "counted cannot be guessed; restore it from a copy"
            ) from error
        ledger = cls()
        ledger._budget = budget
        ledger._totals = totals
        return ledger

    def _spend(self, key: str, epsilon: Decimal) -> float:
        total = _SUM.add(self._totals.get(key, Decimal(0)), epsilon)
        if self._budget is not None and total > self._budget:
            raise BudgetExceeded(
                f"epsilon {epsilon} would bring track '{key}' to {total}, but the budget is "
                f"{self._budget}; keep the held draw, or start with a larger budget"
            )
        self._totals[key] = total
        return float(total)


def _decimal(epsilon: float) -> Decimal:
    return Decimal(repr(float(epsilon)))


def _check_epsilon(field: str, value: object, remedy: str) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not float(value) >= 0:  # type: ignore[arg-type]  # NaN fails >=
        raise ConfigError(f"{field} is {value!r}, but must be a number >= 0; give {remedy}")


def _track_key(track: object) -> str:
    if isinstance(track, bool) or not isinstance(track, (str, numbers.Integral)):
        raise ConfigError(
            f"track is of type {type(track).__name__}, but must be text or an integer; use the "
            "tracker's number"
        )
    return str(track)


def parsed_ledger(
    content: Any, version: int, *others: str
) -> tuple[Decimal | None, dict[str, Decimal]]:
    """Budget and totals of a parsed file; ValueError or DecimalException for anything odd.

    ``others`` are further fields that must be there; they are not looked at.
    """
    if (
        not isinstance(content, dict)
        or set(content) != {"format", "version", "budget", "totals", *others}
        or content["format"] != LEDGER_FORMAT
        or content["version"] != version
        or not isinstance(content["totals"], dict)
    ):
        raise ValueError("not a ledger")
    budget = None if content["budget"] is None else _stored(content["budget"])
    if budget is not None and not budget.is_finite():
        raise ValueError("infinite budget")
    totals = {track: _stored(total) for track, total in content["totals"].items()}
    if budget is not None and any(total > budget for total in totals.values()):
        raise ValueError("a total above the budget")
    return budget, totals


def _stored(text: Any) -> Decimal:
    if not isinstance(text, str) or len(text) > 100:
        raise ValueError("not a number as text")
    value = Decimal(text)
    if value.is_nan() or value < 0:
        raise ValueError("negative or NaN")
    return value
