"""``lreorg live``: every option changes what it says it changes."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from marked_frames import SIZE, MarkDetector, exposed, frame, is_blank
from stream_servers import WAIT, Camera, http_files, rtsp_camera, transport_stream

import lreorg_fast.faces
from lreorg_fast.cli.anonymize import anonymize
from lreorg_fast.cli.app import lreorg
from lreorg_fast.cli.live import live

PICTURES = [frame(number, people=2) for number in range(8)]
RAW = np.stack(PICTURES).tobytes()
# Two seconds: FFmpeg looks at one before it is sure what it is.
LONG = transport_stream(PICTURES * 8)
SHAPE = f"{SIZE[1]}x{SIZE[0]}"
Go = Callable[..., Result]


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> MarkDetector:
    marks = MarkDetector()
    monkeypatch.setattr(lreorg_fast.faces, "load_detector", lambda *_: marks)
    return marks


@pytest.fixture
def go(detector: MarkDetector) -> Go:
    """``go(source, sink, ...)`` with the marks' detector; raw frames come from stdin."""

    def invoke(source: str, sink: object, *options: object, method: str = "fill") -> Result:
        size = ["--size", SHAPE] if source == "-" else []
        arguments = ["live", source, "--to", sink, "--method", method, *size, *options]
        result = CliRunner().invoke(lreorg, [str(a) for a in arguments], input=RAW)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return invoke


def counts(result: Result) -> dict:
    text = result.stderr if "{" in result.stderr else result.stdout
    return dict(json.loads(text[text.index("{") : text.rindex("}") + 1]))


def pictures(result: Result) -> np.ndarray:
    return np.frombuffer(result.stdout_bytes, np.uint8).reshape(-1, *SIZE, 3)


def test_from_pipe_to_pipe(go: Go) -> None:
    result = go("-", "-", "--json")
    assert result.exit_code == 0, result.stderr
    shown = pictures(result)
    assert len(shown) == 8
    assert sum(map(exposed, shown)) == 0
    assert (shown[:, :, 80:] == np.stack(PICTURES)[:, :, 80:]).all()
    content = counts(result)
    assert (content["written"], content["filled"], content["dropped"]) == (8, 16, 0)
    assert set(content["latency_ms"]) == {"p50", "p95", "p99"}


def test_a_sentence_of_counts_unless_quiet(go: Go, tmp_path: Path) -> None:
    said = go("-", "-")
    assert "8 frames written" in said.stderr
    assert "latency p50" in said.stderr
    assert "8 frames written" in go("-", tmp_path / "a.mp4").stdout
    assert go("-", tmp_path / "b.mp4", "--quiet").output == ""


