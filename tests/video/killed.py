"""A run that is killed in the middle: started by test_resume.py as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from stamped import Film, TrueDetector

import lreorg_fast as lf
from lreorg_fast.privacy import PublicKey
from lreorg_fast.sealing import Sealer
from lreorg_fast.video import VideoSettings


def main() -> None:
    """Arguments: folder, frame in whose editing the process dies, or ``find`` and a frame.

    With ``me.pub`` in the folder everybody is sealed, exactly.
    """
    folder, stage, frame = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    def die(name: str, done: int, total: int | None) -> None:
        if name == stage and done == frame:
            os.kill(os.getpid(), signal.SIGKILL)

    public = folder / "me.pub"
    sealer = Sealer(PublicKey.load(public), "crop") if public.exists() else None
    lf.Anonymizer.load(folder / "toy").video(
        folder / "in.mp4",
        folder / "out.mp4",
        detector=TrueDetector(Film()),
        video=VideoSettings(segment_frames=10),
        sealer=sealer,
        progress=die,
    )


if __name__ == "__main__":
    main()
