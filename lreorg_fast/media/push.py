"""The process that sends a live stream to an address; :mod:`.live_address` starts it.

FFmpeg connects and sends without an end to its waiting, and holds Python's lock while it connects.
In a process of its own it can be ended from outside, whatever it waits for. It reads from stdin a
line of JSON and then frames (their time as a double, then their pixels), writes ``ready`` to stdout
once it is connected, and ends with one sentence on stderr if it fails.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import BinaryIO

import numpy as np

from lreorg_fast.errors import LReorgError
from lreorg_fast.media.live_encoder import LiveEncoder, LiveEncoding
from lreorg_fast.media.live_sources import read_exactly

TIME = struct.Struct("<d")
READY = b"ready\n"


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Send until stdin ends."""
    order = json.loads(stdin.readline())
    width, height = order["size"]
    encoder = LiveEncoder(
        order["url"],
        LiveEncoding(**order["encoding"]),
        (width, height),
        order["rate"],
        order["options"],
    )
    stdout.write(READY)
    stdout.flush()
    count = TIME.size + width * height * 3
    while len(message := read_exactly(stdin, count)) == count:
        (seconds,) = TIME.unpack_from(message)
        pixels = np.frombuffer(message, np.uint8, offset=TIME.size)
        encoder.write(pixels.reshape(height, width, 3), seconds)
    encoder.close()


def run() -> None:
    """The whole process."""
    try:
        main(sys.stdin.buffer, sys.stdout.buffer)
    except LReorgError as error:
        sys.exit(str(error))