def test_to_a_file_and_force(go: Go, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    assert go("-", target, "--rate", 10).exit_code == 0
    with av.open(str(target)) as container:
        times = [f.time for f in container.decode(video=0)]
    assert np.diff(times) == pytest.approx(0.1, abs=0.002)
    refused = go("-", target)
    assert (refused.exit_code, "exists already" in refused.stderr) == (2, True)
    assert go("-", target, "--force").exit_code == 0


def test_codec_container_and_quality(go: Go, tmp_path: Path) -> None:
    assert go("-", tmp_path / "a.mkv", "--codec", "libx265").exit_code == 0
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "hevc"
    result = go("-", "-", "--container", "mpegts")
    with av.open(io.BytesIO(result.stdout_bytes)) as container:
        assert container.format.name == "mpegts"
    sizes = [len(go("-", "-", "--container", "mpegts", "--quality", q).stdout) for q in (5, 45)]
    assert sizes[0] > 1.2 * sizes[1]


def test_pixel_format_is_that_of_both_pipes(go: Go) -> None:
    shown = pictures(go("-", "-", "--pixel-format", "bgr24"))
    assert (shown[:, :, 80:] == np.stack(PICTURES)[:, :, 80:]).all()
    # The marks have other colours when red is read as blue, so none is found.
    assert sum(exposed(picture) for picture in shown) > 0


def test_frames(go: Go) -> None:
    assert len(pictures(go("-", "-", "--frames", 3))) == 3


def test_hold(go: Go, detector: MarkDetector) -> None:
    """Two frames a second, and nothing is found from the third on."""
    detector.faults = dict.fromkeys(range(2, 8), "nothing")
    for hold, frames_held in ((0, 3), (2, 4), (9, 6)):
        detector.calls = 0
        content = counts(go("-", "-", "--json", "--rate", 2, "--hold", hold))
        assert content["held"] == 2 * frames_held


def test_timeout_blanks_and_is_told_by_the_exit_code(go: Go, detector: MarkDetector) -> None:
    release = threading.Event()
    detector.faults = {1: lambda: release.wait(WAIT)}
    result = go("-", "-", "--json", "--timeout", 0.5)
    release.set()
    assert result.exit_code == 1
    assert counts(result)["blanked"] == 7
    assert list(map(is_blank, pictures(result))) == [False] + [True] * 7


def test_newest_frame_drops(go: Go, detector: MarkDetector, tmp_path: Path) -> None:
    """Processing of the first frame goes on until the pipe has been read."""
    read = threading.Event()

    class Pipe(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            if not content and size != 0:  # click reads nothing, to see whether it gets bytes
                read.set()
            return content

    detector.faults = {0: lambda: read.wait(WAIT)}
    shown = {}
    for option in ("--newest-frame", "--every-frame"):
        if option == "--every-frame":
            detector.faults = {}
        arguments = ["live", "-", "--to", "-", "--method", "fill", "--size", SHAPE, "--json"]
        arguments += ["--rate", "1000", option]
        result = CliRunner().invoke(lreorg, arguments, input=Pipe(RAW))
        assert result.exit_code == 0, result.stderr
        shown[option] = counts(result)
    assert shown["--newest-frame"]["dropped"] >= 1
    assert shown["--every-frame"]["dropped"] == 0


def test_stats_are_printed_on_the_way(go: Go, detector: MarkDetector) -> None:
    assert go("-", "-", "--stats", 1e-6, "--quiet").stderr.count("frames written") >= 2
    assert go("-", "-", "--quiet").stderr == ""


def test_a_source_that_hangs_turns_black_after_the_stall(go: Go, tmp_path: Path) -> None:
    with rtsp_camera(Camera(LONG, lambda _: "hang")) as camera:
        options = ["--stall", 0.1, "--every-frame", "--frames", 70, "--json"]
        result = go(camera.url, tmp_path / "a.mkv", *options)
    assert result.exit_code == 0, result.stderr
    content = counts(result)
    assert content["black"] == 70 - content["processed"] >= 3


@pytest.mark.parametrize("retries", [0, 1])
def test_retries(go: Go, tmp_path: Path, retries: int) -> None:
    ends = lambda number: "refuse" if number else "close"  # noqa: E731
    with rtsp_camera(Camera(transport_stream(PICTURES), ends)) as camera:
        result = go(camera.url, tmp_path / "a.mkv", "--retries", retries)
        assert camera.clients == 1 + retries
    assert result.exit_code == 2
    assert (tmp_path / "a.mkv").exists()  # what came is kept


def test_options_of_faces_and_networks_are_those_of_pictures(go: Go, bundle: Path) -> None:
    shared = {o.name for o in anonymize.params} & {o.name for o in live.params}
    assert {"keep", "epsilon", "budget", "bundle", "device", "threshold", "clip"} <= shared
    toy = ["--bundle", bundle, "--json"]
    free = go("-", "-", *toy, method="reorganize")
    assert counts(free)["replaced"] == 16, free.stderr
    assert (counts(free)["ledger"]["persons"], counts(free)["ledger"]["largest"]) == (2, 1)
    assert "not a guarantee for the picture" in go("-", "-", *toy[:2], method="reorganize").stderr
    assert counts(go("-", "-", *toy, "--budget", 0.5, method="reorganize"))["filled"] == 16
    assert counts(go("-", "-", "--json", method="pixelate"))["pixelated"] == 16
    idle = go("-", "-", "--epsilon", 1)
    assert (idle.exit_code, "epsilon has no effect" in idle.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["4321", "--to", "-"], "there is no camera 4321"),
        (["gopher://a", "--to", "-"], "the scheme 'gopher' cannot be read from here"),
        (["-", "--to", "gopher://a", "--size", SHAPE], "the scheme 'gopher' cannot be written to"),
        (["-", "--to", "-"], "give --size WIDTHxHEIGHT"),
        (["-", "--to", "-", "--size", "12"], "--size is '12'"),
        (["-", "--to", "-", "--size", SHAPE, "--stall", 1], "--stall has no effect"),
        (["-", "--to", "-", "--size", SHAPE, "--retries", 1], "--retries has no effect"),
        (["-", "--to", "-", "--size", SHAPE, "--frames", 0], "frames is 0"),
        (["-", "--to", "a", "--size", SHAPE], "does not say what kind of video"),
        (["missing.mp4", "--to", "-"], "cannot read 'missing.mp4'"),
        (["a.mp4", "--to", "-", "--pixel-format", "rgb24", "--container", "ts"], "has no effect"),
    ],
)
def test_errors_are_one_sentence(arguments: list[object], sentence: str) -> None:
    result = CliRunner().invoke(lreorg, ["live", *map(str, arguments), "--method", "fill"])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter", reason="this Python was built without Tk")
    monkeypatch.delenv("DISPLAY", raising=False)
    result = CliRunner().invoke(lreorg, ["live", "-", "--size", SHAPE, "--to", "window"])
    assert (result.exit_code, "no display" in result.stderr) == (2, True)


def test_frames_do_not_go_to_a_terminal(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    result = go("-", "-")
    assert (result.exit_code, "to the terminal" in result.stderr) == (2, True)


def test_a_playlist_with_a_local_file(go: Go, tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(transport_stream(PICTURES))
    playlist = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
        f"file://{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    )
    with http_files({"/a.m3u8": playlist.encode()}) as (address, _):
        result = go(f"{address}/a.m3u8", tmp_path / "out.mkv")
    assert (result.exit_code, "cannot be read" in result.stderr) == (2, True)
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_finish_what_is_written(tmp_path: Path, number: int) -> None:
    with rtsp_camera(Camera(LONG, lambda _: "hang")) as camera:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lreorg_fast", "live", camera.url, "--to", "out.mp4"),
                *("--method", "fill", "--stats", "0.01", "--stall", "0.1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            # Whoever runs the tests in the background of a shell has SIGINT ignored, and so have
            # their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        for line in process.stderr:
            if not line.startswith("0 frames"):
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "frames written" in out
    assert "Traceback" not in err
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
