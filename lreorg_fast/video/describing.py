"""From the notes of all segments to the report of a video."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from lreorg_fast.batch.work import (
    SceneWork,
    describe_bundle,
    describe_engine,
    describe_ledger,
    describe_settings,
)
from lreorg_fast.faces.track_plan import TrackPlan, TrackSummary
from lreorg_fast.media.encoding import Encoding
from lreorg_fast.video.editing import Notes, SegmentEditor
from lreorg_fast.video.report import PERSONS, TrackReport, VideoReport
from lreorg_fast.video.settings import VideoSettings
from lreorg_fast.video.watching import Watcher


def describe(
    pictures: SceneWork,
    settings: VideoSettings,
    encoding: Encoding,
    plan: TrackPlan,
    notes: list[Notes],
    watcher: Watcher,
    editor: SegmentEditor,
) -> VideoReport:
    """Everything but the names of the files and the times."""
    tracks = tuple(
        _track(summary, editor.track(summary.track), notes, watcher) for summary in plan.tracks
    )
    return VideoReport(
        source="",
        target="",
        frames=len(plan),
        faces=sum(track.seen + track.between for track in tracks),
        exposed=0,  # SegmentEditor.make raises else
        corrected=sum(made.corrected for made in notes),
        blanked=sum(made.blanked for made in notes),
        dropped=plan.dropped,
        tracks=tracks,
        streams=settings.streams.described(encoding.info),
        encoding={
            "codec": encoding.name,
            "quality": encoding.quality,
            "pixel_format": encoding.pixel_format,
        },
        settings=describe_settings(pictures) | {"video": plain(settings)},
        bundle=describe_bundle(pictures),
        engine=describe_engine(pictures),
        ledger=describe_ledger(pictures),
        persons=pictures.subjects.statement if pictures.subjects.named else PERSONS,
    )


def _track(summary: TrackSummary, name: str, notes: list[Notes], watcher: Watcher) -> TrackReport:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for made in notes:
        counts += made.faces.get(summary.track, Counter())
        reasons += made.reasons.get(summary.track, Counter())
    return TrackReport(
        track=name,
        first=summary.first,
        last=summary.last,
        seen=summary.seen,
        between=summary.filled,
        replaced=counts["replaced"],
        filled=counts["filled"],
        pixelated=counts["pixelated"],
        seen_filled=counts["seen_filled"],
        reasons=dict(reasons),
        epsilon=max((made.epsilon.get(summary.track, 0.0) for made in notes), default=0.0),
        score=summary.score,
        flicker=watcher.of(summary.track),
    )


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass of settings, JSON-able."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(settings).items()
    }
