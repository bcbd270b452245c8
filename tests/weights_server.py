"""An HTTP server for tests on a UNIX socket: the tests' guard refuses every other one.

The client believes that it talks to http://127.0.0.1; only ``connect`` is replaced, so redirects,
ranges, broken connections and everything else of HTTP are real.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ADDRESS = "http://127.0.0.1"


@dataclass
class Resource:
    """How the server behaves at one path."""

    content: bytes = b""
    status: int = 200
    etag: str | None = '"one"'
    ranges: bool = True
    checks_condition: bool = True
    content_type: str = "application/octet-stream"
    length: int | None = None  # to tell another length than that of the content
    tell_length: bool = True
    location: str | None = None
    cut_after: list[int] = field(default_factory=list)  # bytes sent by the first answers
    before: Callable[[], None] = lambda: None


@dataclass
class Server:
    """What it serves, by path, and what it was asked: (path, Range, If-Range)."""

    resources: dict[str, Resource] = field(default_factory=dict)
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return ADDRESS + path


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    behaviour: Server


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Unix

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        behaviour.requests.append((self.path, asked, condition))
        resource = behaviour.resources.get(self.path, Resource(b"<html>no</html>", 404))
        resource.before()
        start = 0
        status = resource.status
        ranges = resource.ranges and status == 200
        same = condition == resource.etag or not resource.checks_condition
        if asked is not None and ranges and same:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(resource.content):
                status, start = 416, len(resource.content)
        body = resource.content[start:]
        self.send_response(status)
        self.send_header("Content-Type", resource.content_type)
        if resource.etag is not None:
            self.send_header("ETag", resource.etag)
        if resource.location is not None:
            self.send_header("Location", resource.location)
        if status == 206:
            end, size = len(resource.content) - 1, len(resource.content)
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        if resource.tell_length:
            length = len(body) if resource.length is None else resource.length
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if resource.cut_after:
            body = body[: resource.cut_after.pop(0)]
        with contextlib.suppress(OSError):  # a client that refuses hangs up
            self.wfile.write(body)
        self.close_connection = True


@contextlib.contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # Not tmp_path: the path of a UNIX socket may have about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="lreorg-"))
    address = str(folder / "socket")

    def connect(connection: http.client.HTTPConnection) -> None:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(address)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    monkeypatch.setenv("no_proxy", "*")
    with _Unix(address, _Handler) as server:
        server.behaviour = Server()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.behaviour
        finally:
            server.shutdown()
            thread.join()
            shutil.rmtree(folder)
