"""Anonymize between two GStreamer pipelines, through appsink and appsrc.

    apt install python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base
    python examples/live_gstreamer.py "v4l2src ! videoconvert" "videoconvert ! autovideosink"

PyGObject comes from the distribution: use its Python, or a venv of it that was made with
``python3 -m venv --system-site-packages``.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import lreorg_fast as lf
from lreorg_fast.scene import SceneSettings

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    from gi.repository import Gst, GstApp  # noqa: F401 - GstApp gives the elements their methods
except (ImportError, ValueError) as error:
    sys.exit(f"GStreamer's binding for Python is missing ({error}); see the top of this file")

_RGB = "video/x-raw,format=RGB"


def frame_of(sample: Any) -> tuple[np.ndarray, Any]:
    """The picture of a sample as (height, width, 3), and its buffer, which has the time."""
    shape = sample.get_caps().get_structure(0)
    width, height = shape.get_value("width"), shape.get_value("height")
    buffer = sample.get_buffer()
    content = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
    rows = content.reshape(height, -1)  # each row is padded to four bytes
    return rows[:, : 3 * width].reshape(height, width, 3), buffer


def buffer_of(picture: np.ndarray, like: Any) -> Any:
    """A buffer with the picture, at the time of the original one."""
    height, width = picture.shape[:2]
    rows = np.zeros((height, (3 * width + 3) // 4 * 4), np.uint8)
    rows[:, : 3 * width] = picture.reshape(height, -1)
    buffer = Gst.Buffer.new_wrapped(rows.tobytes())
    buffer.pts, buffer.dts, buffer.duration = like.pts, like.dts, like.duration
    return buffer


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", help="pipeline that ends in video, for example videotestsrc")
    parser.add_argument("sink", help="pipeline that takes video, for example autovideosink")
    parser.add_argument("--method", default="fill")
    options = parser.parse_args(arguments)

    Gst.init(None)
    # One buffer at most: what comes while a frame is processed waits in the source, or is dropped
    # if you add drop=true to appsink.
    incoming = Gst.parse_launch(
        f"{options.source} ! {_RGB} ! appsink name=out max-buffers=1 sync=false"
    )
    outgoing = Gst.parse_launch(f"appsrc name=in format=time block=true ! {options.sink}")
    appsink, appsrc = incoming.get_by_name("out"), outgoing.get_by_name("in")
    taken: deque[Any] = deque()

    def read() -> Iterator[np.ndarray]:
        while (sample := appsink.pull_sample()) is not None:  # None at the end of the stream
            if not taken:
                appsrc.set_property("caps", sample.get_caps())
            picture, buffer = frame_of(sample)
            taken.append(buffer)
            yield picture

    incoming.set_state(Gst.State.PLAYING)
    outgoing.set_state(Gst.State.PLAYING)
    try:
        anonymizer = lf.Anonymizer.load()
        for picture in anonymizer.stream(read(), SceneSettings(method=options.method)):
            if appsrc.push_buffer(buffer_of(picture, taken.popleft())) != Gst.FlowReturn.OK:
                raise SystemExit("the sink takes no more frames")
        appsrc.end_of_stream()
        wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR
        message = outgoing.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)
        if message.type == Gst.MessageType.ERROR:
            raise SystemExit(f"the sink failed: {message.parse_error().gerror.message}")
    finally:
        incoming.set_state(Gst.State.NULL)
        outgoing.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
