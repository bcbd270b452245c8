"""Anonymize a WebRTC call with aiortc: a track in, a track out.

    pip install "lreorg_fast[faces,video]" aiortc
    python examples/live_webrtc.py                        # paste the other side's offer

Offers and answers are copied by hand here; in a product they come through your web server, which
calls :func:`answer`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.contrib.signaling import BYE, CopyAndPasteSignaling
from aiortc.mediastreams import MediaStreamError

import lreorg_fast as lf
from lreorg_fast.scene import SceneSettings

Stream = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]


class AnonymizedTrack(MediaStreamTrack):
    """Frames of another video track, anonymized; those that come too fast are dropped.

    Args:
        track: the other side's video.
        stream: an iterator of frames in, an iterator of frames out.
    """

    kind = "video"

    def __init__(self, track: MediaStreamTrack, stream: Stream) -> None:
        super().__init__()
        self._track = track
        self._newest: queue.Queue[av.VideoFrame | None] = queue.Queue(maxsize=1)
        self._taken: deque[av.VideoFrame] = deque()
        self._out = stream(self._frames())
        self._pump = asyncio.ensure_future(self._receive())

    async def recv(self) -> av.VideoFrame:
        """The next anonymized frame, with the time stamp of its original."""
        loop = asyncio.get_running_loop()
        picture = await loop.run_in_executor(None, next, self._out, None)
        if picture is None:
            raise MediaStreamError
        original = self._taken.popleft()
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = original.pts, original.time_base
        return frame

    def stop(self) -> None:
        """End the track, and the threads of its stream when they are done with their frame."""
        super().stop()
        self._pump.cancel()
        self._put(None)

    async def _receive(self) -> None:
        """Take every frame at once, or aiortc keeps all that come while one is processed."""
        with contextlib.suppress(MediaStreamError):
            while True:
                self._put(await self._track.recv())
        self._put(None)

    def _put(self, frame: av.VideoFrame | None) -> None:
        with contextlib.suppress(queue.Empty):
            self._newest.get_nowait()
        self._newest.put_nowait(frame)

    def _frames(self) -> Iterator[np.ndarray]:
        """In the stream's thread: the newest frame, whenever there is room for one."""
        while (frame := self._newest.get()) is not None:
            self._taken.append(frame)
            yield frame.to_ndarray(format="rgb24")


async def answer(
    offer: RTCSessionDescription, stream: Stream
) -> tuple[RTCPeerConnection, RTCSessionDescription]:
    """Accept a call and send its video back, anonymized; what is no video is not taken."""
    # Without servers: addresses of this machine only. Across networks name your STUN or TURN.
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    @connection.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        if track.kind != "video":
            track.stop()
            return
        anonymized = AnonymizedTrack(track, stream)
        connection.addTrack(anonymized)
        track.on("ended", anonymized.stop)

    await connection.setRemoteDescription(offer)
    await connection.setLocalDescription(await connection.createAnswer())
    return connection, connection.localDescription


async def talk(stream: Stream) -> None:
    signaling = CopyAndPasteSignaling()
    await signaling.connect()
    connection, description = await answer(await signaling.receive(), stream)
    await signaling.send(description)
    while await signaling.receive() is not BYE:
        pass
    await connection.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="fill")
    options = parser.parse_args(arguments)
    anonymizer = lf.Anonymizer.load()
    settings = SceneSettings(method=options.method)
    asyncio.run(talk(lambda frames: anonymizer.stream(frames, settings)))


if __name__ == "__main__":
    main()
