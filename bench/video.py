"""``python -m bench.video``: frames per second of whole pictures, and where the time goes.

Avatars walk over a background, in 720p and 1080p, one, four and eight of them; the clip is decoded,
every face found, followed, replaced by the demo's networks, verified, and the result encoded. The
stages are timed one after another on one frame at a time, each without those inside of it; then
the same clip runs through :class:`lreorg_fast.live.session.LiveSession`, whose threads overlap
reading, processing and writing. A last run shows what memory does over many small frames.

The goal beside the shares: everything but encoder (E) and generator (G) under 15% of the time. It
depends on how large E and G are: the demo's draw 64 pixels with a few million multiplications,
``--networks full-size`` takes random ones in the shapes of the public FFHQ-256 networks (e4e,
StyleGAN2-256, CDFNet 512, IR-SE50), whose limits of verification are loosened so that every face
goes the whole way, as a photograph's does.
Writes ``bench/results/<name>.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import lreorg_fast as lf
from bench.full_size import accepting_bundle
from bench.machine import describe
from bench.markdown import table, write_results
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import sample_avatars
from lreorg_fast.faces import Detection, load_detector
from lreorg_fast.live import FrameProcessor, processor
from lreorg_fast.live.embedding import default_tracker
from lreorg_fast.live.hold import Hold
from lreorg_fast.live.reader import ReaderSettings
from lreorg_fast.live.session import LiveSession, LiveSettings
from lreorg_fast.media.live_encoder import LiveEncoder, LiveEncoding
from lreorg_fast.media.live_sinks import SinkOptions, open_sink
from lreorg_fast.media.live_sources import SourceOptions, open_source
from lreorg_fast.scene import SceneAnonymizer, SceneSettings, reorganize
from lreorg_fast.scene.refinement import Refinement

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
FACES = (1, 4, 8)
PORTRAIT = 64  # pixels; the detector knows avatars best at this size
GOAL = 0.15
STAGES = (
    *("decode", "detect", "track", "align", "E", "reorganize", "G", "verify"),
    *("blend", "hold", "encode out", "other"),
)
RATE = 30.0
NETWORKS = {
    "demo": "demo bundle (64 px)",
    "full-size": "random networks in the shapes of e4e, StyleGAN2-256, CDFNet 512 and IR-SE50",
}
# Of the stages. The processor's time of all threads does not depend on neighbours; with one thread
# it is what a free machine would take.
CLOCKS = {"wall": "perf_counter", "cpu": "process_time"}
_LEAST_MEMORY_FRAMES = 10
_MIB = 2**20


class Stages:
    """Seconds by stage; a stage that is entered inside of another one stops the other's clock."""

    def __init__(self, clock: str = "wall") -> None:
        self.seconds: Counter[str] = Counter()
        self._clock = clock
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._turn()
        self._open.append(stage)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` with its time counted for ``stage``."""

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            with self(stage):
                return function(*arguments, **keywords)

        return call

    def _turn(self) -> None:
        now = getattr(time, CLOCKS[self._clock])()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def clip(size: tuple[int, int], faces: int, frames: int) -> Iterator[np.ndarray]:
    """Frames ``(H, W, 3)`` of avatars that walk, in rows, over a background."""
    width, height = size
    people = sample_avatars(faces, torch.Generator().manual_seed(1))
    portraits = render(people, PORTRAIT).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    y, x = np.mgrid[:height, :width]
    background = np.stack(
        [96 + 32 * np.sin(x / 90), 104 + 28 * np.sin(y / 70), 112 + 24 * np.sin((x + y) / 110)], 2
    ).astype(np.uint8)
    columns = (faces + 1) // 2 if faces > 1 else 1
    for number in range(frames):
        picture = background.copy()
        for person, portrait in enumerate(portraits):
            left = int(width * (person % columns + 0.4) / columns) + 3 * number
            top = int(height * (0.25 + 0.4 * (person // columns))) + number % 7
            left = min(left, width - PORTRAIT)
            picture[top : top + PORTRAIT, left : left + PORTRAIT] = portrait
        yield picture


def write(path: Path, pictures: Iterator[np.ndarray], size: tuple[int, int]) -> None:
    """A clip as the source of a run."""
    with open(path, "wb") as stream:
        encoder = LiveEncoder(stream, LiveEncoding("mp4", quality=16), size, RATE)
        for number, picture in enumerate(pictures):
            encoder.write(picture, number / RATE)
        encoder.close()


@contextlib.contextmanager
def timed_parts(anonymizer: lf.Anonymizer, stages: Stages) -> Iterator[None]:
    """Every part of the way that has a name is timed, wherever it is called from."""
    verification = type(anonymizer.verification)
    parts: tuple[tuple[Any, str, str], ...] = (
        (type(anonymizer.encoder), "__call__", "E"),
        (type(anonymizer.generator), "synthesis", "G"),
        (type(anonymizer.engine), "reorganize", "reorganize"),
        (type(anonymizer.engine), "disentangle", "reorganize"),
        (verification, "refusals", "verify"),
        (verification, "features", "verify"),
        (verification, "failures", "verify"),
        (verification, "resembling", "verify"),
        (reorganize, "cut_faces", "align"),
        (Refinement, "__call__", "align"),
        (reorganize.Reorganize, "_layer", "blend"),
        (SceneAnonymizer, "_finish", "blend"),
        (SceneAnonymizer, "detect", "detect"),
        (processor, "cover", "hold"),
        (Hold, "__call__", "hold"),
    )
    with contextlib.ExitStack() as patches:
        for owner, name, stage in parts:
            whole = stages.timed(stage, getattr(owner, name))
            patches.enter_context(mock.patch.object(owner, name, whole))
        yield


def measure(
    scene: SceneAnonymizer, source: Path, frames: int, warm: int, clock: str = "wall"
) -> dict[str, Any]:
    """One clip, frame by frame, and then in threads."""
    assert scene.anonymizer is not None
    stages = Stages(clock)
    opened = open_source(str(source), SourceOptions())
    tracker = default_tracker(scene, 2.0, RATE)
    tracker_update = stages.timed("track", tracker.update)
    statuses: Counter[str] = Counter()
    target = source.with_name("out.mp4")
    with (
        mock.patch.object(tracker, "update", tracker_update),
        timed_parts(scene.anonymizer, stages),
        open(target, "wb") as stream,
    ):
        process = FrameProcessor(scene, tracker, 2.0)
        incoming = opened.frames()
        encoder = None
        for number in range(warm + frames):
            if number == warm:
                stages.seconds.clear()
                statuses.clear()
            with stages("other"):
                with stages("decode"):
                    picture, seconds = next(incoming)
                shown = process(picture, seconds)
                statuses.update(face.status for face in shown.faces)
                statuses["held"] += shown.held
                with stages("encode out"):
                    if encoder is None:
                        size = (picture.shape[1], picture.shape[0])
                        encoder = LiveEncoder(stream, LiveEncoding("mp4"), size, RATE)
                    encoder.write(shown.picture, seconds)
    total = sum(stages.seconds.values())
    threads = LiveSession(
        open_source(str(source), SourceOptions()),
        scene,
        open_sink(str(source.with_name("live.mp4")), SinkOptions(overwrite=True)),
        LiveSettings(ReaderSettings(every=True), timeout=None),
    ).run()
    return {
        "ms_per_frame": {s: round(1000 * stages.seconds[s] / frames, 2) for s in STAGES},
        "frames_per_second": round(frames / total, 2),
        "live_frames_per_second": threads.rate and round(threads.rate, 2),
        "all_but_E_and_G": round(1 - (stages.seconds["E"] + stages.seconds["G"]) / total, 4),
        "faces": dict(statuses),
        "timed_frames": frames,
    }


class _Marks:
    """Finds the one bright square of the frames of :func:`memory`, at no cost."""

    def __call__(self, picture: np.ndarray, threshold: float) -> list[Detection]:
        rows, columns = np.nonzero(picture[:, :, 0] > 240)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
        points = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
        return [Detection(box, 0.9, box[:2] + points * (box[2:] - box[:2]))]


def memory(frames: int) -> dict[str, Any]:
    """Resident memory of a live run over at least 10 small frames, H.264 to a pipe, at ten points.

    More points where ``frames`` is not a multiple of ten.
    """
    size = (96, 64)

    class Pictures:
        name, live, rate = "pictures", False, RATE

        def frames(self) -> Iterator[tuple[np.ndarray, float]]:
            for number in range(frames):
                picture = np.full((size[1], size[0], 3), 60, np.uint8)
                left = number // 5 % (size[0] - 20)
                picture[20:36, left : left + 16] = 250
                if number % max(1, frames // 10) == 0:
                    points.append(_resident())
                yield picture, number / RATE

    points: list[int] = []
    before = threading.active_count()
    with open(os.devnull, "wb") as nowhere:
        stats = LiveSession(
            Pictures(),
            SceneAnonymizer(None, _Marks(), SceneSettings(method="fill")),
            open_sink("-", SinkOptions(container="mpegts"), nowhere),
            LiveSettings(ReaderSettings(every=True), timeout=None),
        ).run()
    points.append(_resident())
    return {
        "frames": stats.written,
        "frames_per_second": stats.rate and round(stats.rate, 1),
        "resident_mib": [round(p / _MIB, 1) for p in points],
        # The first tenth fills caches and pools.
        "growth_mib_after_the_first_tenth": round((points[-1] - points[1]) / _MIB, 2),
        "threads_left": threading.active_count() - before,
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for name, found in results["cases"].items():
        times = found["ms_per_frame"]
        share = found["all_but_E_and_G"]
        rows.append(
            [
                name,
                f"{found['frames_per_second']:g}",
                f"{found['live_frames_per_second']:g}",
                *(f"{times[stage]:.1f}" for stage in STAGES),
                f"{share:.0%} ({'reached' if share < GOAL else 'missed'})",
            ]
        )
    heads = ["clip", "fps", "fps in threads", *STAGES, f"all but E and G (goal {GOAL:.0%})"]
    machine = results["machine"]
    return (
        f"Milliseconds per frame ({results['clock']} clock). {machine['cpu']}, "
        f"{machine['cores']} cores, {results['threads']} thread(s), load "
        f"{machine['load_average'][0]:.1f} when it "
        f"began; {results['frames']} frames per clip after {results['warm']}; "
        f"{NETWORKS[results['networks']]}. Not yet run on a GPU.\n\n"
        f"{table(heads, rows)}\n{_memory_line(results['memory'])}"
    )


def _memory_line(grown: dict[str, Any] | None) -> str:
    if grown is None:
        return ""
    return (
        f"\nMemory of a live run over {grown['frames']} frames of 96 x 64: "
        f"{', '.join(f'{point:.0f}' for point in grown['resident_mib'])} MiB resident at each "
        f"tenth; {grown['growth_mib_after_the_first_tenth']:+.2f} MiB after the first.\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` are those of the command line if None."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--faces", nargs="+", type=int, default=list(FACES))
    parser.add_argument("--frames", type=int, default=30, help="timed per clip")
    parser.add_argument("--warm", type=int, default=3, help="frames before them")
    parser.add_argument("--networks", choices=NETWORKS, default="demo")
    parser.add_argument(
        "--memory-frames", type=int, default=10_000, help="0: memory is not measured"
    )
    parser.add_argument("--longest-side", type=int, help="of the detector; every pixel if left out")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="of the stages")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="of torch and the detector"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "video_cpu"
    )
    options = parser.parse_args(arguments)
    if 0 < options.memory_frames < _LEAST_MEMORY_FRAMES:
        parser.error(f"--memory-frames must be 0 or at least {_LEAST_MEMORY_FRAMES}")
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {
        "machine": describe(),
        "threads": options.threads,
        "frames": options.frames,
        "warm": options.warm,
        "clock": options.clock,
        "longest_side": options.longest_side,
        "networks": options.networks,
        "goal": GOAL,
        "memory": memory(options.memory_frames) if options.memory_frames else None,
        "cases": {},
    }
    detector = load_detector(longest_side=options.longest_side, threads=options.threads)
    with tempfile.TemporaryDirectory(prefix="lreorg-bench-") as name:
        folder = Path(name)
        bundle: str | Path = options.networks
        if options.networks == "full-size":
            bundle = accepting_bundle(folder / "bundle")
        for size in options.sizes:
            for faces in options.faces:
                scene = SceneAnonymizer(lf.Anonymizer.load(bundle), detector, SceneSettings())
                source = folder / "in.mp4"
                frames = options.warm + options.frames
                write(source, clip(SIZES[size], faces, frames), SIZES[size])
                found = measure(scene, source, options.frames, options.warm, options.clock)
                results["cases"][f"{size}, {faces} faces"] = found
                write_results(options.output, results, report(results))
    print(report(results))


if __name__ == "__main__":
    main()
