"""What is asked of judges about pictures, and the answers about all of them as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.answers import Answer
from lreorg_fast.evaluation.fid import FeatureStatistics
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import FaceFinder, FeatureNet, Judges, Observed
from lreorg_fast.media.pictures import Picture

Ask = Callable[[Sequence[Picture]], NDArray[Any]]
Rows = dict[str, Answer]
_LANDMARKS = 10


@dataclass(frozen=True)
class Question:
    """One judge, asked about pictures; the answer is a row of numbers for each.

    Attributes:
        name: different for each question to the same judges.
        fingerprint: of the judge.
        ask: (n, D) of n pictures.
    """

    name: str
    fingerprint: str
    ask: Ask

    @property
    def key(self) -> str:
        """Under which answers are kept: one network may answer several questions."""
        return f"{self.name}\n{self.fingerprint}"


class Collected:
    """The answers about all pictures as arrays."""

    def __init__(self, judges: Judges, count: int) -> None:
        self._judges, self._count = judges, count
        self.done = 0
        self._released = np.zeros(count, dtype=bool)
        self._tables: dict[str, NDArray[np.float32]] = {}
        self._statistics: dict[str, FeatureStatistics] = {}

    def add(self, answers: Sequence[tuple[int, Rows]]) -> None:
        """Number and rows by question of some pictures; no rows where nothing was released."""
        self.done += len(answers)
        for index, rows in answers:
            self._released[index] = bool(rows)
            for name, row in rows.items():
                if name not in self._streamed:
                    self._table(name, row)[index] = row
        for name in self._streamed:
            features = [rows[name] for _, rows in answers if rows]
            if features:
                self._add_features(name, np.stack(features).astype(np.float64))

    @cached_property
    def _streamed(self) -> frozenset[str]:
        return frozenset(_feature_name(net) for net in self._judges.features)

    def _table(self, name: str, row: Answer) -> NDArray[np.float32]:
        table = self._tables.setdefault(
            name, np.full((self._count, len(row)), np.nan, dtype=np.float32)
        )
        _check_length(name, len(row), table.shape[1])
        return table

    def _add_features(self, name: str, rows: Floats) -> None:
        statistics = self._statistics.setdefault(name, FeatureStatistics(rows.shape[1], name))
        _check_length(name, rows.shape[1], statistics.length)
        statistics.add(rows)

    def observed(self) -> Observed:
        """See :class:`lreorg_fast.evaluation.protocol.Observed`."""
        recognizers = {r.name: self._embeddings(r.name) for r in self._judges.recognizers}
        found, landmarks = self._faces()
        attributes = None
        if self._judges.attributes is not None:
            width = len(self._judges.attributes.names)
            table = self._tables.get(_ATTRIBUTES)
            none = np.zeros((self._count, width), dtype=bool)
            attributes = none if table is None else np.nan_to_num(table) > 0
        statistics = {
            net.convention: (s.mean, s.covariance, s.n)
            for net in self._judges.features
            for s in [self._statistics.get(_feature_name(net))]
            if s is not None and s.n > 1
        }
        return Observed(self._released, recognizers, attributes, found, landmarks, statistics)

    def _embeddings(self, name: str) -> Floats:
        table = self._tables.get(_recognizer_name(name), np.full((self._count, 1), np.nan))
        rows = table.astype(np.float64)
        rows[~np.isfinite(rows).all(axis=1)] = np.nan
        return rows

    def _faces(self) -> tuple[NDArray[np.bool_], Floats | None]:
        table = self._tables.get(_FINDER)
        if table is None:
            found = self._released if self._judges.finder is None else self._released & False
            return found, None
        found = np.nan_to_num(table[:, 0]) > 0
        if table.shape[1] == 1:
            return found, None
        return found, table[:, 1:].astype(np.float64).reshape(-1, _LANDMARKS // 2, 2)


_ATTRIBUTES, _FINDER = "attributes", "finder"


def _recognizer_name(name: str) -> str:
    return f"recognizer {name}"


def _feature_name(net: FeatureNet) -> str:
    return f"features {net.metric} {net.convention}"


def questions(judges: Judges) -> Iterator[Question]:
    """What is asked of whom; every answer is a row of numbers per picture."""
    for recognizer in judges.recognizers:
        yield Question(_recognizer_name(recognizer.name), recognizer.fingerprint, recognizer.embed)
    reader, finder = judges.attributes, judges.finder
    if reader is not None:
        yield Question(_ATTRIBUTES, reader.fingerprint, reader.read)
    if finder is not None:
        yield Question(_FINDER, finder.fingerprint, partial(_find, finder))
    for net in judges.features:
        yield Question(_feature_name(net), net.fingerprint, net.features)


def _find(finder: FaceFinder, pictures: Sequence[Picture]) -> NDArray[Any]:
    """(N, 1) found, or (N, 11) found and landmarks."""
    found, landmarks = finder.find(pictures)
    column = np.asarray(found, dtype=np.float32)[:, None]
    if landmarks is None:
        return column
    return np.concatenate([column, landmarks.reshape(len(column), _LANDMARKS)], axis=1)


def _check_length(name: str, length: int, expected: int) -> None:
    if length != expected:
        raise ConfigError(
            f"the judge '{name}' gave {length} numbers for a picture and {expected} before; its "
            "cache is of another version: start over with --force"
        )
