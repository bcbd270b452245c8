"""Streams for programs: an iterator of frames in, an iterator of frames out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.live.ordered import InOrder
from lreorg_fast.live.processor import FrameProcessor, Shown, Tracker
from lreorg_fast.log import once
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene import SceneAnonymizer

DEFAULT_TIMEOUT = 30.0
DEFAULT_HOLD = 2.0


@dataclass(frozen=True)
class StreamSettings:
    """How a stream runs, whatever it shows.

    Args:
        timeout: seconds that one frame may take, above 0; None is no limit. A frame that takes
            longer comes out blank. The next one waits for it as long again, then it and those
            behind it are blank, at once, until it is done.
        hold: seconds for which a face that is not found any more stays covered, at least 0.
        buffer: most frames that are under way, at least 1: taken in and not given out yet.
        rate: frames per second that the frames stand for, above 0: the measure of ``hold`` and of
            the tracker's motion.

    Raises:
        ConfigError: out of range.
    """

    timeout: float | None = DEFAULT_TIMEOUT
    hold: float = DEFAULT_HOLD
    buffer: int = 2
    rate: float = 30.0

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise ConfigError(f"timeout is {self.timeout}, but must be above 0; None is no limit")
        if not 0 <= self.hold < float("inf"):
            raise ConfigError(f"hold is {self.hold}, but must be at least 0 seconds")
        if not isinstance(self.buffer, int) or self.buffer < 1:
            raise ConfigError(f"buffer is {self.buffer!r}, but must be at least 1 frame")
        if not 0 < self.rate < float("inf"):
            raise ConfigError(f"rate is {self.rate}, but must be above 0 frames per second")


def stream(
    scene: SceneAnonymizer,
    frames: Iterable[Picture],
    settings: StreamSettings | None = None,
    *,
    tracker: Tracker | None = None,
    report: Callable[[Shown], None] | None = None,
) -> Iterator[Picture]:
    """Anonymize frames as they come; one comes out for each that goes in, in order.

    The frames are taken in a thread of their own, and processed in another, while the caller works
    with the one before. A frame that cannot be processed comes out blank, never as it was.

    Args:
        scene: finds and replaces faces.
        frames: (H, W, 3) uint8 RGB each; a frame may be overwritten once the next one is asked
            for. It is closed with the stream if it is a generator.
        settings: time-out, hold, buffer.
        tracker: of this stream alone; None is :func:`default_tracker`.
        report: called in the caller's thread with what became of each frame, before it comes out.

    Returns:
        A generator of new arrays; ``close()`` ends its threads.

    Raises:
        ImageError: a frame is no picture; after the results of the frames before it.
        MissingExtra: no tracker is given, and the package for the default one is missing.
    """
    settings = settings or StreamSettings()
    if tracker is None:
        tracker = default_tracker(scene, settings.hold, settings.rate)
    processor = FrameProcessor(scene, tracker, settings.hold)
    return _stream(processor, frames, settings, report)


def default_tracker(scene: SceneAnonymizer, hold: float, rate: float) -> Tracker:
    """ByteTrack for one stream.

    Raises:
        MissingExtra: the package ``trackers`` is not installed.
    """
    from lreorg_fast.faces.tracking import OnlineTracker, TrackingSettings

    threshold = scene.settings.threshold  # what the detector gives is a face
    return OnlineTracker(TrackingSettings(threshold, threshold, min(hold, 60.0)), rate)


def _stream(
    processor: FrameProcessor,
    frames: Iterable[Picture],
    settings: StreamSettings,
    report: Callable[[Shown], None] | None,
) -> Iterator[Picture]:
    line = InOrder(
        lambda item: processor(item[0], item[1]),
        _numbered(frames, settings.rate),
        lambda item, reason: processor.blank(item[0], reason),
        timeout=settings.timeout,
        grace=settings.timeout or 0.0,
        buffer=settings.buffer,
    )
    with contextlib.closing(line):
        for shown in line:
            if shown.reason is not None:
                once(f"blank: {shown.reason}", f"frames of a stream are blank: {shown.reason}")
            if report is not None:
                report(shown)
            yield shown.picture


def _numbered(frames: Iterable[Picture], rate: float) -> Iterator[tuple[Picture, float]]:
    """Each frame as a copy, because a caller may use one buffer for all, with its time.

    What is no picture fails in the scene's own check, twice: it can be blanked no more than
    processed, which is an error of the stream.
    """
    frames = iter(frames)
    try:
        for number, frame in enumerate(frames):
            yield np.array(frame), number / rate
    finally:
        close = getattr(frames, "close", None)
        if close is not None:
            close()
