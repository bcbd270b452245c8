"""Whole videos in two passes: everybody is found first, then every frame is edited and checked."""

from __future__ import annotations

from lreorg_fast.video.anonymizer import anonymize_video, default_target
from lreorg_fast.video.files import VideoFiles
from lreorg_fast.video.report import TrackReport, VideoReport
from lreorg_fast.video.restoring import restore_video, restored_target
from lreorg_fast.video.settings import VideoSettings
from lreorg_fast.video.verify import VerifyReport, verify_pair

__all__ = [
    "TrackReport",
    "VerifyReport",
    "VideoFiles",
    "VideoReport",
    "VideoSettings",
    "anonymize_video",
    "default_target",
    "restore_video",
    "restored_target",
    "verify_pair",
]
