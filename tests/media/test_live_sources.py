"""Cameras, addresses, files and raw pipes as sources."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from clips import ClipFormat, write_clip
from hypothesis import given
from hypothesis import strategies as st
from stream_servers import Camera, http_files, rtsp_camera, transport_stream

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.media import live_sources
from lreorg_fast.media.live_sources import PIXEL_FORMATS, SourceOptions, open_source
from lreorg_fast.media.urls import SCHEMES, without_secrets

PICTURES = [np.full((32, 48, 3), 20 * number + 20, np.uint8) for number in range(8)]


def levels(source) -> list[int]:
    """Frames of one gray each, as the number of the picture that they are."""
    return [round(float(picture.mean()) / 20) - 1 for picture, _ in source.frames()]


# ---- raw pipes


@pytest.mark.parametrize(("name", "order"), [(n, o) for n, (_, o) in PIXEL_FORMATS.items()])
def test_raw_frames_are_what_was_written(name: str, order: tuple[int, ...]) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    raw = np.zeros((3, 5, 7, PIXEL_FORMATS[name][0]), np.uint8)
    raw[..., list(order)] = frames
    options = SourceOptions((7, 5), name, rate=10)
    found = list(open_source("-", options, io.BytesIO(raw.tobytes())).frames())
    assert all((picture == frame).all() for (picture, _), frame in zip(found, frames, strict=True))
    assert [seconds for _, seconds in found] == [0, 0.1, 0.2]


class _Pieces(io.RawIOBase):
    """A pipe that gives what it likes."""

    def __init__(self, content: bytes, pieces: list[int]) -> None:
        self._content, self._pieces = io.BytesIO(content), pieces

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, self._pieces.pop() if self._pieces else size))


@given(st.lists(st.integers(1, 40)), st.integers(0, 3 * 24))
def test_a_pipe_in_pieces_and_cut_off(pieces: list[int], length: int) -> None:
    content = bytes(range(72))[:length]
    source = open_source("-", SourceOptions((4, 2)), _Pieces(content, list(pieces)))
    found: list[bytes] = []
    if length % 24:
        with pytest.raises(VideoError, match=f"within frame {length // 24}; check --size"):
            found.extend(picture.tobytes() for picture, _ in source.frames())
    else:
        found = [picture.tobytes() for picture, _ in source.frames()]
    assert b"".join(found) == content[: length // 24 * 24]


def test_raw_frames_need_their_size() -> None:
    with pytest.raises(ConfigError, match="--size WIDTHxHEIGHT"):
        open_source("-", SourceOptions(), io.BytesIO())


# ---- files


def test_a_file_gives_its_frames_upright_at_their_times(tmp_path: Path) -> None:
    bright = [np.concatenate([p, p + 60]).astype(np.uint8) for p in PICTURES[:3]]
    how = ClipFormat(rotation=90, ticks=[0, 3000, 12000])
    path = write_clip(tmp_path / "in.mkv", bright, how)
    source = open_source(str(path), SourceOptions())
    found = list(source.frames())
    assert not source.live
    assert [picture.shape for picture, _ in found] == [(48, 64, 3)] * 3
    assert [round(seconds, 3) for _, seconds in found] == [0, 0.1, 0.4]


def test_a_playlist_is_no_file(tmp_path: Path) -> None:
    secret = write_clip(tmp_path / "secret.mp4", PICTURES)
    for name, content in {
        "list.m3u8": f"#EXTM3U\n#EXTINF:1,\n{secret}\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nm=video 9 RTP/AVP 33\n",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(VideoError, match="is not a video that is read here"):
            open_source(str(tmp_path / name), SourceOptions())


# ---- addresses


def test_http(tmp_path: Path) -> None:
    with http_files({"/a.ts": transport_stream(PICTURES)}) as (address, _):
        source = open_source(f"{address}/a.ts", SourceOptions())
        assert source.live
        assert levels(source) == list(range(8))
        assert source.rate == 30
        with pytest.raises(VideoError, match="404"):
            levels(open_source(f"{address}/b.ts", SourceOptions()))


@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_a_playlist_may_not_name_a_local_file(tmp_path: Path, kind: str) -> None:
    content = transport_stream(PICTURES)
    (tmp_path / "secret.ts").write_bytes(content)
    forms = {
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "concat": "ffconcat version 1.0\nfile '{}'\n",
    }
    with http_files({"/ok.ts": content}) as (address, asked):
        for name, segment in {
            "ok": f"{address}/ok.ts",
            "bad": f"file://{tmp_path}/secret.ts",
            "worse": f"{tmp_path}/secret.ts",
        }.items():
            playlist = forms[kind].format(segment)
            with http_files({f"/{name}.m3u8": playlist.encode()}) as (other, _):
                source = open_source(f"{other}/{name}.m3u8", SourceOptions())
                if name == "ok" and kind == "hls":
                    assert levels(source) == list(range(8))
                    assert "/ok.ts" in asked
                else:
                    with pytest.raises(VideoError, match="cannot be read"):
                        levels(source)


def test_rtsp() -> None:
    with rtsp_camera(Camera(transport_stream(PICTURES))) as camera:
        source = open_source(camera.url, SourceOptions())
        for _ in range(2):  # and again
            found = levels(source)
            assert found == list(range(8))[: len(found)]
            assert len(found) >= 6  # the last packets of a connection that is cut may be lost


def test_a_connection_that_hangs_is_given_up() -> None:
    with rtsp_camera(Camera(transport_stream(PICTURES), lambda _: "hang")) as camera:
        frames = open_source(camera.url, SourceOptions(timeout=0.3)).frames()
        with pytest.raises(VideoError, match=r"nothing came for 0\.3 seconds"):
            list(frames)


def test_damaged_packets_cost_frames_only() -> None:
    content = bytearray(transport_stream(PICTURES * 8))
    random = np.random.default_rng(3)
    for position in random.integers(8 * 188, len(content), 60):
        content[position] ^= 0xFF
    with http_files({"/a.ts": bytes(content)}) as (address, _):
        assert len(levels(open_source(f"{address}/a.ts", SourceOptions()))) > 10


def test_no_video_in_it() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        sound = container.add_stream("mp2", rate=48000, layout="mono")
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
        wave.sample_rate = 48000
        for packet in [*sound.encode(wave), *sound.encode(None)]:
            container.mux(packet)
    with http_files({"/a.ts": buffer.getvalue()}) as (address, _):
        source = open_source(f"{address}/a.ts", SourceOptions())
        with pytest.raises(VideoError, match="there is no video"):
            levels(source)


def test_passwords_are_not_shown() -> None:
    url = "rtsp://anna:secret@127.0.0.1:9/a?token=secret"
    assert without_secrets(url) == "rtsp://127.0.0.1:9/a"
    assert without_secrets("rtsp://anna:secret@host:port/") == "rtsp://..."
    with pytest.raises(VideoError, match="Connection refused") as caught:
        levels(open_source(url, SourceOptions()))
    assert "secret" not in str(caught.value)


def test_no_scheme_may_read_files() -> None:
    for scheme in SCHEMES.values():
        allowed = (scheme.protocols or "").split(",")
        assert not {"file", "pipe", "fd", "concat", "subfile", "data", "unix"} & set(allowed)


def opened_with(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What PyAV is asked for; it says that the device is busy."""
    asked = {}

    def opened(target: str, **how: object) -> None:
        asked.update(how, target=target)
        raise av.error.BlockingIOError(16, "Device or resource busy")

    monkeypatch.setattr(
        live_sources, "import_av", lambda: SimpleNamespace(open=opened, error=av.error)
    )
    return asked


