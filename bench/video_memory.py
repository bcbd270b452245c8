"""Whether memory grows with the length of a video.

    python -m bench.video_memory --frames 10000

A clip of avatars, 128 x 96 pixels, is repeated to the wanted length and anonymized with the
method ``fill`` by a detector that was told where the faces are: everything but the networks, whose
memory does not depend on the length. Prints the resident memory every tenth of each pass.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from lreorg_fast.avatars import AvatarClip, SceneConfig
from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene import SceneSettings
from lreorg_fast.video import anonymize_video

PERIOD = 500  # frames after which the clip begins anew


def resident() -> float:
    """Of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Told:
    """A detector that is asked once for every frame, in order."""

    def __init__(self, clip: AvatarClip) -> None:
        self._clip, self._next = clip, 0

    def __call__(self, picture: Picture, threshold: float) -> list[Detection]:
        faces = self._clip.faces(self._next % PERIOD)
        self._next += 1
        return [Detection(f.box, 0.9, f.landmarks) for f in faces if f.visible > 0.4]


def pictures(clip: AvatarClip, frames: int) -> Iterator[Picture]:
    """The clip over and over."""
    period = [clip.picture(number) for number in range(PERIOD)]
    return (period[number % PERIOD] for number in range(frames))


def write(path: Path, clip: AvatarClip, frames: int) -> None:
    """The source."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(30), options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        for number, picture in enumerate(pictures(clip, frames)):
            frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    frames = parser.parse_args().frames
    clip = AvatarClip(SceneConfig(128, 96, PERIOD, ("crossing", "waiting"), size=32))
    step = max(1, frames // 10)

    def tell(stage: str, done: int, total: int | None) -> None:
        if stage != "write" and done % step == 0:
            print(f"{stage:5} {done:7} frames {resident():7.0f} MiB", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mp4"
        write(source, clip, frames)
        fill = SceneSettings(method="fill")
        report = anonymize_video(None, Told(clip), source, scene=fill, progress=tell)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{report.frames} frames, {report.faces} faces, {report.exposed} exposed")
    print(f"peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
