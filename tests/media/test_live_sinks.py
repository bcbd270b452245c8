"""Files, addresses, pipes and the window as sinks."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from stream_servers import WAIT, free_port

from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.media.live_encoder import fitted
from lreorg_fast.media.live_sinks import SinkClosed, SinkOptions, open_sink
from lreorg_fast.media.live_sources import PIXEL_FORMATS, SourceOptions, open_source

PICTURES = [np.full((32, 48, 3), 20 * number + 20, np.uint8) for number in range(8)]
TIMES = [0, 0.1, 0.2, 0.5, 0.5, 0.6, 0.7, 1.0]  # one is not later than the one before


def send(sink, pictures=PICTURES) -> None:
    sink.open((pictures[0].shape[1], pictures[0].shape[0]), 10)
    for picture, seconds in zip(pictures, TIMES, strict=True):
        sink.write(picture, seconds)
    sink.close(broken=False)


def shown(file: object) -> tuple[list[int], list[float], str, str]:
    """Levels, times, container and codec of a finished video."""
    with av.open(file) as container:
        stream = container.streams.video[0]
        frames = [(f.to_ndarray(format="rgb24").mean(), f.time) for f in container.decode(stream)]
        start = frames[0][1]
        return (
            [round(float(level) / 20) - 1 for level, _ in frames],
            [round(t - start, 2) for _, t in frames],
            container.format.name,
            stream.codec_context.name,
        )


# ---- files


@pytest.mark.parametrize(
    ("name", "options", "container", "codec"),
    [
        ("a.mp4", {}, "mov", "h264"),
        ("a.mkv", {}, "matroska", "h264"),
        ("a.ts", {}, "mpegts", "h264"),
        ("a.webm", {}, "matroska", "vp9"),
        ("a.mkv", {"codec": "libx265"}, "matroska", "hevc"),
        ("a.MOV", {"quality": 40}, "mov", "h264"),
        ("a.bin", {"container": "matroska"}, "matroska", "h264"),
    ],
)
def test_a_file_is_of_the_kind_it_says(
    tmp_path: Path, name: str, options: dict, container: str, codec: str
) -> None:
    send(open_sink(str(tmp_path / name), SinkOptions(**options)))
    levels, times, found, found_codec = shown(str(tmp_path / name))
    assert levels == list(range(8))
    # The one that came too late is moved by a tick behind its predecessor.
    assert times == pytest.approx(TIMES, abs=0.011)
    assert container in found
    assert codec in found_codec
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_quality_changes_the_size(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8))
    for quality in (10, 45):
        options = SinkOptions(quality=quality)
        send(open_sink(str(tmp_path / f"{quality}.mp4"), options), noise)
    sizes = [(tmp_path / f"{quality}.mp4").stat().st_size for quality in (10, 45)]
    assert sizes[0] > 2 * sizes[1]


def test_a_broken_recording_is_not_there(tmp_path: Path) -> None:
    sink = open_sink(str(tmp_path / "a.mp4"), SinkOptions())
    sink.open((48, 32), 10)
    sink.write(PICTURES[0], 0)
    sink.close(broken=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (8, 320, 480, 3), dtype=np.uint8))
    sink = open_sink(str(tmp_path / "a.mkv"), SinkOptions(quality=1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        send(sink, noise)
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        open_sink(str(target), SinkOptions())
    assert target.read_bytes() == b"mine"
    send(open_sink(str(target), SinkOptions(overwrite=True)))
    assert shown(str(target))[0] == list(range(8))


def test_a_sink_that_was_never_opened_leaves_nothing(tmp_path: Path) -> None:
    open_sink(str(tmp_path / "a.mp4"), SinkOptions()).close(broken=False)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_fitted(tmp_path: Path) -> None:
    wide = np.full((20, 80, 3), 200, np.uint8)
    sink = open_sink(str(tmp_path / "a.mp4"), SinkOptions())
    sink.open((49, 33), 10)
    sink.write(np.full((33, 49, 3), 200, np.uint8), 0)
    sink.write(wide, 0.1)
    sink.close(broken=False)
    with av.open(str(tmp_path / "a.mp4")) as container:
        one, two = (f.to_ndarray(format="rgb24") for f in container.decode(video=0))
    assert one.shape == two.shape == (32, 48, 3)
    assert one.min() > 150
    assert two[2].max() < 50 < 150 < two[16].min()
    assert fitted(wide, (80, 20)) is not None


# ---- pipes


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_raw_frames_can_be_read_back(name: str) -> None:
    frames = list(np.random.default_rng(1).integers(0, 256, (8, 5, 7, 3), dtype=np.uint8))
    pipe = io.BytesIO()
    send(open_sink("-", SinkOptions(pixel_format=name), pipe), frames)
    pipe.seek(0)
    source = open_source("-", SourceOptions((7, 5), name), pipe)
    found = [picture for picture, _ in source.frames()]
    assert all((a == b).all() for a, b in zip(found, frames, strict=True))


def test_a_container_into_a_pipe() -> None:
    class Pipe(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise OSError(errno.ESPIPE, "Illegal seek")

    pipe = Pipe()
    send(open_sink("-", SinkOptions(container="mpegts"), pipe))
    levels, _, container, _ = shown(io.BytesIO(pipe.getvalue()))
    assert (levels, container) == (list(range(8)), "mpegts")


def test_a_pipe_that_nobody_reads_any_more() -> None:
    class Closed(io.BytesIO):
        def write(self, _: object) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    sink = open_sink("-", SinkOptions(), Closed())
    sink.open((48, 32), 10)
    with pytest.raises(OutputError, match="cannot write to '-': Broken pipe"):
        sink.write(PICTURES[0], 0)
    sink = open_sink("-", SinkOptions(container="mpegts"), Closed())
    with pytest.raises(OutputError, match="Broken pipe"):
        send(sink)


# ---- addresses


def test_tcp_and_its_reader() -> None:
    url = f"tcp://127.0.0.1:{free_port()}?listen=1"
    found: list[int] = []

    def read() -> None:
        source = open_source(url.split("?")[0], SourceOptions())
        # Until the sink's process listens, which takes it seconds on a busy machine. Who listens
        # waits without an end, so giving up early would hang the test.
        end = time.monotonic() + 10 * WAIT
        while time.monotonic() < end:
            try:
                found.extend(round(float(p.mean()) / 20) - 1 for p, _ in source.frames())
                return
            except Exception as error:
                if "refused" not in str(error):
                    raise

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    send(open_sink(url, SinkOptions()))
    reader.join(WAIT)
    assert found == list(range(8))


def test_rtsp_to_a_server() -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/live"
    found: list[int] = []
    ready = threading.Event()

    def serve() -> None:
        ready.set()
        options = {"rtsp_flags": "listen", "listen_timeout": str(int(WAIT))}
        with av.open(url, options=options) as container:
            for frame in container.decode(video=0):
                found.append(round(float(frame.to_ndarray(format="rgb24").mean()) / 20) - 1)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    assert ready.wait(WAIT)
    for _ in range(100):  # until FFmpeg listens
        sink = open_sink(url, SinkOptions())
        try:
            send(sink)
            break
        except OutputError:
            sink.close(broken=True)
    server.join(WAIT)
    assert found == list(range(8))


def test_an_address_that_nobody_serves() -> None:
    sink = open_sink(f"rtsp://anna:secret@127.0.0.1:{free_port()}/live", SinkOptions())
    with pytest.raises(OutputError, match=r"cannot write to 'rtsp://127.*refused") as caught:
        sink.open((48, 32), 10)
    sink.close(broken=True)
    assert "secret" not in str(caught.value)


def test_an_address_that_does_not_answer() -> None:
    """A server that accepts and says nothing: FFmpeg would wait for ever."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
        sink = open_sink(url, SinkOptions(timeout=1.0))
        with pytest.raises(OutputError, match="no connection within 1 seconds"):
            sink.open((48, 32), 10)
        sink.close(broken=True)


