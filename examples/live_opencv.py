"""Anonymize a camera or a file in an OpenCV loop.

    pip install "lreorg_fast[faces,video]" opencv-python
    python examples/live_opencv.py 0                      # camera 0 to a window; q ends
    python examples/live_opencv.py in.mp4 -o out.mp4 --method avatar

The demo's networks know avatars; for people take --method fill, or a bundle of your own in
``Anonymizer.load``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

import lreorg_fast as lf
from lreorg_fast.scene import SceneSettings


def read(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """RGB frames. They are taken in a thread of the stream, which is why nobody else may read."""
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", help="number of a camera, file or address")
    parser.add_argument("-o", "--output", help="an .mp4 file in the place of a window")
    parser.add_argument("--method", default="fill")
    options = parser.parse_args(arguments)

    capture = cv2.VideoCapture(
        int(options.source) if options.source.isdecimal() else options.source
    )
    if not capture.isOpened():
        raise SystemExit(f"cannot open '{options.source}'")
    size = tuple(int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    rate = capture.get(cv2.CAP_PROP_FPS) or 30.0
    writer = None
    if options.output:
        writer = cv2.VideoWriter(options.output, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)

    anonymizer = lf.Anonymizer.load()
    frames = anonymizer.stream(read(capture), SceneSettings(method=options.method))
    try:
        for frame in frames:
            picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            if writer is not None:
                writer.write(picture)
                continue
            cv2.imshow("lreorg", picture)
            if cv2.waitKey(1) == ord("q"):
                break
    finally:
        frames.close()  # ends the threads of the stream before the camera goes
        capture.release()
        if writer is not None:
            writer.release()


if __name__ == "__main__":
    main()
