"""Videos, from file to file: find everybody, edit every frame, check what was written."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import lreorg_fast
from lreorg_fast.batch.work import SceneWork, describe_settings
from lreorg_fast.errors import (
    BudgetExceeded,
    LReorgError,
    NoFaceError,
    OutputError,
    PrivacyError,
    StuckError,
    VideoError,
)
from lreorg_fast.faces.detection import Detector
from lreorg_fast.faces.shots import Floats, Integers, cuts_of
from lreorg_fast.faces.track_plan import TrackPlan, plan_tracks
from lreorg_fast.files import atomic_file, check_target
from lreorg_fast.media.encoding import Encoding
from lreorg_fast.media.muxing import (
    check_target_container,
    check_written,
    result_suffix,
    write_video,
)
from lreorg_fast.media.segments import Segment
from lreorg_fast.media.video import VideoReader
from lreorg_fast.privacy import LedgerFile, Subjects
from lreorg_fast.scene import SceneAnonymizer, SceneSettings
from lreorg_fast.sealing import Sealer
from lreorg_fast.time_limit import TimeLimit
from lreorg_fast.video.checkpoint import Checkpoint, Found, fingerprint
from lreorg_fast.video.describing import describe, plain
from lreorg_fast.video.editing import Notes, SegmentEditor
from lreorg_fast.video.finding import find_faces
from lreorg_fast.video.people import agreed_people
from lreorg_fast.video.remarks import refuse_other_domain, warn
from lreorg_fast.video.report import VideoReport
from lreorg_fast.video.resuming import check_seal
from lreorg_fast.video.resuming import resumed as resumed_notes
from lreorg_fast.video.resuming import saved as saved_notes
from lreorg_fast.video.sealed import agreed_seals, write_seal
from lreorg_fast.video.settings import VideoSettings
from lreorg_fast.video.watching import Watcher

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.scene.attributes import PhotographAttributes
    from lreorg_fast.video.smoothing import CalmLatents

PathLike = str | os.PathLike[str]
# Called with the pass (``find``, ``edit``, ``write``), frames done, and frames in all (None where
# the container does not say).
Progress = Callable[[str, int, int | None], None]


def default_target(source: PathLike) -> Path:
    """``in.mp4`` -> ``in_anonymized.mp4``.

    A suffix that says nothing of the container is replaced by that of the content, and a container
    that is read only by Matroska.
    """
    path = Path(source)
    return path.with_name(f"{path.stem}_anonymized{result_suffix(path)}")


def anonymize_video(
    anonymizer: Anonymizer | None,
    detector: Detector,
    source: PathLike,
    target: PathLike | None = None,
    *,
    scene: SceneSettings | None = None,
    video: VideoSettings | None = None,
    attributes: PhotographAttributes | None = None,
    subjects: Subjects | None = None,
    sealer: Sealer | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    limit: TimeLimit | None = None,
    allow_no_face: bool = True,
) -> VideoReport:
    """Anonymize one video.

    Everybody in the clip is found first (detections from a low threshold on, linked forwards and
    backwards, gaps filled); then every known face of every frame is replaced or filled. What the
    encoder made of it is decoded and judged at once: a face that can still be seen is filled and
    the segment made again. One draw is held per person for the whole video. The target appears
    whole, after it was read back, or not at all.

    Args:
        anonymizer: networks and ledger; None is enough for ``pixelate`` and ``fill``. A
            :class:`lreorg_fast.privacy.LedgerFile` counts each person of the video by the file's
            content and the person's number, so the same video pays again in a later run.
        detector: see :func:`lreorg_fast.faces.detection.load_detector`.
        source: one local video file; its content decides, not its name.
        target: the result; its suffix decides the container. None is :func:`default_target`.
        scene: what is done to each picture.
        video: tracking, encoding, other streams, limits.
        attributes: see :class:`lreorg_fast.scene.SceneAnonymizer`.
        subjects: who is on the video; by default each track is a person of its own. The draw of a
            named person is held for all videos of these subjects.
        sealer: writes a seal beside the target; None, the default, writes none.
        resume: go on with an interrupted run to the same target.
        overwrite: replace an earlier result, and throw an interrupted run away.
        progress: called often.
        limit: one that several runs share; None makes one of ``video.face_timeout``.
        allow_no_face: write a video in which nobody is found.

    Returns:
        What became of everybody.

    Raises:
        NoFaceError: nobody was found, and that is not allowed.
        VideoError: the source is refused, or cannot be written as asked.
        OutputError: the target exists, or the file system fails; the work is kept for ``resume``.
        ConfigError, MissingExtra: settings or packages.
        PrivacyError: a face could not be hidden, so there is no result.
        StuckError: work on faces hung again and again; the work is kept for ``resume``.
    """
    place = default_target(source) if target is None else Path(target)
    asked = _Asked(scene or SceneSettings(), video or VideoSettings(), attributes, subjects, sealer)
    run = _Run(anonymizer, detector, Path(source), place, asked, progress, limit)
    check_target(place, overwrite)
    if sealer is not None:
        sealer.check(place, overwrite or resume)
    if os.path.realpath(place) == os.path.realpath(source):
        raise OutputError(f"the output '{place}' is the source; name another file")
    work = Checkpoint(place, run.identity(), resume, overwrite, run.label)
    try:
        report = run.do(work, overwrite, resume, allow_no_face)
    except (KeyboardInterrupt, OutputError, StuckError):
        if work.empty:
            work.remove()
        raise
    except BudgetExceeded:
        raise  # with another budget it can go on
    except (VideoError, PrivacyError):
        work.remove()  # it would end the same way again
        raise
    work.remove()
    return report


@dataclass(frozen=True)
class _Asked:
    """Arguments of :func:`anonymize_video`."""

    scene: SceneSettings
    video: VideoSettings
    attributes: PhotographAttributes | None
    subjects: Subjects | None
    sealer: Sealer | None


class _Run:
    """One video on its way."""

    def __init__(
        self,
        anonymizer: Anonymizer | None,
        detector: Detector,
        source: Path,
        target: Path,
        asked: _Asked,
        progress: Progress | None,
        limit: TimeLimit | None,
    ) -> None:
        self.anonymizer, self.source, self.target = anonymizer, source, target
        self.ledger = None if anonymizer is None else anonymizer.ledger
        self.pictures, self.settings, self.sealer = asked.scene, asked.video, asked.sealer
        self.tracking = self.settings.tracked(self.pictures.threshold)
        self.calm = self._calm()
        recovery = self.sealer is not None and self.sealer.recovery
        self.limit = limit or TimeLimit(self.settings.face_timeout)
        self.scene = SceneAnonymizer(
            anonymizer, detector, self.pictures, asked.attributes, self.calm, recovery, self.limit
        )
        self.work = SceneWork(self.scene, subjects=asked.subjects, sealer=self.sealer)
        self.filler = SceneAnonymizer(None, detector, SceneSettings(method="fill"))
        self.reader = VideoReader(source, self.settings.limits, self.settings.hwaccel)
        self.encoding = Encoding(self.reader.info, self.settings.encoder)
        check_target_container(target, self.reader, self.encoding, self.settings.streams)
        self._report = progress or (lambda stage, done, total: None)
        self.seconds: dict[str, float] = {}
        warn(self.reader.info, self.settings.streams, self.encoding)

    def _calm(self) -> CalmLatents | None:
        cutoff = self.settings.latent_cutoff
        if self.anonymizer is None or self.pictures.method != "reorganize" or not cutoff:
            return None
        from lreorg_fast.video.smoothing import CalmLatents  # torch

        return CalmLatents(cutoff)

    @cached_property
    def content(self) -> str:
        """SHA-256 of the source."""
        return fingerprint(self.source)

    @cached_property
    def label(self) -> str | None:
        """Under which a ledger file counts this content in every run, so that it pays again."""
        ledger = None if self.anonymizer is None else self.anonymizer.ledger
        if not isinstance(ledger, LedgerFile):
            return None
        return ledger.track_of("video", self.content.encode())

    def identity(self) -> dict[str, Any]:
        """What an interrupted run must have in common with the one that goes on."""
        bundle = self.anonymizer.bundle.manifest if self.anonymizer is not None else None
        return {
            "source": self.content,
            "ledger": self.label,  # one that did not count the draws so far must not go on
            "version": lreorg_fast.__version__,
            "method": asdict(self.pictures),
            "settings": plain(self.settings.deciding()),
            "bundle": None if bundle is None else [bundle.name, bundle.created],
            "encoder": [self.encoding.name, self.encoding.extradata.hex()],
            "seal": describe_settings(self.work).get("seal"),
        }

    def do(
        self, work: Checkpoint, overwrite: bool, resume: bool, allow_no_face: bool
    ) -> VideoReport:
        """Both passes, the writing and the last check."""
        with self._timed("find"):
            found = find_faces(
                self.reader,
                self.scene,
                self.tracking.low_threshold,
                self.settings.segment_frames,
                work,
                lambda done: self._report("find", done, self._expected()),
            )
            times = self._times(found)
            cuts = cuts_of(found.looks, times)
            plan = self._plan(found, times, cuts)
        if not plan.tracks and not found.blind and not allow_no_face:
            raise NoFaceError(
                "nothing was written, because somebody may have been missed; look at it, lower the "
                "threshold, or allow files without a face"
            )
        watcher = Watcher(self.scene, found.table)
        editor = SegmentEditor(
            self.reader,
            self.encoding,
            self.scene,
            self.filler,
            plan,
            frozenset(found.blind),
            work.label,
            self.calm,
            watcher,
            agreed_people(work, self.work.subjects, self.source, plan, times),
            agreed_seals(work, self.work, len(plan), self.settings.segment_frames),
        )
        with self._timed("edit"):
            segments, notes, resumed = self._edit(work, editor, plan)
        with self._timed("write"):
            self._report("write", 0, len(plan))
            sealed = self._write(work, segments, found, overwrite, resume)
            self._report("write", len(plan), len(plan))
        report = describe(self.work, self.settings, self.encoding, plan, notes, watcher, editor)
        for track in plan.tracks:
            self._forget(editor, track.track)
        return replace(
            report,
            source=str(self.source),
            target=str(self.target),
            seal=None if sealed is None else str(sealed),
            cuts=tuple(cuts.tolist()),
            resumed=resumed,
            seconds={name: round(value, 2) for name, value in self.seconds.items()},
        )

    def _plan(self, found: Found, times: Floats, cuts: Integers) -> TrackPlan:
        info = self.reader.info
        rate = None if info.rate is None else float(info.rate)
        return plan_tracks(found.table, times, info.size, self.tracking, rate, cuts)

    def _times(self, found: Found) -> Floats:
        """(frames,) seconds."""
        return found.times.astype(np.float64) * float(self.reader.info.time_base)

    def _edit(
        self, work: Checkpoint, editor: SegmentEditor, plan: TrackPlan
    ) -> tuple[list[Segment], list[Notes], int]:
        segments: list[Segment] = []
        notes: list[Notes] = []
        resumed = 0
        length = self.settings.segment_frames
        for number, start in enumerate(range(0, len(plan), length)):
            end = min(start + length, len(plan))
            done = work.segment(number) if resumed == number else None
            if done is not None:
                resumed += 1
                segment, content = done
                check_seal(work, number, content)
                made = resumed_notes(content, editor, self.ledger)
            else:
                segment, made = self._made(work, editor, plan, number, start, end)
            segments.append(segment)
            notes.append(made)
            if self.anonymizer is not None and self.pictures.method == "reorganize":
                refuse_other_domain(self.source, self.anonymizer.bundle.manifest, notes)
            self._report("edit", end, len(plan))
        return segments, notes, resumed

    def _made(
        self,
        work: Checkpoint,
        editor: SegmentEditor,
        plan: TrackPlan,
        number: int,
        start: int,
        end: int,
    ) -> tuple[Segment, Notes]:
        try:
            segment, made = editor.make(
                work, number, start, end, lambda done: self._report("edit", done, len(plan))
            )
        except OSError as error:
            if isinstance(error, LReorgError):
                raise
            raise OutputError(
                f"cannot write in '{work.folder}': {error.strerror or type(error).__name__}; make "
                "room and go on by --resume"
            ) from error
        content = saved_notes(made, editor, self.ledger)
        if self.sealer is not None:
            content["seal"] = work.seal_digest(number)
        work.save_segment(number, segment, content)
        for track in plan.tracks:  # who has left is not drawn for again
            if start <= track.last < end:
                self._forget(editor, track.track)
        return segment, made

    def _forget(self, editor: SegmentEditor, number: int) -> None:
        track = editor.track(number)
        if self.ledger is not None and not editor.named(number):
            self.ledger.forget(track)
        if self.calm is not None:
            self.calm.forget(track)

    def _write(
        self,
        work: Checkpoint,
        segments: list[Segment],
        found: Found,
        overwrite: bool,
        resume: bool,
    ) -> Path | None:
        """The result under a name of its own until it was read back and its seal written, then
        under its own name; returns the seal."""
        sealed: Path | None = None
        try:
            with atomic_file(self.target, overwrite) as stream:
                write_video(
                    stream,
                    self.target,
                    self.reader,
                    self.encoding,
                    segments,
                    found.durations,
                    self.settings.streams,
                )
                stream.flush()
                check_written(Path(stream.name), self.reader, segments, found.times)
                if self.sealer is not None:
                    # That of a run that was killed between the two files may be there.
                    sealed = write_seal(work, self.target, len(segments), overwrite or resume)
        except BaseException:
            if sealed is not None:
                sealed.unlink(missing_ok=True)
            raise
        return sealed

    # ---- small things

    def _expected(self) -> int | None:
        info = self.reader.info
        if info.expected_frames:
            return info.expected_frames
        if info.duration is not None and info.rate is not None:
            return round(info.duration * info.rate)
        return None

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start
