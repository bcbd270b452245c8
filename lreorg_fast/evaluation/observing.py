"""Show pictures to judges and keep what they say: in bounded memory, in several processes, and
from where an interrupted run stopped.

Pictures are read block by block, so that however many there are, only a few blocks are in memory.
What stays of a picture is an embedding per recognizer (about 4 kB each); of features, whose
distribution alone counts, only mean and covariance.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, LReorgError
from lreorg_fast.evaluation.answers import Answers
from lreorg_fast.evaluation.protocol import (
    Judges,
    Observed,
    Pictures,
)
from lreorg_fast.evaluation.questions import Collected, Question, Rows, questions
from lreorg_fast.media.pictures import Picture

BLOCK = 32
MOST_WORKERS = 64
# Pixels in a block: photographs of 12 megapixels come two at a time, however large the block.
_MOST_PIXELS = 32 * 1024**2

Progress = Callable[[int, int], None]
MakeJudges = Callable[[], Judges]
Asked = dict[str, NDArray[np.float32]]


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
        self.make_judges, self._answers = make_judges, answers
        self.workers, self._block = workers, block
        self._pool: ProcessPoolExecutor | None = None

    @cached_property
    def judges(self) -> Judges:
        """In this process."""
        return self.make_judges()

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
        collected = Collected(self.judges, len(pictures))
        for job in self._answered(pictures):
            collected.add([(entry.index, entry.rows) for entry in job.block])
            if progress is not None:
                progress(collected.done, len(pictures))
        return collected.observed()

    def _answered(self, pictures: Pictures) -> Iterator[_Job]:
        """Jobs in order, finished: every judge has answered about every picture in them."""
        asked = {question.name: question for question in questions(self.judges)}
        if not asked:
            raise ConfigError("nobody looks at the pictures: there is no judge at all")
        jobs = (self._begin(block, asked) for block in self._blocks(pictures, asked))
        for job in _ahead(jobs, 2 * self.workers if self.workers > 1 else 0):
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
        if self.workers == 1 or not pictures:
            future: Future[Asked] = Future()
            future.set_result(_ask(self.judges, pictures, wanted))
            return future
        if self._pool is None:
            threads = max(1, (os.cpu_count() or 1) // self.workers)
            self._pool = ProcessPoolExecutor(
                self.workers,
                # A forked process can hang in a lock that a thread of this one held.
                multiprocessing.get_context("spawn"),
                _start_worker,
                (self.make_judges, threads),
            )
        return self._pool.submit(_ask_in_worker, pictures, wanted)

    def _finish(self, job: _Job, asked: Mapping[str, Question]) -> None:
        with died():
            result = job.answers.result()
        for name, answers in result.items():
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


def be_a_worker(threads: int) -> None:
    """What a process does first that works for another: it leaves Ctrl-C to that one, which is
    told of it too and ends its workers itself, takes its share of the cores, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when it is imported
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """A pool's workers wait for work for ever when their parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _start_worker(make_judges: MakeJudges, threads: int) -> None:
    global _worker_judges
    be_a_worker(threads)
    _worker_judges = make_judges()


def _ask_in_worker(pictures: list[Picture], wanted: Mapping[str, Sequence[int]]) -> Asked:
    assert _worker_judges is not None
    return _ask(_worker_judges, pictures, wanted)


@contextlib.contextmanager
def died() -> Iterator[None]:
    """Raises LReorgError where a worker was killed."""
    try:
        yield
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
