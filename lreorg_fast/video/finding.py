"""The first pass: everybody who is in the clip, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lreorg_fast.errors import ImageError, LReorgError
from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.shots import LOOK, Looks, look_of
from lreorg_fast.faces.track_plan import DetectionTable
from lreorg_fast.log import logger
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.video import SourceFrame, VideoReader
from lreorg_fast.scene import SceneAnonymizer
from lreorg_fast.video.checkpoint import Checkpoint, Found

# More faces in one frame than any picture shows: the detector has failed.
_MOST_FACES = 512


def find_faces(
    reader: VideoReader,
    scene: SceneAnonymizer,
    low_threshold: float,
    segment_frames: int,
    work: Checkpoint,
    progress: Callable[[int], None],
) -> Found:
    """Detections of every frame, in stretches of ``segment_frames`` that are saved when done.

    A frame whose detector fails is noted as blind, and no frame is ever without an answer.

    Raises:
        VideoError: the source is damaged, or beyond the limits.
        StuckError: the detector hangs again and again.
    """
    parts: list[Found] = []
    while (done := work.found(len(parts))) is not None:
        parts.append(done)
    start = sum(len(part.times) for part in parts)
    ended = bool(parts) and len(parts[-1].times) < segment_frames
    if not ended:
        frames = reader.frames(start)
        while True:
            found = _stretch(frames, reader, scene, low_threshold, segment_frames, progress)
            work.save_found(len(parts), found)
            parts.append(found)
            if len(found.times) < segment_frames:
                break
    return Found.joined(parts)


def _stretch(
    frames: Iterator[SourceFrame],
    reader: VideoReader,
    scene: SceneAnonymizer,
    low_threshold: float,
    most: int,
    progress: Callable[[int], None],
) -> Found:
    rows: list[list[Detection]] = []
    looks: list[Looks] = []
    times: list[int] = []
    durations: list[int] = []
    blind: list[int] = []
    while len(times) < most and (frame := next(frames, None)) is not None:
        picture = frame.picture(reader.info.orientation)
        looks.append(look_of(picture))
        found = _detected(scene, picture, low_threshold)
        if found is None:
            scene.limit.check()
            blind.append(frame.number)
        rows.append(found or [])
        times.append(frame.pts)
        durations.append(frame.duration)
        progress(frame.number + 1)
    return Found(
        DetectionTable.of_frames(rows),
        np.array(times, dtype=np.int64),
        np.array(durations, dtype=np.int64),
        tuple(blind),
        np.array(looks, dtype=np.uint8).reshape(-1, LOOK),
    )


def _detected(
    scene: SceneAnonymizer, picture: Picture, low_threshold: float
) -> list[Detection] | None:
    """None where nothing is known: the frame can only be shown blank."""
    try:
        found = scene.detect(picture, low_threshold)
        if len(found) > _MOST_FACES:
            raise ImageError(f"the detector found {len(found)} faces in one frame")
    except (LReorgError, RuntimeError, ValueError, OSError, MemoryError, ArithmeticError) as error:
        logger.error("a frame is blanked: the detector failed (%s)", type(error).__name__)
        return None
    return found
