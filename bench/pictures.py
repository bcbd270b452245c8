"""``python -m bench.pictures``: whole pictures, measured: what is found, replaced, and how long.

Scenes of the demo's avatars (people that no network has seen, true boxes known) and one photograph
(skimage.data.astronaut), with the packaged detector. The figures of docs/pictures.md.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import Avatars, sample_avatars
from lreorg_fast.demo.judge import Judge
from lreorg_fast.faces import Detection, Detector
from lreorg_fast.faces.align import align_square
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.pixels import to_pictures
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.scene import KnownFace, SceneAnonymizer, SceneSettings

_SEED = 7_000
_COLUMNS, _GAP = 8, 24
PARTS = ("found", "photographs", "replaced", "times", "memory")


def scene(avatars: Avatars, size: int) -> tuple[Picture, list[np.ndarray]]:
    """Portraits on a plain ground, and the corners of each: top left, bottom left, ..."""
    rows = -(-len(avatars) // _COLUMNS)
    step = size + _GAP
    picture = np.full((rows * step + _GAP, _COLUMNS * step + _GAP, 3), (90, 120, 100), np.uint8)
    quads = []
    for i, portrait in enumerate(to_pictures(render(avatars, size) * 2 - 1)):
        left, top = (i % _COLUMNS) * step + _GAP, (i // _COLUMNS) * step + _GAP
        picture[top : top + size, left : left + size] = portrait
        low, high = np.array([left, top]) - 0.5, np.array([left, top]) + size - 0.5
        quads.append(np.array([low, [low[0], high[1]], high, [high[0], low[1]]]))
    return picture, quads


def owner(face: Detection, quads: list[np.ndarray]) -> int | None:
    """Whose portrait the middle of a box is in."""
    middle = (face.box[:2] + face.box[2:]) / 2
    for i, quad in enumerate(quads):
        if (middle > quad[0]).all() and (middle < quad[2]).all():
            return i
    return None


def found_by_size(detector: Detector, count: int) -> None:
    print("| avatar (px) | found at 0.1 | at 0.15 | at 0.2 | at 0.3 | other boxes at 0.15 |")
    print("|---|---|---|---|---|---|")
    for size in (32, 48, 64, 96, 160, 256):
        generator = torch.Generator().manual_seed(_SEED + size)
        picture, quads = scene(sample_avatars(count, generator), size)
        shares, others = [], 0
        for threshold in (0.1, 0.15, 0.2, 0.3):
            owners = [owner(face, quads) for face in detector(picture, threshold)]
            shares.append(len(set(owners) - {None}) / count)
            if threshold == 0.15:
                others = sum(i is None for i in owners) + len(owners) - len(set(owners))
        print(f"| {size} | {' | '.join(f'{share:.3f}' for share in shares)} | {others} |")


def replaced(anonymizer: Anonymizer, detector: Detector, count: int) -> None:
    """Of avatars found: replaced or filled, and recognized in the finished picture by a network
    that took no part in training."""
    whole = SceneAnonymizer(anonymizer, detector, SceneSettings())
    judge = Judge(anonymizer.bundle)
    limit = anonymizer.bundle.calibrated("evaluation.threshold.random")
    print("| avatar (px) | found | replaced | filled | recognized in the picture |")
    print("|---|---|---|---|---|")
    for size in (64, 96, 160):
        generator = torch.Generator().manual_seed(_SEED + 1 + size)
        picture, quads = scene(sample_avatars(count, generator), size)
        result = whole(picture)
        who = {owner(face.detection, quads): face for face in result.faces}
        who.pop(None, None)
        done = [i for i, face in who.items() if face.status == "replaced" and i is not None]
        before, after = (
            judge.embed([align_square(p, quads[i], 64).image for i in done])
            for p in (picture, result.image)
        )
        seen = int(((before * after).sum(axis=1) > limit).sum())
        status = Counter(face.status for face in who.values())
        print(
            f"| {size} | {len(who)} of {count} | {status['replaced']} | {status['filled']} | "
            f"{seen} of {len(done)} |"
        )


def photographs(detector: Detector) -> None:
    """Every picture that scikit-image ships: two show a person, astronaut and camera."""
    folder = Path(skimage.data.__file__).parent
    print("| picture | scores from 0.1 |")
    print("|---|---|")
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        picture = np.asarray(Image.open(path).convert("RGB"))
        scores = ", ".join(f"{face.score:.2f}" for face in detector(picture, 0.1))
        print(f"| {path.stem} | {scores} |")


def timed(run: Callable[[], Any], repeats: int) -> float:
    """Median seconds of one core: a machine that does other things too changes them little."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return float(np.median(times))


def times(anonymizer: Anonymizer, detector: Detector, repeats: int) -> None:
    astronaut = Image.fromarray(skimage.data.astronaut())
    print("| picture | detector (core seconds) |")
    print("|---|---|")
    for width, height in ((640, 480), (1280, 720), (1920, 1080), (4000, 3000)):
        picture = np.asarray(astronaut.resize((width, height)))
        seconds = timed(partial(detector, picture, 0.15), repeats)
        print(f"| {width} x {height} | {seconds:.3f} |")
    print("| method, 1920 x 1080 | 1 face (core seconds) | 4 faces | 8 faces |")
    print("|---|---|---|---|")
    avatars = sample_avatars(8, torch.Generator().manual_seed(_SEED))
    small, _ = scene(avatars, 160)
    picture = np.full((1080, 1920, 3), 100, np.uint8)
    picture[: small.shape[0], : small.shape[1]] = small
    faces = detector(picture, 0.1)
    for method in ("fill", "pixelate", "avatar", "reorganize"):
        whole = SceneAnonymizer(anonymizer, detector, SceneSettings(method=method))  # type: ignore[arg-type]
        row = []
        for count in (1, 4, 8):
            known = [KnownFace(face, f"{method}-{i}") for i, face in enumerate(faces[:count])]
            row.append(timed(partial(whole.replace, picture, known), repeats))
        print(f"| {method} | {' | '.join(f'{seconds:.3f}' for seconds in row)} |")


def memory(detector: Detector) -> None:
    whole = SceneAnonymizer(None, detector, SceneSettings(method="fill"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole(np.zeros((5000, 8000, 3), dtype=np.uint8))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory: {before / 2**20:.2f} GB before, at most {after / 2**20:.2f} with 40 megapixels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=96, help="avatars per size")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; all without it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detector, anonymizer = lf.load_detector(threads=1), lf.Anonymizer.load("demo")
    parts: dict[str, Callable[[], None]] = {
        "found": partial(found_by_size, detector, arguments.count),
        "photographs": partial(photographs, detector),
        "replaced": partial(replaced, anonymizer, detector, arguments.count),
        "times": partial(times, anonymizer, detector, arguments.repeats),
        "memory": partial(memory, detector),
    }
    for name in arguments.only or PARTS:
        parts[name]()


if __name__ == "__main__":
    main()
