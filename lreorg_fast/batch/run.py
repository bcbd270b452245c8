"""Anonymize files: every input ends in a new file or in one sentence that says why not.

One bad file never stops the others, nothing is overwritten unless asked for, and an interruption
leaves whole files only and a report of what was done.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lreorg_fast.batch.journal import Journal, sha256_of_file, still_valid
from lreorg_fast.batch.report import BatchReport, FileEntry
from lreorg_fast.batch.videos import NO_VIDEOS, VideoWork
from lreorg_fast.batch.work import (
    AlignedWork,
    Work,
    describe_bundle,
    describe_engine,
    describe_ledger,
    describe_settings,
)
from lreorg_fast.errors import ConfigError, LReorgError, OutputError
from lreorg_fast.files import atomic_file, check_target, make_folder
from lreorg_fast.log import logger
from lreorg_fast.media import OutputPlan, Skipped, plan_outputs, read_image, write_image
from lreorg_fast.media.images import ENCODERS
from lreorg_fast.media.muxing import MUXERS
from lreorg_fast.privacy import Subjects
from lreorg_fast.privacy.sealed import STATEMENT as SEALED
from lreorg_fast.sealing import Sealer
from lreorg_fast.settings import Settings

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer

Progress = Callable[[int, int], None]
PathLike = str | os.PathLike[str]

_UNREACHED = "the run was interrupted before this file was finished"
_STUCK = "the work on faces hung again and again, so the run ended before this file"
_MOST_WORKERS = 64


def anonymize_files(
    work: Work | Anonymizer,
    inputs: Iterable[PathLike] | OutputPlan,
    output: PathLike | None = None,
    *,
    settings: Settings | None = None,
    subjects: Subjects | None = None,
    sealer: Sealer | None = None,
    overwrite: bool = False,
    report: PathLike | None = None,
    progress: Progress | None = None,
    workers: int = 1,
    resume: bool = False,
    videos: VideoWork | None = None,
) -> BatchReport:
    """Anonymize files and folders of pictures, and the videos among them.

    Args:
        work: what is done to each picture; an :class:`lreorg_fast.Anonymizer` takes each as one
            aligned face.
        inputs: files and folders, or the plan of where each goes.
        output: folder for the results; None writes beside the inputs, with ``_anonymized`` added
            to the name. See :func:`lreorg_fast.media.plan_outputs`.
        settings: for an :class:`lreorg_fast.Anonymizer`, as the two below; the default is to hide
            identity.
        subjects: who is on which picture; by default each is a person of its own.
        sealer: writes a seal beside each result; None, the default, writes none.
        overwrite: replace results and a report of an earlier run. Sources are never replaced.
        report: JSON file to write, also after an interruption.
        progress: called with (files done, files in all) after each.
        workers: pictures that are worked on at the same time, in threads, 1 to 64. Videos are
            made one after another.
        resume: go on with the run of the same ``report``: what it finished is taken over if
            source and result are unchanged, also if a face was filled; the rest is done, and a
            video from where it was interrupted.
        videos: makes the videos, see :class:`lreorg_fast.video.VideoFiles`; None refuses each.

    Returns:
        What became of every input. A KeyboardInterrupt ends the work and is not raised again:
        ``interrupted`` is set.

    Raises:
        ConfigError: wrong settings, or no picture among the inputs; nothing was written.
        OutputError: the output or the report cannot be written where it was asked for.
    """
    work = _checked_work(work, settings, subjects, sealer)
    if not 1 <= workers <= _MOST_WORKERS:
        raise ConfigError(f"workers is {workers}, but must be 1 to {_MOST_WORKERS}")
    if resume and report is None:
        raise ConfigError("resuming needs the report of the earlier run; name it")
    if resume and not work.subjects.lasting:
        raise ConfigError(
            "a resumed run would draw again for a named person and count it from zero; name a "
            "ledger file or pseudonyms, or do not resume"
        )
    _check_output(output)
    plan = inputs if isinstance(inputs, OutputPlan) else plan_outputs(inputs, output)
    if not len(plan) and not any(skipped.failure for skipped in plan.skipped):
        raise ConfigError(
            f"there is no picture and no video among the inputs; name {', '.join(ENCODERS)} files "
            "or videos"
        )
    work.subjects.check(source for source, _ in plan)
    # Before anything is made for the report: wrong settings leave nothing behind.
    run = _Run(work, videos, plan, overwrite, workers, resume)
    if report is None:
        run.do_all(progress)
        return run.report()
    with closing(_Reporting(Path(report), run, plan, overwrite, resume)) as reporting:
        run.do_all(progress)
        return reporting.finish()


class _Reporting:
    """The report file of a run, and the journal beside it."""

    def __init__(
        self, file: Path, run: _Run, plan: OutputPlan, overwrite: bool, resume: bool
    ) -> None:
        self._file, self._run = file, run
        self._replaces = overwrite or resume
        _prepare_report(file, plan, self._replaces)
        self._journal = Journal(file, run.described)
        if resume:
            run.take_over(self._journal.earlier(file))
        self._journal.start(run.earlier)
        run.journal = self._journal
        self._finished = False

    def finish(self) -> BatchReport:
        result = self._run.report()
        with atomic_file(self._file, self._replaces) as stream:
            stream.write((json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n").encode())
        self._finished = True
        return result

    def close(self) -> None:
        self._journal.close(self._finished)


class _Run:
    """One pass over a plan."""

    def __init__(
        self,
        work: Work,
        videos: VideoWork | None,
        plan: OutputPlan,
        overwrite: bool,
        workers: int,
        resume: bool,
    ) -> None:
        self.work, self.videos, self.resume = work, videos, resume
        self.plan = plan
        self.overwrite = overwrite
        self.workers = workers
        self.described = {
            # As JSON has it: what is compared when a run is resumed.
            "settings": json.loads(json.dumps(self._settings())),
            "bundle": json.loads(json.dumps(describe_bundle(work))),
            "engine": describe_engine(work),
        }
        self.entries: list[FileEntry] = []
        self.earlier: dict[str, FileEntry] = {}
        self.unsealed: dict[str, str] = {}
        self.journal: Journal | None = None
        self.interrupted = False

    def _settings(self) -> dict[str, Any]:
        settings = describe_settings(self.work)
        if self.videos is not None and self.plan.videos:
            settings["video"] = dict(self.videos.settings)
        return settings

    def take_over(self, earlier: dict[str, FileEntry]) -> None:
        """Entries of an earlier run, where source and result are still what they were."""
        for source, target in self.plan:
            entry = earlier.get(str(source))
            if entry is None or entry.target != str(target):
                continue
            if still_valid(entry):
                self.earlier[str(source)] = replace(entry, earlier=True)
            elif entry.seal is not None and not Path(entry.seal).is_file() and target.exists():
                self.unsealed[str(source)] = entry.seal

    def do_all(self, progress: Progress | None) -> None:
        try:
            for entry in self._entries():
                self.entries.append(entry)
                if self.journal is not None and not entry.earlier:
                    self.journal.add(entry)
                if progress is not None:
                    progress(len(self.entries), len(self.plan))
        except KeyboardInterrupt:
            self.interrupted = True

    def report(self) -> BatchReport:
        unreached = self.plan.pairs[len(self.entries) :]
        files = [
            *self.entries,
            *(FileEntry(str(source), "skipped", _UNREACHED) for source, _ in unreached),
            *map(_left_out, self.plan.skipped),
        ]
        return BatchReport(
            **self.described,
            files=tuple(files),
            ledger=describe_ledger(self.work, pictures_only=not self.plan.videos),
            persons=self.work.subjects.statement,
            sealed=None if self.work.sealer is None else SEALED,
            interrupted=self.interrupted,
        )

    def _entries(self) -> Iterator[FileEntry]:
        """In the order of the plan, whatever the order in which workers finish."""
        if self.workers == 1:
            yield from (self._do(source, target) for source, target in self.plan)
            return
        waiting: deque[Callable[[], FileEntry]] = deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            for source, target in self.plan:
                if source in self.plan.videos:  # in this thread, which can be interrupted
                    waiting.append(partial(self._do, source, target))
                else:
                    waiting.append(pool.submit(self._do, source, target).result)
                # Bounds what is in memory, and what an interruption has to wait for.
                while len(waiting) >= 2 * self.workers:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _do(self, source: Path, target: Path) -> FileEntry:
        earlier = self.earlier.get(str(source))
        if earlier is not None:
            return earlier
        if self.work.limit.stuck:
            return FileEntry(str(source), "skipped", _STUCK)
        lost = self.unsealed.get(str(source))
        if lost is not None and not self.overwrite:
            return FileEntry(
                str(source),
                "refused",
                f"its seal '{lost}' is missing, so nobody in '{target}' could be brought back; put "
                "the seal back, or make both again with --force",
            )
        if source in self.plan.videos:
            return self._do_video(source, target)
        try:
            if target.parent.is_dir():
                check_target(target, self.overwrite)
            if self.work.sealer is not None:
                self.work.sealer.check(target, self.overwrite)
            digest = sha256_of_file(source) if self.journal is not None else None
            picture = read_image(source)
            outcome = self.work(picture, source)
        except Exception as error:
            return _refused(source, error)
        details: dict[str, Any] = dict(outcome.details)
        if outcome.image is None:
            return FileEntry(str(source), outcome.status, outcome.reason, **details)
        try:
            # As late as possible: a picture that is refused leaves no empty folder behind.
            make_folder(target.parent)
            write_image(target, outcome.image, self.overwrite)
            if outcome.seal is not None:
                sealed = outcome.seal(target, picture, self.overwrite)
                details["seal"] = None if sealed is None else str(sealed)
            if digest is not None:
                details |= {"source_sha256": digest, "target_sha256": sha256_of_file(target)}
        except Exception as error:
            return _refused(source, error, outcome.details)
        return FileEntry(str(source), outcome.status, outcome.reason, str(target), **details)

    def _do_video(self, source: Path, target: Path) -> FileEntry:
        new = [folder for folder in target.parents if not folder.exists()]
        try:
            if self.videos is None:
                raise ConfigError(NO_VIDEOS)
            make_folder(target.parent)
            digest = sha256_of_file(source) if self.journal is not None else None
            entry = self.videos(source, target, self.overwrite, self.resume)
            if digest is None or entry.target is None:
                return entry
            return replace(entry, source_sha256=digest, target_sha256=sha256_of_file(target))
        except Exception as error:
            return _refused(source, error)
        finally:
            with suppress(OSError):  # those in which something lies stay
                for folder in new:
                    folder.rmdir()


def _checked_work(
    work: Work | Anonymizer,
    settings: Settings | None,
    subjects: Subjects | None,
    sealer: Sealer | None,
) -> Work:
    if hasattr(work, "bundle"):  # an Anonymizer, whose class would need torch here
        return AlignedWork(cast("Anonymizer", work), settings, subjects, sealer)
    for name, given in (("settings", settings), ("subjects", subjects), ("sealer", sealer)):
        if given is not None:
            raise ConfigError(f"{name} belong to the work already; leave them out")
    return work


def _refused(source: Path, error: Exception, details: Any = None) -> FileEntry:
    """Nothing was written; a draw that was made stays in the ledger."""
    reason = str(error)
    if not isinstance(error, LReorgError):
        reason = f"an unexpected error ({type(error).__name__})"
        # No path and no text of the error: either may name a person.
        logger.error("a file is refused: %s", reason)
    return FileEntry(str(source), "refused", reason, **(details or {}))


def _left_out(skipped: Skipped) -> FileEntry:
    return FileEntry(str(skipped.path), "refused" if skipped.failure else "skipped", skipped.reason)


def _check_output(output: PathLike | None) -> None:
    if output is None:
        return
    path = Path(output)
    if path.suffix.lower() in {*ENCODERS, *MUXERS} and not path.is_dir():
        raise OutputError(f"the output '{path}' looks like a file, but must be a folder")


def _prepare_report(report: Path, plan: OutputPlan, overwrite: bool) -> None:
    """Make sure that the report can be written before hours are spent on what it is about."""
    make_folder(report.parent)
    check_target(report, overwrite)
    place = os.path.realpath(report)
    for path in (path for pair in plan for path in pair):
        if os.path.realpath(path) == place:
            raise OutputError(
                f"the report '{report}' would have the name of a picture of this run; choose "
                "another name"
            )
