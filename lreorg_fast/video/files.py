"""Videos that lie among pictures: the same settings, and an entry each in the report of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lreorg_fast.batch.report import FileEntry, FileStatus
from lreorg_fast.batch.work import SceneWork
from lreorg_fast.errors import NoFaceError
from lreorg_fast.result import privacy_of
from lreorg_fast.video.anonymizer import anonymize_video
from lreorg_fast.video.describing import plain
from lreorg_fast.video.report import VideoReport
from lreorg_fast.video.settings import VideoSettings

# Called with the video, the pass, frames done, and frames in all (None where nobody knows).
FileProgress = Callable[[Path, str, int, int | None], None]
# What the report of the run says once for all of its files.
_SAID_ONCE = ("package_version", "settings", "bundle", "engine", "ledger", "persons")


class VideoFiles:
    """A :class:`lreorg_fast.batch.VideoWork`.

    Args:
        work: what is done to the pictures beside the videos: scene, time limit, people, seals.
        settings: of videos.
        progress: called often.
    """

    def __init__(
        self,
        work: SceneWork,
        settings: VideoSettings | None = None,
        progress: FileProgress | None = None,
    ) -> None:
        self._work = work
        self._settings = settings or VideoSettings()
        self._progress = progress or (lambda source, stage, done, total: None)

    @property
    def settings(self) -> Mapping[str, Any]:
        """See :class:`lreorg_fast.batch.VideoWork`."""
        return plain(self._settings.deciding())

    def __call__(self, source: Path, target: Path, overwrite: bool, resume: bool) -> FileEntry:
        """See :class:`lreorg_fast.batch.VideoWork`."""
        scene = self._work.scene
        try:
            report = anonymize_video(
                scene.anonymizer,
                scene.detector,
                source,
                target,
                scene=scene.settings,
                video=self._settings,
                attributes=scene.attributes,
                subjects=self._work.subjects,
                sealer=self._work.sealer,
                resume=resume,
                overwrite=overwrite,
                progress=lambda stage, done, total: self._progress(source, stage, done, total),
                limit=scene.limit,
                allow_no_face=self._work.allow_no_face,
            )
        except NoFaceError as error:
            return FileEntry(str(source), "no face found", str(error))
        return _entry(report, scene.settings.method)


def _entry(report: VideoReport, method: str) -> FileEntry:
    status, reason = _status(report, covers=method in ("pixelate", "fill"))
    epsilon = max((track.epsilon for track in report.tracks), default=0.0)
    content = report.to_dict()
    return FileEntry(
        report.source,
        status,
        reason,
        report.target,
        epsilon=epsilon,
        seal=report.seal,
        privacy=privacy_of(epsilon) if method == "reorganize" and report.tracks else None,
        video={name: value for name, value in content.items() if name not in _SAID_ONCE},
    )


def _status(report: VideoReport, covers: bool) -> tuple[FileStatus, str | None]:
    reasons = [f"{report.blanked} of {report.frames} frames blanked"] if report.blanked else []
    filled = sum(track.seen_filled for track in report.tracks)
    if filled:
        told = sorted({reason for track in report.tracks for reason in track.reasons})
        reasons.append(f"{filled} of {report.faces} faces filled: {'; '.join(told)}")
    if not report.complete:
        return "filled", "; ".join(reasons)
    if not report.tracks:
        return "no face found", "written with the same pictures, without remarks"
    return ("covered" if covers else "replaced"), None
