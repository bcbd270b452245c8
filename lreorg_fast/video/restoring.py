"""Videos back from their seals: every face that can come back, in every frame, or nothing.

Two passes over the output. The first opens every section and compares it with what the video
shows; only then is the first face put back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lreorg_fast.errors import LReorgError, OutputError, SealError
from lreorg_fast.files import atomic_file, check_target
from lreorg_fast.media.encoding import EncoderSettings, Encoding
from lreorg_fast.media.muxing import (
    StreamPolicy,
    check_target_container,
    check_written,
    write_video,
)
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.segments import Segment, SegmentEncoder, update_with_samples
from lreorg_fast.media.video import SourceFrame, VideoLimits, VideoReader
from lreorg_fast.privacy.keys import PrivateKey
from lreorg_fast.privacy.seal_sets import SetHeader, check_end
from lreorg_fast.scene.sealed import SealedCrop, SealedFace
from lreorg_fast.sealing import seal_path
from lreorg_fast.video.sealed import Item, opened_segment

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer

# Called with the pass (``check``, ``restore``, ``write``), frames done, and frames in all (None
# before they are counted).
Progress = Callable[[str, int, int | None], None]
PathLike = str | os.PathLike[str]


def restored_target(output: PathLike) -> Path:
    """``out.mp4`` -> ``out_restored.mp4``."""
    path = Path(output)
    return path.with_name(f"{path.stem}_restored{path.suffix}")


def restore_video(
    output: PathLike,
    key: PrivateKey,
    anonymizer: Callable[[], Anonymizer],
    target: PathLike | None = None,
    *,
    seal_file: PathLike | None = None,
    encoder: EncoderSettings | None = None,
    limits: VideoLimits | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> str:
    """Bring the people of one anonymized video back.

    The result is encoded again, so that even exact pixels come back as the encoder makes them.
    Sound, subtitles and data are those of the output.

    Args:
        output: the video, as it was written; its decoded frames count, not its container.
        key: private key of the pair that it was sealed for.
        anonymizer: makes the one with the bundle that made the output; called only for the kind
            ``feature``.
        target: the result; None is :func:`restored_target`.
        seal_file: the seal; None is the one beside the output.
        encoder: codec and quality of the result.
        limits: of what is decoded.
        overwrite: replace an earlier result.
        progress: called often.

    Returns:
        The kind of the seal.

    Raises:
        SealError: no seal, or it does not belong to this video and key; nothing was written.
        VideoError: the output is refused, or the result cannot be written.
        OutputError: the target exists, or the file system fails.
    """
    place = restored_target(output) if target is None else Path(target)
    check_target(place, overwrite)
    if os.path.realpath(place) == os.path.realpath(output):
        raise OutputError(f"'{place}' is the output itself; name another file")
    reader = VideoReader(output, limits)
    encoding = Encoding(reader.info, encoder)
    policy = StreamPolicy(data="keep")
    check_target_container(place, reader, encoding, policy)
    told = progress or (lambda stage, done, total: None)
    path = seal_path(output) if seal_file is None else Path(seal_file)
    with _opened(path) as seal:
        checked = _check(reader, seal, key, lambda done: told("check", done, None))
        network = anonymizer() if checked.header.kind == "feature" else None
        total = len(checked.times)
        with _folder(place) as folder, open(folder / "segment", "xb") as stream:
            coder = SegmentEncoder(encoding, stream)
            for done, (frame, faces) in enumerate(_matched(reader, seal, key, checked), start=1):
                picture = frame.picture(reader.info.orientation)
                coder.add(encoding.frame(frame, picture, _restored(picture, faces, network)))
                told("restore", done, total)
            segment, _ = coder.finish(folder / "segment")
            stream.flush()
            told("write", 0, total)
            _write(place, reader, encoding, segment, checked, policy, overwrite)
            told("write", total, total)
    return checked.header.kind


def _write(
    target: Path,
    reader: VideoReader,
    encoding: Encoding,
    segment: Segment,
    checked: _Checked,
    policy: StreamPolicy,
    overwrite: bool,
) -> None:
    times, durations = (np.array(v, np.int64) for v in (checked.times, checked.durations))
    with atomic_file(target, overwrite) as stream:
        write_video(stream, target, reader, encoding, [segment], durations, policy)
        stream.flush()
        check_written(Path(stream.name), reader, [segment], times)


@dataclass(frozen=True)
class _Checked:
    """What the first pass found: the header, the digest of each segment, and times of frames."""

    header: SetHeader
    digests: Sequence[bytes]
    times: Sequence[int]
    durations: Sequence[int]

    def frames_of(self, number: int) -> int:
        """Of a segment; the last one may be shorter."""
        return min(self.header.span, len(self.times) - number * self.header.span)


def _check(
    reader: VideoReader, seal: BinaryIO, key: PrivateKey, progress: Callable[[int], None]
) -> _Checked:
    header = SetHeader.read(seal)
    if header.medium != "video":
        raise SealError("the seal is of a picture, but the output is a video; give its own")
    digests: list[bytes] = []
    checked = _Checked(header, digests, times := [], durations := [])
    frames = reader.frames()
    for number in range(header.count):
        digest = hashlib.sha256()
        for frame in islice(frames, header.span):
            update_with_samples(digest, frame.raw)
            times.append(frame.pts)
            durations.append(frame.duration)
            progress(len(times))
        digests.append(digest.digest())
        size = checked.frames_of(number)
        if size < 1:
            raise _other_video()
        for _ in opened_segment(seal, header, number, size, key, digests[-1]):
            pass
    check_end(seal)
    if next(frames, None) is not None:
        raise _other_video()
    return checked


def _matched(
    reader: VideoReader, seal: BinaryIO, key: PrivateKey, checked: _Checked
) -> Iterator[tuple[SourceFrame, list[SealedFace]]]:
    """Every frame with its faces; SealError if the video is not what was checked."""
    seal.seek(0)
    header = SetHeader.read(seal)
    frames = reader.frames()
    for number, shown in enumerate(checked.digests):
        size, digest = checked.frames_of(number), hashlib.sha256()
        items = opened_segment(seal, header, number, size, key, shown)
        faces = groupby((item for piece in items for item in piece), key=_frame)
        waiting = next(faces, None)
        for index, frame in enumerate(islice(frames, size)):
            update_with_samples(digest, frame.raw)
            here: list[SealedFace] = []
            if waiting is not None and waiting[0] == index:
                here = [face for _, face in waiting[1]]
                waiting = next(faces, None)
            yield frame, here
        if digest.digest() != shown or waiting is not None:
            raise _other_video()


def _frame(item: Item) -> int:
    return item[0]


def _restored(picture: Picture, faces: Sequence[SealedFace], network: Anonymizer | None) -> Picture:
    from lreorg_fast.scene.restoring import put_crops_back, put_features_back

    if not faces:
        return picture
    crops = [face for face in faces if isinstance(face, SealedCrop)]
    if crops or network is None:
        return put_crops_back(picture, crops)
    features = [face for face in faces if not isinstance(face, SealedCrop)]
    return put_features_back(network, picture, features)


def _other_video() -> SealError:
    return SealError(
        "the seal is of a video with another number of frames; give the output as it was written"
    )


def _opened(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            raise OSError("it is missing, or no file")
        return open(path, "rb")
    except OSError as error:
        raise SealError(
            f"cannot read the seal '{path}': {error.strerror or error}; put it beside the output"
        ) from error


@contextlib.contextmanager
def _folder(target: Path) -> Iterator[Path]:
    """Beside the target, readable by its owner only: what is encoded, until it has a container."""
    try:
        path = Path(tempfile.mkdtemp(prefix=".lreorg-", dir=target.parent))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        if isinstance(error, LReorgError):
            raise
        raise OutputError(
            f"cannot write beside '{target}': {error.strerror or error}; make room"
        ) from error
