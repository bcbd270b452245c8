"""Anonymize files: every input ends in a new file or in one sentence that says why not.

One bad file never stops the others, nothing is overwritten unless asked for, and an interruption
leaves whole files only and a report of what was done.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import lreorg_fast
from lreorg_fast.errors import ConfigError, LReorgError, OutputError
from lreorg_fast.files import atomic_file, check_target
from lreorg_fast.log import logger
from lreorg_fast.media import OutputPlan, Skipped, plan_outputs, read_image, write_image
from lreorg_fast.media.images import ENCODERS
from lreorg_fast.privacy import Subjects, json_epsilon
from lreorg_fast.privacy.sealed import STATEMENT as SEALED
from lreorg_fast.sealing import Sealer
from lreorg_fast.settings import Settings

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.result import FaceResult
    from lreorg_fast.weights import BundleManifest

FileStatus = Literal["replaced", "filled", "refused", "skipped"]
FILE_STATUSES: tuple[FileStatus, ...] = get_args(FileStatus)
Progress = Callable[[int, int], None]
PathLike = str | os.PathLike[str]

# The figure of a bundle (lreorg_fast.demo.figures) that was measured with the default settings.
_PROTECTION = "default: PSR (random)"
_UNREACHED = "the run was interrupted before this file was finished"


@dataclass(frozen=True)
class FileEntry:
    """What became of one input.

    Attributes:
        source: the input, as it was found.
        status: ``replaced`` (a new face, verified), ``filled`` (a solid colour was written),
            ``refused`` (asked for and not done; nothing was written) or ``skipped`` (not a picture
            beside pictures, named twice, or not reached before an interruption).
        reason: why it is not ``replaced``; None otherwise.
        target: the file that was written; None if there is none.
        track: the name under which the ledger counts this picture; None if nothing was drawn.
        epsilon: what the draws of this picture cost, infinity where there is no guarantee.
        privacy: ``none`` where any draw has no guarantee; None if nothing was drawn.
        similarity: cosine of the bundle's recognizer between original and result; None if filled
            before there was a result.
        mechanism, guarantee: by hidden keyword, see :class:`lreorg_fast.result.FaceResult`.
        seal: the file from which the holder of the private key can bring the face back.
    """

    source: str
    status: FileStatus
    reason: str | None = None
    target: str | None = None
    track: str | None = None
    epsilon: float = 0.0
    privacy: str | None = None
    similarity: float | None = None
    mechanism: Mapping[str, str] = field(default_factory=dict)
    guarantee: Mapping[str, str] = field(default_factory=dict)
    seal: str | None = None

    @property
    def failure(self) -> bool:
        """Something was asked for and is not as it was asked for."""
        return self.status in ("filled", "refused")

    @property
    def sentence(self) -> str:
        """Status, file and reason for a person; most reasons name the file themselves."""
        reason = self.reason or self.target or ""
        return f"{self.status}: {reason if self.source in reason else f'{self.source}: {reason}'}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        similarity = None if self.similarity is None else round(self.similarity, 4)
        return asdict(self) | {"epsilon": json_epsilon(self.epsilon), "similarity": similarity}


@dataclass(frozen=True)
class BatchReport:
    """What was asked, what ran, and what became of every input.

    Attributes:
        settings: as given; ``hide`` and ``keep`` as they were used.
        bundle: name, domain, versions and licence of the bundle.
        engine: backend, type of its weights, precision of the networks, and device that ran.
        files: one entry per input, pictures in the order of the plan, then what was left out.
        ledger: :meth:`lreorg_fast.privacy.Ledger.report`, with the sentence that goes with epsilon.
        persons: how people were counted.
        sealed: what seals mean for the outputs; None without seals.
        interrupted: stopped by the user; what was not reached is ``skipped``.
    """

    settings: Mapping[str, Any]
    bundle: Mapping[str, Any]
    engine: Mapping[str, Any]
    files: tuple[FileEntry, ...]
    ledger: Mapping[str, Any]
    persons: str
    sealed: str | None = None
    interrupted: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Number of inputs by status; every status is there."""
        found = Counter(entry.status for entry in self.files)
        return {status: found[status] for status in FILE_STATUSES}

    @property
    def failures(self) -> tuple[FileEntry, ...]:
        """Files that were filled or refused."""
        return tuple(entry for entry in self.files if entry.failure)

    @property
    def filled_share(self) -> float | None:
        """Filled among the pictures that were read: it belongs next to epsilon, because a fill
        depends on the face (docs/privacy.md); None if no picture was read."""
        counts = self.counts
        faces = counts["filled"] + counts["replaced"]
        return counts["filled"] / faces if faces else None

    @property
    def complete(self) -> bool:
        """Everything that was asked for is done: a program may exit with 0."""
        return not self.interrupted and not self.failures

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what is written to the report file."""
        return {
            "package_version": lreorg_fast.__version__,
            "bundle": dict(self.bundle),
            "engine": dict(self.engine),
            "settings": dict(self.settings),
            "complete": self.complete,
            "interrupted": self.interrupted,
            "counts": self.counts,
            "filled_share": self.filled_share,
            "files": [entry.to_dict() for entry in self.files],
            "persons": self.persons,
            "sealed": self.sealed,
            "ledger": dict(self.ledger),
        }


def anonymize_files(
    anonymizer: Anonymizer,
    inputs: Iterable[PathLike],
    output: PathLike | None = None,
    *,
    settings: Settings | None = None,
    subjects: Subjects | None = None,
    sealer: Sealer | None = None,
    overwrite: bool = False,
    report: PathLike | None = None,
    progress: Progress | None = None,
) -> BatchReport:
    """Anonymize picture files and folders of pictures; each picture is one aligned face.

    Args:
        anonymizer: does the work; its ledger counts every picture as a person of its own.
        inputs: files and folders.
        output: folder for the results; None writes beside the inputs, with ``_anonymized`` added
            to the name. See :func:`lreorg_fast.media.plan_outputs`.
        settings: the default is to hide identity.
        subjects: who is on which picture; by default each is a person of its own.
        sealer: writes a seal beside each result; None, the default, writes none.
        overwrite: replace results and a report of an earlier run. Sources are never replaced.
        report: JSON file to write, also after an interruption.
        progress: called with (pictures done, pictures in all) after each.

    Returns:
        What became of every input. A KeyboardInterrupt ends the work and is not raised again:
        ``interrupted`` is set.

    Raises:
        ConfigError: wrong settings, or no picture among the inputs; nothing was written.
        OutputError: the output or the report cannot be written where it was asked for.
    """
    _check_output(output)
    plan = plan_outputs(inputs, output)
    if not len(plan) and not any(skipped.failure for skipped in plan.skipped):
        raise ConfigError(f"there is no picture among the inputs; name {', '.join(ENCODERS)} files")
    # Before anything is made for the report: wrong settings leave nothing behind.
    whose = subjects or Subjects(anonymizer.ledger)
    if whose.ledger is not anonymizer.ledger:
        raise ConfigError("subjects are counted by another ledger than the anonymizer's; give its")
    run = _Run(anonymizer, settings or Settings(), plan, overwrite, whose, sealer)
    report_file = None if report is None else Path(report)
    if report_file is not None:
        _prepare_report(report_file, plan, overwrite)
    run.do_all(progress)
    result = run.report()
    if report_file is not None:
        with atomic_file(report_file, overwrite) as stream:
            stream.write((json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    return result


class _Run:
    """One pass over a plan."""

    def __init__(
        self,
        anonymizer: Anonymizer,
        settings: Settings,
        plan: OutputPlan,
        overwrite: bool,
        subjects: Subjects,
        sealer: Sealer | None,
    ) -> None:
        self.anonymizer = anonymizer
        self.default = settings == Settings()
        resolved = anonymizer.resolve(settings, subjects.probe)
        # Lists, because an iterator would be empty from the second picture on.
        self.settings = vars(settings) | {
            "hide": list(resolved.hide),
            "keep": list(resolved.keep),
        }
        self.plan = plan
        self.overwrite = overwrite
        self.subjects = subjects
        self.sealer = sealer
        self.recovery = sealer is not None and sealer.recovery
        self.entries: list[FileEntry] = []
        self.interrupted = False

    def do_all(self, progress: Progress | None) -> None:
        try:
            for source, target in self.plan:
                self.entries.append(self._do(source, target))
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
        manifest = self.anonymizer.bundle.manifest
        engine = self.anonymizer.engine
        return BatchReport(
            settings=self.settings,
            bundle={
                "name": manifest.name,
                "domain": asdict(manifest.domain),
                "license": manifest.license,
                "package_version": manifest.package_version,
                "created": manifest.created,
            },
            engine={
                "backend": engine.backend,
                "dtype": engine.dtype,
                "precision": self.anonymizer.precision,
                "device": str(self.anonymizer.device),
            },
            files=tuple(files),
            ledger=self.anonymizer.ledger.report(_measured(manifest) if self.default else None),
            persons=self.subjects.statement,
            sealed=None if self.sealer is None else SEALED,
            interrupted=self.interrupted,
        )

    def _do(self, source: Path, target: Path) -> FileEntry:
        try:
            if target.parent.is_dir():
                check_target(target, self.overwrite)
            if self.sealer is not None:
                self.sealer.check(target, self.overwrite)
            picture = read_image(source)
            subject = self.subjects.of(source, picture)
            result = self.anonymizer(
                picture, **self.settings, **subject.arguments(), recovery=self.recovery
            )
            self.subjects.done(subject)
        except Exception as error:
            return _refused(source, error)
        face = result.faces[0]
        try:
            # As late as possible: a picture that is refused leaves no empty folder behind.
            _make_folder(target.parent)
            write_image(target, result.image, self.overwrite)
            sealed = None
            if self.sealer is not None:
                sealed = self.sealer.write(target, picture, face, self.overwrite)
        except Exception as error:
            return _refused(source, error, face)
        drawn = _drawn(face) | {"seal": None if sealed is None else str(sealed)}
        return FileEntry(str(source), face.status, face.reason, str(target), **drawn)


def _measured(manifest: BundleManifest) -> str | None:
    """Re-identification as the makers of the bundle measured it; None if they did not."""
    figure = manifest.figures.get(_PROTECTION)
    if not isinstance(figure, dict):
        return None
    value, high, low, n = (figure.get(name) for name in ("value", "high", "low", "n"))
    numbers = [number for number in (value, high, low, n) if isinstance(number, (int, float))]
    if len(numbers) < 4:
        return None
    share, least, most = (f"{1 - number:.1%}" for number in numbers[:3])
    return (
        f"{share} accepted at a false accept rate of 0.001 (95% interval {least} to {most}, "
        f"n = {n}) on the bundle's test faces ({manifest.domain.kind}), not on these pictures"
    )


def _drawn(face: FaceResult) -> dict[str, Any]:
    return {
        "track": face.track,
        "epsilon": face.epsilon,
        "privacy": face.privacy,
        "similarity": face.similarity,
        "mechanism": dict(face.mechanism),
        "guarantee": dict(face.guarantee),
    }


def _refused(source: Path, error: Exception, face: FaceResult | None = None) -> FileEntry:
    """Nothing was written; a draw that was made stays in the ledger."""
    reason = str(error)
    if not isinstance(error, LReorgError):
        reason = f"an unexpected error ({type(error).__name__})"
        # No path and no text of the error: either may name a person.
        logger.error("a picture is refused: %s", reason)
    return FileEntry(str(source), "refused", reason, **({} if face is None else _drawn(face)))


def _left_out(skipped: Skipped) -> FileEntry:
    return FileEntry(str(skipped.path), "refused" if skipped.failure else "skipped", skipped.reason)


def _check_output(output: PathLike | None) -> None:
    if output is None:
        return
    path = Path(output)
    if path.suffix.lower() in ENCODERS and not path.is_dir():
        raise OutputError(f"the output '{path}' looks like a picture, but must be a folder")


def _prepare_report(report: Path, plan: OutputPlan, overwrite: bool) -> None:
    """Make sure that the report can be written before hours are spent on what it is about."""
    _make_folder(report.parent)
    check_target(report, overwrite)
    place = os.path.realpath(report)
    for path in (path for pair in plan for path in pair):
        if os.path.realpath(path) == place:
            raise OutputError(
                f"the report '{report}' would have the name of a picture of this run; choose "
                "another name"
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the folder '{folder}': {error.strerror or error}; choose another output"
        ) from error
