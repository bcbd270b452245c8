"""Servers on the loopback for tests of live streams: HTTP files, and RTSP as cameras speak it."""

from __future__ import annotations

import contextlib
import http.server
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import av
import numpy as np

WAIT = 20.0


def transport_stream(pictures: list[np.ndarray], rate: int = 30) -> bytes:
    """Pictures as MPEG-TS with H.264, a key frame each."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=rate)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.options = {"crf": "10", "tune": "zerolatency", "g": "1"}
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    return buffer.getvalue()


@contextlib.contextmanager
def http_files(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """(address, list of the paths that were asked for)."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with _served(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}", asked


@contextlib.contextmanager
def _served(server: http.server.ThreadingHTTPServer) -> Iterator[int]:
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(WAIT)


@dataclass
class Camera:
    """An RTSP camera: every client gets ``content`` (MPEG-TS in RTP, interleaved), and then what
    ``ends`` says for it: ``close``, or ``hang`` until the test is over."""

    content: bytes
    ends: Callable[[int], str] = lambda number: "close"
    clients: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
            if self.ends(number) == "refuse":
                return
            while request := lines.readline():
                method = request.split()[0].decode()
                headers = {}
                while (line := lines.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                connection.sendall(self._answer(method, headers))
                if method == "PLAY":
                    self._play(connection)
                    if self.ends(number) == "hang":
                        self.over.wait(WAIT)
                    return

    def _answer(self, method: str, headers: dict[str, str]) -> bytes:
        more, body = {}, ""
        if method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
                "m=video 0 RTP/AVP 33\r\na=control:track\r\n"
            )
            more["Content-Type"] = "application/sdp"
        elif method == "SETUP":
            more["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
        elif method == "OPTIONS":
            more["Public"] = "DESCRIBE, SETUP, PLAY, TEARDOWN"
        more |= {"CSeq": headers["cseq"], "Session": "1", "Content-Length": str(len(body))}
        lines = ["RTSP/1.0 200 OK", *(f"{name}: {value}" for name, value in more.items())]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _play(self, connection: socket.socket) -> None:
        step = 7 * 188
        for number, start in enumerate(range(0, len(self.content), step)):
            payload = self.content[start : start + step]
            packet = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, 90 * number, 1) + payload
            connection.sendall(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)


@contextlib.contextmanager
def rtsp_camera(camera: Camera) -> Iterator[Camera]:
    server = socket.create_server(("127.0.0.1", 0))
    camera.url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/stream"

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                number, camera.clients = camera.clients, camera.clients + 1
                threading.Thread(
                    target=camera.serve, args=(connection, number), daemon=True
                ).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield camera
    finally:
        camera.over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(WAIT)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
