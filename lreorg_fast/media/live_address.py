"""A live stream to an address, through a process that can be ended whatever it waits for.

The other end of the pipe is :mod:`lreorg_fast.media.push`, which says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import lreorg_fast
from lreorg_fast.errors import OutputError
from lreorg_fast.media.live_encoder import LiveEncoding, fitted
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.push import READY, TIME
from lreorg_fast.media.urls import without_secrets

_PATIENCE_S = 10.0  # for the last packets of a connection
# Not "-m": that would look in the working folder first, whatever lies there.
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
_START += "from lreorg_fast.media.push import run; run()"


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    frames: IO[bytes]
    answers: IO[bytes]
    errors: IO[bytes]

    @classmethod
    def start(cls) -> _Child:
        places = [str(Path(lreorg_fast.__file__).parents[1]), *filter(None, sys.path)]
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(places)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the parent, which lets it finish
        )
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        return cls(process, process.stdin, process.stdout, errors)

    def send(self, content: bytes, timeout: float) -> bool:
        """Whether all of it went into the pipe before ``timeout`` seconds passed without a byte.

        Raises:
            OSError: the process is gone.
        """
        pipe, left = self.frames.fileno(), memoryview(content)
        while left:
            if not select.select([], [pipe], [], timeout)[1]:
                return False
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(pipe, left) :]
        return True

    def last_words(self) -> str | None:
        """End the process and read why it failed; None if it did not say."""
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read(1 << 16).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else None

    def end(self, patience: float) -> None:
        """Let the process finish what it has, for so many seconds."""
        with contextlib.suppress(OSError):
            self.frames.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()
        self.errors.close()


class Address:
    """The sink for addresses; see :class:`lreorg_fast.media.live_sinks.Sink`.

    Args:
        url: a scheme of :data:`lreorg_fast.media.urls.SCHEMES`. With ``listen`` in its query it
            waits for somebody to connect, without an end.
        encoding: container and codec.
        options: of FFmpeg's muxer.
        timeout: seconds for a connection, and for a frame.
    """

    returns = True

    def __init__(
        self, url: str, encoding: LiveEncoding, options: Mapping[str, str], timeout: float
    ) -> None:
        self.name = without_secrets(url)
        self._url, self._encoding, self._options = url, encoding, options
        self._timeout = timeout
        self._child: _Child | None = None
        self._size = (0, 0)

    def open(self, size: tuple[int, int], rate: float) -> None:
        """Connect.

        Raises:
            OutputError: nobody takes it, or not in time.
        """
        self._size = size
        child = self._child = _Child.start()
        order = {
            "url": self._url,
            "encoding": asdict(self._encoding),
            "size": size,
            "rate": rate,
            "options": dict(self._options),
        }
        self._send(child, json.dumps(order).encode() + b"\n")
        wait = None if "listen" in self._url.partition("?")[2] else self._timeout
        if not select.select([child.answers], [], [], wait)[0]:
            raise self._broken(child, f"there was no connection within {self._timeout:g} seconds")
        if child.answers.readline() != READY:
            raise self._broken(child, "the connection was refused")

    def write(self, picture: Picture, seconds: float) -> None:
        """Send a frame ``(H, W, 3)`` uint8 RGB.

        Raises:
            OutputError: the connection is gone, or takes nothing.
        """
        assert self._child is not None
        self._send(self._child, TIME.pack(seconds) + fitted(picture, self._size).tobytes())

    def close(self, broken: bool) -> None:
        """Send the end, or drop the connection if it is ``broken``."""
        child, self._child = self._child, None
        if child is not None:
            if broken:
                child.process.kill()
            child.end(_PATIENCE_S)

    def _send(self, child: _Child, content: bytes) -> None:
        try:
            if child.send(content, self._timeout):
                return
        except OSError as error:
            raise self._broken(child, "the connection is gone") from error
        raise self._broken(child, f"it took no frame for {self._timeout:g} seconds")

    def _broken(self, child: _Child, reason: str) -> OutputError:
        return OutputError(
            f"cannot write to '{self.name}': {child.last_words() or reason}; check the address and "
            "who listens there"
        )
