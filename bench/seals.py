"""``python -m bench.seals``: who comes back from a seal, how alike, and how large seals are.

Avatars of the demo that no network has seen, as one whole picture and as a video, with their true
places. Similarity is the cosine of the demo's evaluation recognizer, which took no part in
training, between the face of the source and that of another picture, at the same place.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import lreorg_fast as lf
from bench.pictures import scene
from lreorg_fast.avatars import AvatarClip, SceneConfig
from lreorg_fast.avatars.landmarks import landmarks
from lreorg_fast.avatars.traits import sample_avatars
from lreorg_fast.batch import SceneWork, anonymize_files
from lreorg_fast.demo.judge import Judge
from lreorg_fast.faces import Detection
from lreorg_fast.faces.align import align_square
from lreorg_fast.faces.alignment import Alignment
from lreorg_fast.media import read_image, write_image
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.video import VideoReader
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import PrivateKey
from lreorg_fast.privacy.sealed import KINDS
from lreorg_fast.sealing import Sealer, restore_file, seal_path
from lreorg_fast.video import VideoSettings, anonymize_video, restore_video

_SIZE = 96
Found = Callable[[Picture, float], list[Detection]]


class Alike:
    """Similarities of the faces of pictures to those of their source."""

    def __init__(self, anonymizer: Anonymizer) -> None:
        self._judge, self._side = Judge(anonymizer.bundle), anonymizer.resolution

    def __call__(self, source: Picture, other: Picture, quads: list[np.ndarray]) -> np.ndarray:
        a, b = (
            self._judge.embed([align_square(p, q, self._side).image for q in quads])
            for p in (source, other)
        )
        return np.asarray((a * b).sum(axis=1))


def told(name: str, values: list[np.ndarray]) -> str:
    every = np.concatenate(values)
    return f"{name} {every.mean():.2f} ({np.quantile(every, 0.1):.2f} at the lowest tenth)"


def pictures(anonymizer: Anonymizer, count: int, folder: Path) -> None:
    avatars = sample_avatars(count, torch.Generator().manual_seed(8_100))
    picture, quads = scene(avatars, _SIZE)
    points = landmarks(avatars).double().numpy()
    faces = [
        Detection(box_of(quad), 0.9, quad[0] + point * (quad[2] - quad[0]))
        for quad, point in zip(quads, points, strict=True)
    ]
    write_image(folder / "in.png", picture)
    key, alike = PrivateKey.generate(), Alike(anonymizer)
    for kind in KINDS:
        sealer = Sealer(key.public, kind)
        whole = lf.SceneAnonymizer(
            anonymizer, lambda *_: faces, lf.SceneSettings(), recovery=sealer.recovery
        )
        report = anonymize_files(
            SceneWork(whole, sealer=sealer), [folder / "in.png"], folder / f"p-{kind}"
        )
        output = Path(str(report.files[0].target))
        good = [i for i, f in enumerate(report.files[0].faces) if f["status"] == "replaced"]
        start = time.perf_counter()
        back, _ = restore_file(output, key, lambda: anonymizer)
        seconds = time.perf_counter() - start
        places = [quads[i] for i in good]
        made = [alike(picture, read_image(output), places)]
        restored = [alike(picture, back, places)]
        print(
            f"picture, {kind}: {len(good)} of {count} replaced; {told('anonymized', made)}, "
            f"{told('restored', restored)}; seal {seal_path(output).stat().st_size:,} bytes, "
            f"restored in {seconds:.2f} s"
        )


def box_of(quad: np.ndarray) -> np.ndarray:
    """About what a detector says of the avatar in this square."""
    side = quad[2] - quad[0]
    return np.concatenate([quad[0] + side * (0.24, 0.25), quad[0] + side * (0.76, 0.9)])


def frames(path: Path) -> Iterator[Picture]:
    reader = VideoReader(path)
    return (frame.picture(reader.info.orientation) for frame in reader.frames())


def video(anonymizer: Anonymizer, count: int, folder: Path) -> None:
    import av

    clip = AvatarClip(SceneConfig(320, 160, count, ("crossing", "crossing back"), 72, 3))
    with av.open(str(folder / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 320, 160, "yuv420p"
        for picture, _ in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    key, alike = PrivateKey.generate(), Alike(anonymizer)
    alignment = Alignment.of_domain(anonymizer.bundle.manifest.domain.kind)
    for kind in KINDS:
        target, back = folder / f"{kind}.mp4", folder / f"{kind}-back.mp4"
        start = time.perf_counter()
        report = anonymize_video(
            anonymizer,
            lf.load_detector(threads=1),
            folder / "in.mp4",
            target,
            video=VideoSettings(segment_frames=60),
            sealer=Sealer(key.public, kind),
        )
        made_in = time.perf_counter() - start
        start = time.perf_counter()
        restore_video(target, key, lambda: anonymizer, back)
        seconds = time.perf_counter() - start
        scores: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        triples = zip(*(frames(p) for p in (folder / "in.mp4", target, back)), strict=True)
        for number, (source, made, restored) in enumerate(triples):
            whole = [f for f in clip.faces(number) if f.visible == 1]
            quads = [alignment.quad(f.landmarks) for f in whole]
            if not quads or number % 4:
                continue
            scores[0].append(alike(source, made, quads))
            scores[1].append(alike(source, restored, quads))
        size = seal_path(target).stat().st_size
        print(
            f"video, {kind}: {count} frames, {report.counts['replaced']} faces replaced, "
            f"{report.counts['filled']} filled; {told('anonymized', scores[0])}, "
            f"{told('restored', scores[1])}; seal {size:,} bytes, {size / count:,.0f} a frame, "
            f"video {target.stat().st_size:,}; made in {made_in:.0f} s, restored in {seconds:.0f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=48, help="in the picture")
    parser.add_argument("--frames", type=int, default=120, help="of the video")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    anonymizer = Anonymizer.load("demo")
    with tempfile.TemporaryDirectory() as name:
        pictures(anonymizer, arguments.people, Path(name))
        video(anonymizer, arguments.frames, Path(name))


if __name__ == "__main__":
    main()
