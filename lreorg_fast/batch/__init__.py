"""Files and folders of pictures and videos, anonymized one by one with a report of every one."""

from __future__ import annotations

from lreorg_fast.batch.report import FILE_STATUSES, BatchReport, FileEntry
from lreorg_fast.batch.run import anonymize_files
from lreorg_fast.batch.videos import VideoWork
from lreorg_fast.batch.work import AlignedWork, AutoWork, Outcome, SceneWork, Work

__all__ = [
    "FILE_STATUSES",
    "AlignedWork",
    "AutoWork",
    "BatchReport",
    "FileEntry",
    "Outcome",
    "SceneWork",
    "VideoWork",
    "Work",
    "anonymize_files",
]
