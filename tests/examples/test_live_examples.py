"""The examples of live streams, each run on local frames: no face comes out of them."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from marked_frames import COLOURS, SIZE, MarkDetector, filling, frame

import lreorg_fast.faces
from lreorg_fast.live import stream

EXAMPLES = Path(__file__).parents[2] / "examples"
WAIT = 60.0
# PyGObject of the distribution, for Pythons of the same version.
SYSTEM = "/usr/lib/python3/dist-packages"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NearlyMarks(MarkDetector):
    """Finds the marks in frames that were encoded, where their colours are only about theirs."""

    def __call__(self, picture: np.ndarray, threshold: float):
        clean = picture.copy()
        for colour in COLOURS:
            clean[near(picture, colour)] = colour
        return super().__call__(clean, threshold)


def near(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour) < 90).all(axis=2)


def exposed(picture: np.ndarray) -> int:
    return int(sum(near(picture, colour).sum() for colour in COLOURS))


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lreorg_fast.faces, "load_detector", NearlyMarks)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twelve frames with two faces, at uneven times."""
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.height, video.width = SIZE
        video.pix_fmt = "yuv444p"
        video.codec_context.time_base = Fraction(1, 600)
        video.codec_context.options = {"crf": "5"}
        for number in range(12):
            made = av.VideoFrame.from_ndarray(frame(number, people=2), format="rgb24")
            made.pts, made.time_base = 20 * number + number * number, Fraction(1, 600)
            container.mux(video.encode(made))
        container.mux(video.encode(None))
    assert all(exposed(picture) > 200 for picture, _ in decoded(path))
    return path


def decoded(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    with av.open(str(path)) as container:
        for made in container.decode(video=0):
            yield made.to_ndarray(format="rgb24"), made.time


def test_opencv(marks: None, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    module = example("live_opencv")
    module.main([str(clip), "-o", str(tmp_path / "out.mp4")])
    found = list(decoded(tmp_path / "out.mp4"))
    assert len(found) == 12
    assert sum(exposed(picture) for picture, _ in found) == 0
    with pytest.raises(SystemExit, match="cannot open"):
        module.main([str(tmp_path / "missing.mp4")])


def test_pyav_keeps_the_times(marks: None, clip: Path, tmp_path: Path) -> None:
    example("live_pyav").main([str(clip), str(tmp_path / "out.mp4")])
    found = list(decoded(tmp_path / "out.mp4"))
    assert [seconds for _, seconds in found] == pytest.approx([s for _, s in decoded(clip)])
    assert sum(exposed(picture) for picture, _ in found) == 0


def test_webrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ends on the loopback: one sends faces, and sees what comes back."""
    pytest.importorskip("aiortc", reason="aiortc is not installed (it needs Python 3.11)")
    import aioice.ice

    # aioice leaves the loopback out, and tests may use nothing else.
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    module = example("live_webrtc")
    shown = asyncio.run(
        asyncio.wait_for(_call(module, lambda frames: stream(filling(NearlyMarks()), frames)), WAIT)
    )
    assert len(shown) == 3
    assert all(picture.shape == (*SIZE, 3) for picture in shown)
    assert sum(map(exposed, shown)) == 0


async def _call(module: ModuleType, anonymize: Callable) -> list[np.ndarray]:
    from aiortc import RTCConfiguration, RTCPeerConnection, VideoStreamTrack

    class Faces(VideoStreamTrack):
        number = 0

        async def recv(self) -> av.VideoFrame:
            made = av.VideoFrame.from_ndarray(frame(self.number, people=2), format="rgb24")
            assert exposed(frame(self.number, people=2)) > 200
            self.number += 1
            made.pts, made.time_base = await self.next_timestamp()
            return made

    caller = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    caller.addTrack(Faces())
    received: asyncio.Queue[np.ndarray] = asyncio.Queue()

    @caller.on("track")
    def on_track(track) -> None:
        async def read() -> None:
            while True:
                received.put_nowait((await track.recv()).to_ndarray(format="rgb24"))

        caller.reading = asyncio.ensure_future(read())

    await caller.setLocalDescription(await caller.createOffer())
    server, description = await module.answer(caller.localDescription, anonymize)
    await caller.setRemoteDescription(description)
    shown = [await received.get() for _ in range(3)]
    caller.reading.cancel()
    for sender in server.getSenders():
        sender.track.stop()
    await caller.close()
    await server.close()
    return shown


RUN_GSTREAMER = f"""
import sys
sys.path.append({SYSTEM!r})
sys.path.append({str(Path(__file__).parents[1])!r})
import runpy, lreorg_fast.faces
from marked_frames import MarkDetector
lreorg_fast.faces.load_detector = MarkDetector
sys.argv = ["live_gstreamer.py", *sys.argv[1:]]
runpy.run_path({str(EXAMPLES / "live_gstreamer.py")!r}, run_name="__main__")
"""
HAS_GSTREAMER = f"""
import sys
sys.path.append({SYSTEM!r})
import gi
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp
Gst.init(None)
assert Gst.ElementFactory.find("rawvideoparse"), "gstreamer1.0-plugins-base is missing"
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=WAIT
    )


def test_gstreamer(tmp_path: Path) -> None:
    there = python(HAS_GSTREAMER)
    if there.returncode:
        pytest.skip(f"GStreamer cannot be used here: {there.stderr.strip().splitlines()[-1]}")
    pictures = [frame(number, people=2) for number in range(12)]
    (tmp_path / "in.rgb").write_bytes(np.stack(pictures).tobytes())
    done = python(
        RUN_GSTREAMER,
        f"filesrc location={tmp_path}/in.rgb ! "
        f"rawvideoparse format=rgb width={SIZE[1]} height={SIZE[0]} framerate=30/1",
        f"filesink location={tmp_path}/out.rgb",
    )
    assert done.returncode == 0, done.stderr
    shown = np.frombuffer((tmp_path / "out.rgb").read_bytes(), np.uint8).reshape(12, *SIZE, 3)
    assert sum(map(exposed, shown)) == 0
    assert (shown[:, :, 80:] == np.stack(pictures)[:, :, 80:]).all()


def test_gstreamer_says_what_is_missing() -> None:
    hidden = "import sys; sys.modules['gi'] = None; sys.path.append(sys.argv[1])\nimport runpy\n"
    done = python(hidden + f"runpy.run_path({str(EXAMPLES / 'live_gstreamer.py')!r})", ".")
    assert done.returncode == 1
    assert "GStreamer's binding for Python is missing" in done.stderr
    assert "Traceback" not in done.stderr