# ---- the window


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A display that nobody sees."""
    pytest.importorskip("tkinter", reason="this Python was built without Tk")
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed: a window cannot be opened here")
    inside, outside = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(outside), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=[outside],
        stderr=subprocess.DEVNULL,
    )
    os.close(outside)
    with os.fdopen(inside) as answer:
        monkeypatch.setenv("DISPLAY", f":{answer.readline().strip()}")
    yield
    process.terminate()
    process.wait(WAIT)


def test_a_window_shows_frames_until_it_is_closed(display: None) -> None:
    sink = open_sink("window", SinkOptions())
    sink.open((1280, 720), 30)
    picture = np.zeros((720, 1280, 3), np.uint8)
    picture[:, :640] = (255, 0, 0)
    sink.write(picture, 0)
    image = sink._image
    assert (image.width(), image.height()) == (640, 360)  # as large as the screen
    assert [image.get(x, 100) for x in (100, 500)] == [(255, 0, 0), (0, 0, 0)]
    sink._root.event_generate("<Escape>")
    with pytest.raises(SinkClosed):
        show_often(sink, picture)
    sink.close(broken=False)


def show_often(sink, picture: np.ndarray) -> None:
    for _ in range(100):
        sink.write(picture, 0)


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter", reason="this Python was built without Tk")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(OutputError, match="no display for a window here"):
        open_sink("window", SinkOptions())


# ---- options


@pytest.mark.parametrize(
    ("sink", "options", "word"),
    [
        ("gopher://127.0.0.1", {}, "'gopher' cannot be written to here; choose one of rtsp"),
        ("a.xyz", {}, "does not say what kind of video"),
        ("a", {"container": "nothing"}, "container is 'nothing'"),
        ("a.mp4", {"codec": "h263"}, "codec is 'h263'"),
        ("a.mp4", {"quality": 99}, "quality is 99"),
        ("a.mp4", {"pixel_format": "bgr24"}, "pixel_format has no effect"),
        ("-", {"codec": "libx264"}, "codec has no effect"),
        ("-", {"quality": 20}, "quality has no effect"),
        ("-", {"overwrite": True}, "overwrite has no effect"),
        ("-", {"container": "mpegts", "pixel_format": "bgr24"}, "pixel_format has no effect"),
        ("window", {"container": "mp4"}, "container has no effect"),
        ("udp://127.0.0.1:9", {"overwrite": True}, "overwrite has no effect"),
    ],
)
def test_what_cannot_be_is_an_error(sink: str, options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        open_sink(sink, SinkOptions(**options))
