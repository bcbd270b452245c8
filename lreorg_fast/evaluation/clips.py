"""Two videos to tracks: who is on the source, and what judges say of both, face by face.

Nothing of the method is used: faces are found and followed in the source anew, and looked for in
the result at the same place. What comes out is measured by :func:`lreorg_fast.evaluation.temporal`.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.evaluation.contenders import Progress
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.judging import Stage, silent
from lreorg_fast.evaluation.measured import Evaluation, MethodResult
from lreorg_fast.evaluation.protocol import Judges, Observed, Recognizer
from lreorg_fast.evaluation.run import describe_judges, describe_run
from lreorg_fast.evaluation.temporal import TrackPair, temporal
from lreorg_fast.faces.detection import Detection, Detector
from lreorg_fast.faces.tracking import OnlineTracker, TrackingSettings
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.video import VideoLimits, VideoReader, container_of
from lreorg_fast.scene.settings import DEFAULT_THRESHOLD
from lreorg_fast.video.verify import frame_pairs
from lreorg_fast.video.watching import nearest

# A face in a frame takes about 8 kB: 3,000 frames with four faces 100 MB.
MOST_FRAMES = 3_000
_RATE = 25.0  # where the container states none; it is the measure of the tracker's motion only
_POINTS = 5
Cut = Callable[[Picture, Detection], Picture]
Domain = Literal["avatars", "photographs"]


def with_surroundings(picture: Picture, face: Detection) -> Picture:
    """A square of three times the face around the middle of its box, black beyond the picture.

    The judges of photographs find the largest face in it themselves.
    """
    middle = np.rint((face.box[:2] + face.box[2:]) / 2).astype(int)
    half = max(1, round(1.5 * face.size))
    low = middle - half
    made = np.zeros((2 * half, 2 * half, 3), dtype=np.uint8)
    size = np.array(picture.shape[1::-1])
    start, end = np.clip(low, 0, size), np.clip(low + 2 * half, 0, size)
    inside = picture[start[1] : end[1], start[0] : end[0]]
    left, top = start - low
    made[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return made


def evaluate_videos(
    source: str | os.PathLike[str],
    results: Sequence[str | os.PathLike[str]],
    detector: Detector,
    judges: Judges,
    domain: Domain,
    *,
    cut: Cut = with_surroundings,
    frames: int = MOST_FRAMES,
    stage: Stage = silent,
    command: str = "",
) -> Evaluation:
    """How calm each result is, beside the source.

    Args:
        source: a video of people.
        results: what methods made of it; each is called by its file's name.
        detector: finds faces.
        judges: whose recognizers look.
        domain: what the judges are for.
        cut, frames: see :func:`track_pairs`.
        stage: shows progress.
        command: that repeats this run, for the report.

    Raises:
        ConfigError: no results, or two of one name. Others as :func:`track_pairs`.
    """
    begun = time.monotonic()
    names = [Path(result).stem for result in results]
    if not names or len(set(names)) < len(names):
        raise ConfigError("name at least one result, and results by different file names")
    methods, people, seen = [], 0, 0
    for name, result in zip(names, results, strict=True):
        with stage(f"{name}: frames") as progress:

            def tell(done: int, total: int, progress: Progress = progress) -> None:
                nonlocal seen
                seen = done
                progress(done, total)

            tracks = track_pairs(
                source,
                result,
                detector,
                judges.recognizers,
                cut=cut,
                frames=frames,
                progress=tell,
            )
        people = max(people, len(tracks))
        measured = tuple(temporal(tracks, judges))
        described = f"a video, {len(tracks)} tracks in {seen} frames"
        methods.append(MethodResult(name, name, described, "none stated", str(result), measured))
    data = {
        "name": Path(source).name,
        "domain": domain,
        "pictures": seen,
        "subjects": people,
        "statement": (
            "Calm says nothing of protection: a face that is passed through is as calm as the "
            "source."
        ),
    }
    run = describe_run(command, time.monotonic() - begun)
    return Evaluation(data, describe_judges(judges), (), tuple(methods), run)


def track_pairs(
    source: str | os.PathLike[str],
    result: str | os.PathLike[str],
    detector: Detector,
    recognizers: Sequence[Recognizer],
    *,
    cut: Cut = with_surroundings,
    threshold: float = DEFAULT_THRESHOLD,
    frames: int = MOST_FRAMES,
    limits: VideoLimits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[TrackPair]:
    """Follow everybody through a video and what a method made of it.

    Args:
        source, result: two videos of one size, with the same frames.
        detector: finds faces in both.
        recognizers: look at each face in both.
        cut: what they are shown of a frame, given the face in the source.
        threshold: least score of a face.
        frames: only so many frames from the beginning are looked at.
        limits: of the videos.
        progress: called with frames done and frames in all, as far as the container tells.

    Returns:
        One pair per person, in the order of appearance.

    Raises:
        ConfigError: a threshold or number of frames out of range.
        VideoError: a file is refused or no video, or the two do not belong together.
        MissingExtra: without the packages that read videos and follow faces.
    """
    if not 1 <= frames <= MOST_FRAMES:
        raise ConfigError(f"frames is {frames}, but must be 1 to {MOST_FRAMES}")
    for path in (source, result):
        if container_of(Path(path)) is None:
            raise VideoError(f"'{path}' is no video; name two videos")
    info = VideoReader(Path(source), limits).info
    pace = _RATE if info.rate is None else float(info.rate)
    expected = min(frames, info.expected_frames or frames)
    tracker = OnlineTracker(TrackingSettings(threshold, threshold), pace)
    tracks: dict[int, _Track] = {}
    pairs = itertools.islice(frame_pairs(Path(source), Path(result), limits), frames)
    for number, pictures in enumerate(pairs):
        found = [detector(picture, threshold) for picture in pictures]
        for known in tracker.update(found[0], number / pace):
            face = nearest(known.detection, found[0]) if known.seen else None
            if face is None:
                continue
            sides = [r.embed([cut(picture, face) for picture in pictures]) for r in recognizers]
            track = tracks.setdefault(known.track, _Track())
            track.add(number, face, nearest(face, found[1]), sides)
        if progress is not None:
            progress(number + 1, max(number + 1, expected))
    return [track.pair([r.name for r in recognizers]) for track in tracks.values()]


@dataclass
class _Track:
    """One person, frame by frame."""

    frames: list[int] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    landmarks: tuple[list[Floats], list[Floats]] = field(default_factory=lambda: ([], []))
    rows: list[list[Floats]] = field(default_factory=list)  # of each frame: (2, D) by recognizer

    def add(
        self, number: int, before: Detection, after: Detection | None, rows: list[Floats]
    ) -> None:
        """``after`` is None where the result shows no face there."""
        self.frames.append(number)
        self.sizes.append(before.size)
        self.found.append(after is not None)
        nowhere = np.full((_POINTS, 2), np.nan)
        self.landmarks[0].append(before.landmarks)
        self.landmarks[1].append(nowhere if after is None else after.landmarks)
        self.rows.append(rows)

    def pair(self, names: Sequence[str]) -> TrackPair:
        """What :func:`lreorg_fast.evaluation.temporal` takes."""
        every = np.ones(len(self.frames), dtype=bool)
        found = (every, np.array(self.found))
        source, result = (
            Observed(
                every,
                {
                    name: np.stack([rows[i][side] for rows in self.rows])
                    for i, name in enumerate(names)
                },
                None,
                found[side],
                np.stack(self.landmarks[side]),
                {},
            )
            for side in (0, 1)
        )
        numbers = np.array(self.frames, dtype=np.int64)
        return TrackPair(numbers, source, result, np.array(self.sizes))
