"""Show pictures to judges and keep what they say: in bounded memory, in several processes, and
from where an interrupted run stopped.

Pictures are read block by block, so that however many there are, only a few blocks are in memory.
What stays of a picture is an embedding per recognizer (about 4 kB each); of features, whose
distribution alone counts, only mean and covariance.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, LReorgError
from lreorg_fast.evaluation.answers import Answer, Answers
from lreorg_fast.evaluation.fid import FeatureStatistics
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import (
    FaceFinder,
    FeatureNet,
    Judges,
    Observed,
    Pictures,
)
from lreorg_fast.media.pictures import Picture

BLOCK = 32
MOST_WORKERS = 64
# Pixels in a block: photographs of 12 megapixels come two at a time, however large the block.
_MOST_PIXELS = 32 * 1024**2
_LANDMARKS = 10

Progress = Callable[[int, int], None]
MakeJudges = Callable[[], Judges]
Ask = Callable[[Sequence[Picture]], NDArray[Any]]
Rows = dict[str, Answer]
Asked = dict[str, NDArray[np.float32]]


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


class Observer:
    """Judges, with the cache and the processes that they work in; a context manager.

    Args:
        make_judges: makes the judges. With several workers each calls it, so it must be picklable:
            a function of a module, or a :func:`functools.partial` of one.
        answers: what judges said before; None keeps nothing.
        workers: processes that look at pictures, 1 to 64. With 1 this process does it itself, with
            all its threads.
        block: pictures that a worker looks at together.

    Raises:
        ConfigError: a number out of range.
    """

    def __init__(
        self,
        make_judges: MakeJudges,
        answers: Answers | None = None,
        workers: int = 1,
        block: int = BLOCK,
    ) -> None:
        for name, value, most in (("workers", workers, MOST_WORKERS), ("block", block, 4096)):
            if not 1 <= value <= most:
                raise ConfigError(f"{name} is {value}, but must be 1 to {most}")
        self._make_judges, self._answers = make_judges, answers
        self._workers, self._block = workers, block
        self._pool: ProcessPoolExecutor | None = None

    @cached_property
    def judges(self) -> Judges:
        """In this process."""
        return self._make_judges()

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def observe(self, pictures: Pictures, progress: Progress | None = None) -> Observed:
        """Everything that the judges say of ``pictures``.

        Args:
            pictures: read once, in order.
            progress: told (done, total) after every block.

        Raises:
            ConfigError: no pictures, or judges that answer in another shape than before.
            LReorgError: a picture cannot be read, a judge failed, or a worker was killed. What was
                answered before is kept.
        """
        if len(pictures) == 0:
            raise ConfigError("there are no pictures to look at; give at least one")
        collected = _Collected(self.judges, len(pictures))
        for job in self._answered(pictures):
            collected.add(job.block)
            if progress is not None:
                progress(collected.done, len(pictures))
        return collected.observed()

    def _answered(self, pictures: Pictures) -> Iterator[_Job]:
        """Jobs in order, finished: every judge has answered about every picture in them."""
        asked = {question.name: question for question in questions(self.judges)}
        if not asked:
            raise ConfigError("nobody looks at the pictures: there is no judge at all")
        jobs = (self._begin(block, asked) for block in self._blocks(pictures, asked))
        for job in _ahead(jobs, 2 * self._workers if self._workers > 1 else 0):
            self._finish(job, asked)
            yield job

    def _blocks(self, pictures: Pictures, asked: Mapping[str, Question]) -> Iterator[list[_Entry]]:
        block: list[_Entry] = []
        pixels = 0
        for index in range(len(pictures)):
            entry = self._look_up(pictures, index, asked)
            size = 0 if entry.picture is None else entry.picture.size // 3
            if block and (len(block) == self._block or pixels + size > _MOST_PIXELS):
                yield block
                block, pixels = [], 0
            block.append(entry)
            pixels += size
        yield block

    def _look_up(self, pictures: Pictures, index: int, asked: Mapping[str, Question]) -> _Entry:
        if self._answers is None:
            return _Entry(index, "", pictures.picture(index))
        fingerprint = pictures.fingerprint(index)
        rows: Rows = {}
        for name, question in asked.items():
            answer = self._answers.get(question.key, fingerprint)
            if answer is not None:
                rows[name] = answer
        if len(rows) == len(asked):  # nobody has to look at it again
            return _Entry(index, fingerprint, None, rows)
        picture = pictures.picture(index)
        return _Entry(index, fingerprint, picture, {} if picture is None else rows)

    def _begin(self, block: list[_Entry], asked: Mapping[str, Question]) -> _Job:
        """Start asking what is not known; pictures are let go of as soon as that is done."""
        shown = [entry for entry in block if entry.picture is not None]
        wanted = {
            name: [i for i, entry in enumerate(shown) if name not in entry.rows] for name in asked
        }
        pictures = [entry.picture for entry in shown if entry.picture is not None]
        answers = self._submit(pictures, wanted)
        for entry in shown:
            entry.picture = None
        return _Job(block, shown, wanted, answers)

    def _submit(
        self, pictures: list[Picture], wanted: Mapping[str, Sequence[int]]
    ) -> Future[Asked]:
        if self._workers == 1 or not pictures:
            future: Future[Asked] = Future()
            future.set_result(_ask(self.judges, pictures, wanted))
            return future
        if self._pool is None:
            threads = max(1, (os.cpu_count() or 1) // self._workers)
            self._pool = ProcessPoolExecutor(
                self._workers,
                # A forked process can hang in a lock that a thread of this one held.
                multiprocessing.get_context("spawn"),
                _start_worker,
                (self._make_judges, threads),
            )
        return self._pool.submit(_ask_in_worker, pictures, wanted)

    def _finish(self, job: _Job, asked: Mapping[str, Question]) -> None:
        for name, answers in _result(job.answers).items():
            entries = [job.shown[i] for i in job.wanted[name]]
            for entry, answer in zip(entries, answers, strict=True):
                entry.rows[name] = answer
            if self._answers is not None and entries:
                new = {entry.fingerprint: entry.rows[name] for entry in entries}
                self._answers.put(asked[name].key, new)


@dataclass
class _Entry:
    """One picture on its way: until it was looked at, and then without it."""

    index: int
    fingerprint: str
    picture: Picture | None
    rows: Rows = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """A block, those of its pictures that are looked at, and which of them by whom."""

    block: list[_Entry]
    shown: list[_Entry]
    wanted: Mapping[str, Sequence[int]]
    answers: Future[Asked]


class _Collected:
    """The answers about all pictures as arrays."""

    def __init__(self, judges: Judges, count: int) -> None:
        self._judges, self._count = judges, count
        self.done = 0
        self._released = np.zeros(count, dtype=bool)
        self._tables: dict[str, NDArray[np.float32]] = {}
        self._statistics: dict[str, FeatureStatistics] = {}

    def add(self, block: Iterable[_Entry]) -> None:
        for entry in block:
            self.done += 1
            self._released[entry.index] = bool(entry.rows)
            for name, row in entry.rows.items():
                if name not in self._streamed:
                    self._table(name, row)[entry.index] = row
        for name in self._streamed:
            rows = [entry.rows[name] for entry in block if entry.rows]
            if rows:
                self._add_features(name, np.stack(rows).astype(np.float64))

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


def _ask(judges: Judges, pictures: list[Picture], wanted: Mapping[str, Sequence[int]]) -> Asked:
    """Rows (len(wanted[name]), D) float32 by question."""
    answers: Asked = {}
    for question in questions(judges):
        shown = [pictures[i] for i in wanted[question.name]]
        if shown:
            rows = np.asarray(question.ask(shown), dtype=np.float32)
            if rows.ndim != 2 or len(rows) != len(shown):
                raise ConfigError(
                    f"the judge '{question.name}' answered {rows.shape} about {len(shown)} "
                    "pictures; it must give a row for each"
                )
            answers[question.name] = rows
    return answers


_worker_judges: Judges | None = None


def _start_worker(make_judges: MakeJudges, threads: int) -> None:
    global _worker_judges
    # The parent is told of Ctrl-C too, and ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)
    _worker_judges = make_judges()


def _ask_in_worker(pictures: list[Picture], wanted: Mapping[str, Sequence[int]]) -> Asked:
    assert _worker_judges is not None
    return _ask(_worker_judges, pictures, wanted)


def _result(answers: Future[Asked]) -> Asked:
    try:
        return answers.result()
    except BrokenProcessPool as error:
        raise LReorgError(
            "a worker process was killed, perhaps because memory ran out; what was measured is "
            "kept: run again with --resume and fewer --workers"
        ) from error


def _ahead(jobs: Iterator[_Job], count: int) -> Iterator[_Job]:
    """The same jobs, while up to ``count`` later ones have been started already."""
    waiting: deque[_Job] = deque()
    for job in jobs:
        waiting.append(job)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _check_length(name: str, length: int, expected: int) -> None:
    if length != expected:
        raise ConfigError(
            f"the judge '{name}' gave {length} numbers for a picture and {expected} before; its "
            "cache is of another version: start over with --force"
        )
