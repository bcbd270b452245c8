"""Videos among the files of a run: whatever makes them is handed in from above."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lreorg_fast.batch.report import FileEntry

NO_VIDEOS = (
    "it is a video, whose frames are no aligned faces; anonymize it in a run of whole pictures "
    "(--faces scene)"
)


class VideoWork(Protocol):
    """Makes videos with the settings of the pictures beside them."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of videos only, for the report and the check of a resumed run."""

    def __call__(self, source: Path, target: Path, overwrite: bool, resume: bool) -> FileEntry:
        """One video; what is written is whole.

        Args:
            source, target: files; the target's folder exists.
            overwrite: replace an earlier result, and throw an interrupted run away.
            resume: go on with an interrupted run to the same target.

        Raises whatever stands in the way; then nothing was written under the target's name.
        """
