"""The second pass over one segment: edit, encode, decode again, judge; repeat until nobody is seen.

Frames wait for their check as crops around their faces, so memory holds as many as the encoder
looks ahead, whatever the length of the video.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from lreorg_fast.errors import LateError, PrivacyError
from lreorg_fast.faces.track_plan import PlannedFace, TrackPlan
from lreorg_fast.log import logger
from lreorg_fast.media.encoding import Encoding
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.segments import Segment, SegmentEncoder
from lreorg_fast.media.video import SourceFrame, VideoReader, to_rgb
from lreorg_fast.privacy import Subject
from lreorg_fast.privacy.randomness import Sampler
from lreorg_fast.scene import KnownFace, SceneAnonymizer, SceneFace, SceneResult
from lreorg_fast.video.checking import FaceCheck
from lreorg_fast.video.checkpoint import Checkpoint
from lreorg_fast.video.sealed import SegmentSeal, VideoSealer

if TYPE_CHECKING:
    from lreorg_fast.video.smoothing import CalmLatents

CORRECTED = "the encoded picture failed the check"
# Fill what failed, then blank the frames that failed again; more would not help.
_ATTEMPTS = 3
Watch = Callable[[int, list[FaceCheck], Picture], None]


@dataclass
class Notes:
    """What became of the faces of one segment, by number of the track.

    Attributes:
        faces: counts by status, with ``seen_filled``.
        reasons: counts of fills by reason.
        corrected: faces that were filled because their encoded picture failed the check.
        blanked: frames filled as a whole.
        epsilon: what the draws of the tracks cost.
    """

    faces: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    corrected: int = 0
    blanked: int = 0
    epsilon: dict[int, float] = field(default_factory=dict)

    def take(self, planned: PlannedFace, face: SceneFace) -> None:
        """One face of one frame."""
        self.faces[planned.track][face.status] += 1
        if face.reason is not None:
            self.reasons[planned.track][face.reason] += 1
            self.faces[planned.track]["seen_filled"] += planned.kind == "seen"
        if face.result is not None:
            before = self.epsilon.get(planned.track, 0.0)
            self.epsilon[planned.track] = max(before, face.result.epsilon)


@dataclass
class _Doubtful:
    """What failed the check so far in a segment: faces to fill, frames to blank."""

    faces: set[tuple[int, int]] = field(default_factory=set)  # (frame, track)
    frames: set[int] = field(default_factory=set)

    def learn(self, failures: set[tuple[int, int]]) -> None:
        """A face that fails although it was filled takes its frame with it."""
        again = failures & self.faces
        self.frames |= {frame for frame, _ in again}
        self.faces |= failures


class SegmentEditor:
    """Makes the segments of one video.

    Args:
        reader, encoding: of the source.
        scene: edits the pictures and judges them.
        filler: a scene that fills every face.
        plan: everybody in every frame.
        blind: frames of which nothing is known.
        label: tracks that nobody named are ``label-number`` in the ledger.
        people: number of a track -> who it is, of those that are named.
        seals: makes a seal for each segment; None makes none.
        calm: smooths latents; None for methods without.
        watch: called with (frame, checks, shown picture) for statistics.
    """

    def __init__(
        self,
        reader: VideoReader,
        encoding: Encoding,
        scene: SceneAnonymizer,
        filler: SceneAnonymizer,
        plan: TrackPlan,
        blind: frozenset[int],
        label: str,
        calm: CalmLatents | None,
        watch: Watch,
        people: Mapping[int, Subject] | None = None,
        seals: VideoSealer | None = None,
    ) -> None:
        self._reader, self._encoding = reader, encoding
        self._scene, self._filler = scene, filler
        self._plan, self._blind, self._label = plan, blind, label
        self._calm, self._watch = calm, watch
        self._people, self._seals = people or {}, seals
        self._frames: Iterator[SourceFrame] = iter(())
        self._next = -1

    def track(self, number: int) -> str:
        """The name of a track in the ledger."""
        subject = self._people.get(number)
        return f"{self._label}-{number}" if subject is None else str(subject.track)

    def named(self, number: int) -> bool:
        """Whether the person of a track is named: then the draw is held for all of the run."""
        return number in self._people

    def _known(self, planned: Sequence[PlannedFace]) -> list[KnownFace]:
        return [
            KnownFace(face.detection, self.track(face.track), self._sampler(face.track))
            for face in planned
        ]

    def _sampler(self, number: int) -> Sampler | None:
        subject = self._people.get(number)
        return None if subject is None else subject.sampler

    def make(
        self, work: Checkpoint, number: int, start: int, end: int, progress: Callable[[int], None]
    ) -> tuple[Segment, Notes]:
        """Frames ``start`` to ``end`` as a segment in which nobody can be seen, and its seal.

        Raises:
            PrivacyError: a face is still seen when it was filled and its frame blanked.
            VideoError, OSError: the source is damaged, the encoder or the file system fails.
            StuckError: work on faces hangs again and again.
        """
        doubtful = _Doubtful()
        path = work.segment_path(number)
        for _ in range(_ATTEMPTS):
            with path.open("wb") as stream, self._seal(work, number) as sealed:
                encoder = SegmentEncoder(self._encoding, stream)
                run = _Run(self, doubtful, encoder, start, sealed)
                for frame in self._source(start, end):
                    run.frame(frame)
                    self._scene.limit.check()
                    progress(frame.number + 1)
                segment = run.finish(path, stream)
            if not run.failures:
                run.notes.corrected = len(doubtful.faces)
                return segment, run.notes
            logger.warning("%d faces failed the check after encoding", len(run.failures))
            doubtful.learn(run.failures)
        raise PrivacyError(
            f"{len(run.failures)} faces could still be seen after encoding, so nothing is "
            "released; choose a better quality or the method 'fill'"
        )

    @contextlib.contextmanager
    def _seal(self, work: Checkpoint, number: int) -> Iterator[SegmentSeal | None]:
        if self._seals is None:
            yield None
            return
        with work.seal_path(number).open("wb") as stream:
            yield self._seals.section(number, stream)

    def _source(self, start: int, end: int) -> Iterator[SourceFrame]:
        if self._next != start:
            self._frames = self._reader.frames(start)
        for self._next in range(start + 1, end + 1):
            frame = next(self._frames, None)
            if frame is None:
                raise PrivacyError("the source became shorter while it was read; start anew")
            yield frame

    def edited(self, frame: SourceFrame, picture: Picture, doubtful: _Doubtful) -> SceneResult:
        """The frame with everybody in it replaced or filled; whole if nothing is known of it."""
        planned = self._plan[frame.number]
        known = self._known(planned)
        if frame.number in self._blind or frame.number in doubtful.frames:
            return self._blank(picture, known, "nothing is known of the frame")
        fill = [(frame.number, face.track) in doubtful.faces for face in planned]
        if self._calm is not None:
            self._calm.time = float(frame.pts * self._reader.info.time_base)
        try:
            return self._both(picture, known, fill)
        except Exception as error:
            logger.error("a frame is blanked (%s)", type(error).__name__)
            return self._blank(picture, known, f"an error ({type(error).__name__})")

    def _both(self, picture: Picture, known: list[KnownFace], fill: list[bool]) -> SceneResult:
        result = self._scene.replace(
            picture, [face for face, solid in zip(known, fill, strict=True) if not solid]
        )
        if not any(fill):
            return result
        solid = [face for face, wanted in zip(known, fill, strict=True) if wanted]
        filled = self._filler.replace(result.image, solid)
        made, again = iter(result.faces), iter(filled.faces)
        faces = tuple(
            replace(next(again), status="filled", reason=CORRECTED) if wanted else next(made)
            for wanted in fill
        )
        return SceneResult(filled.image, faces)

    def _blank(self, picture: Picture, known: list[KnownFace], reason: str) -> SceneResult:
        faces = (SceneFace(face.detection, face.track, "filled", reason) for face in known)
        return SceneResult(self._scene.blank(picture), tuple(faces))


class _Run:
    """One attempt at one segment."""

    def __init__(
        self,
        editor: SegmentEditor,
        doubtful: _Doubtful,
        encoder: SegmentEncoder,
        start: int,
        sealed: SegmentSeal | None,
    ) -> None:
        self._editor, self._doubtful, self._encoder = editor, doubtful, encoder
        self._start, self._sealed = start, sealed
        self._waiting: dict[int, tuple[int, list[FaceCheck]]] = {}
        self.failures: set[tuple[int, int]] = set()
        self.notes = Notes()

    def frame(self, frame: SourceFrame) -> None:
        editor = self._editor
        picture = frame.picture(editor._reader.info.orientation)
        result = editor.edited(frame, picture, self._doubtful)
        faces = list(zip(editor._plan[frame.number], result.faces, strict=True))
        for planned, face in faces:
            self.notes.take(planned, face)
        blanked = bool((result.image == result.image[0, 0]).all())
        self.notes.blanked += blanked
        if self._sealed is not None:
            numbered = [(planned.track, face) for planned, face in faces]
            self._sealed.frame(frame.number - self._start, picture, numbered, blanked)
        checks = [
            FaceCheck.of_face(face, picture, result.image, planned.track) for planned, face in faces
        ]
        self._waiting[frame.pts] = (frame.number, [check for check in checks if check is not None])
        self._judge(self._encoder.add(editor._encoding.frame(frame, picture, result.image)))

    def finish(self, path: Any, stream: BinaryIO) -> Segment:
        segment, shown = self._encoder.finish(path)
        self._judge(shown)
        stream.flush()
        if self._sealed is not None:
            self._sealed.finish(segment.shown)
        if self._waiting:
            raise PrivacyError("frames were lost by the encoder, so nothing can be checked")
        return segment

    def _judge(self, shown: list[Any]) -> None:
        editor = self._editor
        for raw in shown:
            number, checks = self._waiting.pop(raw.pts)
            if not checks:
                continue
            picture = editor._reader.info.orientation.upright(to_rgb(raw))
            for check in checks:
                if check.doubt(editor._scene, picture) is not None:
                    self.failures.add((number, check.number))
            # A statistic that is late is one number less in the report.
            with contextlib.suppress(LateError):
                editor._scene.limit(
                    partial(editor._watch, number, checks, picture), "a statistic", len(checks)
                )
