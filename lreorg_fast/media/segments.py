"""A stretch of an encoded video as a file of its own: written, decoded again, checked by digest.

A segment holds the packets of one encoder from its first frame to its last, without a container,
so that a run can stop between two of them and go on later. What was written is decoded while it
is written: whoever encodes sees every frame once more, as a player will show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lreorg_fast.errors import VideoError
from lreorg_fast.media.encoding import Encoding, samples
from lreorg_fast.media.video import import_av

_BLOCK = 1 << 20


@dataclass(frozen=True)
class PacketRecord:
    """One packet of a segment, in the order of decoding.

    Attributes:
        pts: time stamp in units of the source's time base.
        key: decoding can start here.
        size: bytes.
    """

    pts: int
    key: bool
    size: int


@dataclass(frozen=True)
class Segment:
    """A finished segment.

    Attributes:
        path: file of the packets, one after another.
        packets: their index.
        digest: SHA-256 of the file, hexadecimal.
        shown: SHA-256 of the samples of all its frames as they are decoded, hexadecimal.
    """

    path: Path
    packets: tuple[PacketRecord, ...]
    digest: str
    shown: str

    def check(self) -> None:
        """Compare the file with its index, byte by byte.

        Raises:
            VideoError: it is missing, or not what was written.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with open(self.path, "rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
        except OSError as error:
            raise VideoError(
                f"the segment '{self.path}' cannot be read: {error.strerror or error}"
            ) from error
        if digest.hexdigest() != self.digest or size != sum(p.size for p in self.packets):
            raise VideoError(f"the segment '{self.path}' is not what was written")

    def read(self) -> Iterator[tuple[PacketRecord, bytes]]:
        """Every packet with its content.

        Raises:
            VideoError: the file is shorter than its index says.
        """
        with open(self.path, "rb") as stream:
            for record in self.packets:
                content = stream.read(record.size)
                if len(content) != record.size:
                    raise VideoError(f"the segment '{self.path}' is shorter than it was")
                yield record, content


class SegmentEncoder:
    """Encodes frames into a stream of packets and decodes each packet at once.

    Args:
        encoding: of the source.
        stream: takes the packets, one after another.
    """

    def __init__(self, encoding: Encoding, stream: BinaryIO) -> None:
        av = import_av()
        self._context = encoding.context()
        self._decoder = av.CodecContext.create(encoding.encoder.decoder, "r")
        self._decoder.extradata = encoding.extradata or None
        # One frame in, one frame out as far as the codec lets it: threads per frame would hold
        # as many back.
        self._decoder.thread_type = "SLICE"
        self._stream = stream
        self._packets: list[PacketRecord] = []
        self._digest, self._shown = hashlib.sha256(), hashlib.sha256()

    def add(self, frame: Any) -> list[Any]:
        """Encode one frame; returns the frames that can be decoded by now, in order of display.

        Raises:
            VideoError: the encoder or the decoder fails.
            OSError: the packets cannot be written.
        """
        return self._take(frame)

    def finish(self, path: Path) -> tuple[Segment, list[Any]]:
        """End the segment; returns it as a file ``path``, and the frames that were still missing.

        Raises:
            VideoError, OSError: as :meth:`add`.
        """
        frames = self._take(None)
        frames += self._shown_by(self._decode(None))
        segment = Segment(
            path, tuple(self._packets), self._digest.hexdigest(), self._shown.hexdigest()
        )
        return segment, frames

    def _take(self, frame: Any) -> list[Any]:
        av = import_av()
        try:
            packets = self._context.encode(frame)
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"the encoder failed ({type(error).__name__})") from error
        frames: list[Any] = []
        for packet in packets:
            content = bytes(packet)
            self._stream.write(content)
            self._digest.update(content)
            self._packets.append(PacketRecord(packet.pts, packet.is_keyframe, len(content)))
            frames += self._shown_by(self._decode(packet))
        return frames

    def _decode(self, packet: Any) -> list[Any]:
        av = import_av()
        try:
            frames: list[Any] = self._decoder.decode(packet)
        except av.error.FFmpegError as error:
            raise VideoError("what was encoded cannot be decoded") from error
        return frames

    def _shown_by(self, frames: list[Any]) -> list[Any]:
        for frame in frames:
            update_with_samples(self._shown, frame)
        return frames


def update_with_samples(digest: Any, frame: Any) -> None:
    """Add the samples of a decoded frame to a hash, without the padding of its lines."""
    for plane in samples(frame):
        digest.update(plane.tobytes())