@pytest.mark.parametrize("scheme", [name for name, s in SCHEMES.items() if s.protocols])
def test_ffmpeg_is_told_what_it_may_open(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg refuses much of it by itself, so what happens cannot tell who refused."""
    asked = opened_with(monkeypatch)
    with pytest.raises(VideoError, match="busy"):
        levels(open_source(f"{scheme}://127.0.0.1/a", SourceOptions(timeout=2)))
    assert asked["options"]["protocol_whitelist"] == SCHEMES[scheme].protocols
    demuxers = asked["options"]["format_whitelist"].split(",")
    assert not {"concat", "sdp", "image2", "lavfi", "dash"} & set(demuxers)
    assert asked["timeout"] == (2, 2)


# ---- cameras


def test_no_camera() -> None:
    with pytest.raises(VideoError, match="there is no camera 4321"):
        open_source("4321", SourceOptions())


def test_a_camera_is_asked_for_size_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no camera where tests run: FFmpeg's side is played."""
    asked = opened_with(monkeypatch)
    monkeypatch.setattr(live_sources.Path, "exists", lambda _: True)
    source = open_source("0", SourceOptions((640, 480), rate=15))
    assert (source.live, source.rate) == (True, 15)
    with pytest.raises(VideoError, match="'camera 0' cannot be read: Device or resource busy"):
        levels(source)
    assert (asked["target"], asked["format"]) == ("/dev/video0", "v4l2")
    assert asked["options"]["video_size"] == "640x480"
    assert asked["options"]["framerate"] == "15"


# ---- options


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("rtsp://127.0.0.1/a", {"size": (4, 4)}),
        ("in.mp4", {"rate": 10.0}),
        ("in.mp4", {"pixel_format": "rgb24"}),
        ("0", {"pixel_format": "rgb24"}),
    ],
)
def test_an_option_without_effect_is_an_error(source: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="has no effect with this source"):
        open_source(source, SourceOptions(**options))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (0, 4)},
        {"size": (99999, 99999)},
        {"pixel_format": "yuv"},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"timeout": 0.0},
    ],
)
def test_options_are_checked(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        SourceOptions(**wrong)


def test_an_unknown_scheme_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'gopher' cannot be read from here; choose one of rtsp"):
        open_source("gopher://127.0.0.1", SourceOptions())
    with pytest.raises(ConfigError, match="'file' cannot be read"):
        open_source("file:///etc/passwd", SourceOptions())
