"""Anonymize a file or an address with PyAV; every frame keeps its time stamp.

    pip install "lreorg_fast[faces,video]"
    python examples/live_pyav.py in.mp4 out.mp4 --method avatar

One frame comes out for each that goes in, in order, so time stamps wait in a queue of their own.
The audio is left out: a voice identifies too.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np

import lreorg_fast as lf
from lreorg_fast.scene import SceneSettings


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--method", default="fill")
    options = parser.parse_args(arguments)

    times: deque[tuple[int, Fraction]] = deque()
    with av.open(options.source) as source, av.open(options.output, "w") as output:
        taken = source.streams.video[0]
        made = output.add_stream("libx264", rate=taken.average_rate or 30)
        made.width, made.height, made.pix_fmt = taken.width, taken.height, "yuv420p"
        made.codec_context.time_base = taken.time_base

        def read() -> Iterator[np.ndarray]:
            for frame in source.decode(taken):
                times.append((frame.pts, frame.time_base))
                yield frame.to_ndarray(format="rgb24")

        anonymizer = lf.Anonymizer.load()
        for picture in anonymizer.stream(read(), SceneSettings(method=options.method)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times.popleft()
            output.mux(made.encode(frame))
        output.mux(made.encode(None))


if __name__ == "__main__":
    main()
