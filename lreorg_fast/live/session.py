"""A live run: a source, what is done to its frames, a sink, and what was counted.

Three threads beside the caller's: one reads, one processes, one writes. Each waits for no other
longer than agreed, so a slow or broken end costs frames, never the privacy step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.live.embedding import DEFAULT_HOLD, StreamSettings, default_tracker
from lreorg_fast.live.ordered import InOrder
from lreorg_fast.live.processor import FrameProcessor, Shown, Tracker
from lreorg_fast.live.reader import Reader, ReaderSettings, Taken
from lreorg_fast.live.stats import LiveStats
from lreorg_fast.live.writer import Outgoing, Writer
from lreorg_fast.log import once
from lreorg_fast.media.live_sinks import Sink
from lreorg_fast.media.live_sources import Source
from lreorg_fast.scene import SceneAnonymizer

DEFAULT_TIMEOUT = 5.0
# Seconds for which the end of a run waits for the sink to take its last frames.
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class LiveSettings:
    """How a live run goes.

    Args:
        reader: what is dropped, when the picture turns black, how often is connected again.
        timeout, hold: see :class:`lreorg_fast.live.StreamSettings`.
        frames: end after so many frames out, at least 1; None is no end.
        interval: seconds between two reports of the counts, above 0; None is no report.

    Raises:
        ConfigError: out of range.
    """

    reader: ReaderSettings = field(default_factory=ReaderSettings)
    timeout: float | None = DEFAULT_TIMEOUT
    hold: float = DEFAULT_HOLD
    frames: int | None = None
    interval: float | None = None

    def __post_init__(self) -> None:
        StreamSettings(self.timeout, self.hold)
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"frames is {self.frames}, but must be at least 1")
        if self.interval is not None and not 0 < self.interval < float("inf"):
            raise ConfigError(f"interval is {self.interval}, but must be above 0 seconds")


class LiveSession:
    """One run from a source to a sink.

    Args:
        source, sink: see :mod:`lreorg_fast.media`; the sink is opened with the first frame.
        scene: finds and replaces faces.
        settings: how it goes.
        tracker: None is ByteTrack.
        report: called with the counts so far, every ``settings.interval`` seconds.
        clock: seconds that never go back.

    Raises:
        MissingExtra: there is no tracker.
    """

    def __init__(
        self,
        source: Source,
        scene: SceneAnonymizer,
        sink: Sink,
        settings: LiveSettings | None = None,
        *,
        tracker: Tracker | None = None,
        report: Callable[[LiveStats], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or LiveSettings()
        self._source, self._sink, self._clock, self._report = source, sink, clock, report
        if tracker is None:
            tracker = default_tracker(scene, self._settings.hold, source.rate)
        self._processor = FrameProcessor(scene, tracker, self._settings.hold)
        self._stats = LiveStats()
        self._reader: Reader | None = None
        self._writer: Writer | None = None
        self._first_written: float | None = None
        self._reported = clock()

    @property
    def stats(self) -> LiveStats:
        """What has been counted so far; a copy."""
        stats = replace(self._stats, reasons=self._stats.reasons.copy())
        if self._reader is not None:
            stats.received, stats.dropped = self._reader.received, self._reader.dropped
            stats.source_breaks = self._reader.breaks
        if self._writer is not None:
            stats.sink_breaks = self._writer.breaks
            stats.unwritten = self._writer.dropped
        return stats

    def run(self) -> LiveStats:
        """Go until the source ends, the window is closed, or Ctrl-C: that is a clean end too.

        Raises:
            VideoError: the source cannot be opened, or is lost for good.
            OutputError: the sink is.
        """
        reader = self._reader = Reader(self._source, self._settings.reader, self._clock)
        line = InOrder(
            self._process,
            reader,
            lambda taken, reason: (taken, self._failed(taken, reason)),
            timeout=self._settings.timeout,
            # A file can wait for a slow start; a camera goes on.
            grace=(self._settings.timeout or 0.0) if self._settings.reader.every else 0.0,
            # In step with the newest frame only one is under way; else the next is fetched already.
            buffer=2 if self._settings.reader.every else 1,
            clock=self._clock,
        )
        with self._ending(reader, line):
            try:
                for taken, shown in line:
                    if not self._out(taken, shown):
                        break
            except KeyboardInterrupt:
                pass
        return self.stats

    @contextlib.contextmanager
    def _ending(self, reader: Reader, line: InOrder[Taken, tuple[Taken, Shown]]) -> Iterator[None]:
        """End all threads; what is finished is written whatever has happened."""
        try:
            yield
        finally:
            reader.close()
            line.close()
            if self._writer is not None:
                self._writer.finish(_PATIENCE_S)

    def _process(self, taken: Taken) -> tuple[Taken, Shown]:
        if taken.picture is None:
            return taken, _black(taken)
        return taken, self._processor(taken.picture, taken.time)

    def _failed(self, taken: Taken, reason: str) -> Shown:
        if taken.picture is None:
            return _black(taken)
        return self._processor.blank(taken.picture, reason)

    def _out(self, taken: Taken, shown: Shown) -> bool:
        """Hand a frame to the writer; False at the end."""
        self._count(taken, shown)
        if self._writer is None:
            self._writer = Writer(
                self._sink, self._source.rate, self._settings.reader, self._written
            )
        going = self._writer.put(Outgoing(shown.picture, taken.time, taken.received))
        self._tick()
        stats = self._stats
        return going and stats.processed + stats.black != self._settings.frames

    def _count(self, taken: Taken, shown: Shown) -> None:
        stats = self._stats
        if taken.picture is None:
            stats.black += 1
            return
        stats.processed += 1
        stats.held += shown.held
        if shown.reason is not None:
            stats.blanked += 1
            stats.reasons[shown.reason] += 1
            once(f"blank: {shown.reason}", f"frames of a stream are blank: {shown.reason}")
        for face in shown.faces:
            setattr(stats, face.status, getattr(stats, face.status) + 1)

    def _written(self, frame: Outgoing) -> None:
        now = self._clock()
        if self._first_written is None:
            self._first_written = now
        self._stats.written += 1
        self._stats.seconds = now - self._first_written
        self._stats.latency.add(now - frame.received)

    def _tick(self) -> None:
        interval, now = self._settings.interval, self._clock()
        if self._report is not None and interval is not None and now - self._reported >= interval:
            self._reported = now
            self._report(self.stats)


def _black(taken: Taken) -> Shown:
    return Shown(np.zeros((taken.size[1], taken.size[0], 3), np.uint8))
