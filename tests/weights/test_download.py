"""Downloads from servers that break, lie, redirect and change their minds."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from toy_weights import CONTENT, SHA256, entry, fetch, folder, names
from weights_server import Resource, Server

import lreorg_fast as lf
from lreorg_fast.errors import CheckpointError, OutputError
from lreorg_fast.weights import cache as caching
from lreorg_fast.weights.download import ATTEMPTS, MAX_REDIRECTS


def test_a_cut_connection_is_taken_up_where_it_ended(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT, cut_after=[1_200_000, 500_000])
    assert fetch(entry(server.url("/a"))).read_bytes() == CONTENT
    assert server.requests[1:] == [
        ("/a", "bytes=1200000-", '"one"'),
        ("/a", "bytes=1700000-", '"one"'),
    ]
    assert fetch.waits == [1.0, 2.0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"ranges": False}, "bytes=1000-"),
        ({"etag": None}, None),
        ({"etag": 'W/"weak"'}, None),
    ],
    ids=["no ranges", "no etag", "weak etag"],
)
def test_where_the_rest_cannot_be_proven_all_comes_again(
    cache: Path, server: Server, changes: dict[str, Any], asked: str | None
) -> None:
    server.resources["/a"] = Resource(CONTENT, cut_after=[1000], **changes)
    assert fetch(entry(server.url("/a"))).read_bytes() == CONTENT
    assert [request[1] for request in server.requests] == [None, asked]


@pytest.mark.parametrize("checks_condition", [True, False])
def test_a_file_that_changed_meanwhile_is_asked_anew(
    cache: Path, server: Server, checks_condition: bool
) -> None:
    """Also where the server sends the rest of another file in spite of If-Range."""
    other = Resource(b"x" * len(CONTENT), cut_after=[1000], checks_condition=checks_condition)
    server.resources["/a"] = other

    def change() -> None:
        if len(server.requests) == 2:
            other.content, other.etag = CONTENT, '"two"'

    other.before = change
    # Nobody published a digest: only the ETag tells.
    path = fetch(entry(server.url("/a"), bytes=None, sha256=None))
    assert path.read_bytes() == CONTENT


def test_a_server_that_sends_another_range_is_asked_anew(cache: Path, server: Server) -> None:
    server.resources["/a"] = resource = Resource(CONTENT, cut_after=[1000])

    def lie() -> None:
        if len(server.requests) == 2:  # a whole answer that calls itself a part
            resource.status = 206
            resource.ranges = False
        else:
            resource.status = 200

    resource.before = lie
    assert fetch(entry(server.url("/a"))).read_bytes() == CONTENT
    assert server.requests[2][1] is None


def test_a_part_that_is_too_long_is_thrown_away(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT)
    folder(cache).mkdir(parents=True)
    (folder(cache) / "toy.pt.part").write_bytes(CONTENT + b"more")
    (folder(cache) / "toy.pt.part.json").write_text(
        json.dumps({"url": server.url("/a"), "etag": '"one"'})
    )
    assert fetch(entry(server.url("/a"))).read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.requests] == [f"bytes={len(CONTENT) + 4}-", None]


def test_attempts_are_bounded_and_what_came_stays(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT, cut_after=[10] * 100)
    with pytest.raises(
        CheckpointError, match=f"ended after 50 of {len(CONTENT)} bytes, {ATTEMPTS}"
    ):
        fetch(entry(server.url("/a")))
    assert len(server.requests) == ATTEMPTS
    assert (folder(cache) / "toy.pt.part").stat().st_size == 10 * ATTEMPTS
    assert caching.state_of(entry(server.url("/a"))) == "partial"


def test_a_wrong_digest_names_both_and_leaves_nothing(cache: Path, server: Server) -> None:
    wrong = CONTENT[:-1] + b"!"
    server.resources["/a"] = Resource(wrong)
    with pytest.raises(CheckpointError) as error:
        fetch(entry(server.url("/a")))
    assert SHA256 in str(error.value)
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert names(cache) == set()


@pytest.mark.parametrize(
    ("resource", "requests"),
    [
        (Resource(b"<html>not here</html>", 404, content_type="text/html"), 1),
        (Resource(CONTENT, 403), 1),
        (Resource(CONTENT, 503), ATTEMPTS),
    ],
    ids=["404", "403", "503"],
)
def test_an_error_page_is_no_file(
    cache: Path, server: Server, resource: Resource, requests: int
) -> None:
    server.resources["/a"] = resource
    with pytest.raises(CheckpointError, match=f"it answered {resource.status}"):
        fetch(entry(server.url("/a")))
    assert len(server.requests) == requests
    assert names(cache) == set()


@pytest.mark.parametrize(
    "resource",
    [
        Resource(b"anything at all", content_type="text/html; charset=utf-8"),
        Resource(b"\n <!DOCTYPE html><title>Quota exceeded</title>"),
        Resource(b"<html><body>Sign in"),
    ],
    ids=["by type", "by doctype", "by tag"],
)
def test_a_web_page_instead_of_the_file(cache: Path, server: Server, resource: Resource) -> None:
    server.resources["/a"] = resource
    with pytest.raises(CheckpointError, match="a web page instead of the file"):
        fetch(entry(server.url("/a"), bytes=None, sha256=None))
    assert names(cache) == set()


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ATTEMPTS),
        (TimeoutError("timed out"), ATTEMPTS),
        (ssl.SSLCertVerificationError("certificate verify failed"), 1),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OSError) else "",
)
def test_no_connection(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, times: int
) -> None:
    calls = []

    def connect(_: object) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    with pytest.raises(CheckpointError, match=r"no connection: .*lreorg weights add FILE"):
        fetch(entry("http://127.0.0.1/a"))
    assert len(calls) == times
    assert fetch.waits == [1.0, 2.0, 4.0, 8.0][: times - 1]  # type: ignore[attr-defined]


def test_a_redirect_is_followed(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(status=302, location="/b")
    server.resources["/b"] = Resource(status=307, location=server.url("/c"))
    server.resources["/c"] = Resource(CONTENT, cut_after=[1000])
    assert fetch(entry(server.url("/a"))).read_bytes() == CONTENT
    assert server.requests[-1] == ("/c", "bytes=1000-", '"one"')


def test_a_circle_of_redirects_ends(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(status=302, location="/b")
    server.resources["/b"] = Resource(status=302, location="/a")
    with pytest.raises(CheckpointError, match="redirects more than"):
        fetch(entry(server.url("/a")))
    assert len(server.requests) <= 2 * MAX_REDIRECTS


@pytest.mark.parametrize(
    "place",
    ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "http://192.0.2.1/a", "http://evil@[/a"],
)
def test_a_redirect_away_from_https_is_refused(cache: Path, server: Server, place: str) -> None:
    server.resources["/a"] = Resource(status=302, location=place)
    with pytest.raises(CheckpointError, match=r"only https is followed|is not an address"):
        fetch(entry(server.url("/a")))
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1/a", "http://192.0.2.1/a"])
def test_plain_http_is_refused_unless_asked_for_and_local(
    cache: Path, server: Server, url: str
) -> None:
    with pytest.raises(CheckpointError, match="only https is followed"):
        lf.weights.fetch(entry(url), allow_local_http="192" in url)
    assert not server.requests


def test_more_than_was_declared_is_not_written(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT, tell_length=False)
    with pytest.raises(CheckpointError, match="more than the 1000 bytes"):
        fetch(entry(server.url("/a"), bytes=1000))
    server.resources["/a"].tell_length = True
    with pytest.raises(CheckpointError, match=f"it has {len(CONTENT)} bytes and not 1000"):
        fetch(entry(server.url("/a"), bytes=1000))
    assert names(cache) == set()


def test_a_length_that_nobody_knows_is_refused_without_a_digest(
    cache: Path, server: Server
) -> None:
    server.resources["/a"] = Resource(CONTENT, tell_length=False)
    with pytest.raises(CheckpointError, match="does not tell how long"):
        fetch(entry(server.url("/a"), bytes=None, sha256=None))
    assert fetch(entry(server.url("/a"), bytes=None)).read_bytes() == CONTENT


def test_a_full_disk_is_told_and_what_came_can_be_gone_on_with(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.resources["/a"] = Resource(CONTENT)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match=f"1000 bytes free and {len(CONTENT)} more"):
        fetch(entry(server.url("/a")))
    monkeypatch.undo()


def test_a_write_error_is_told_and_not_tried_again(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.resources["/a"] = Resource(CONTENT)

    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device; free space"):
        fetch(entry(server.url("/a")), progress=fail)  # called between writes
    assert len(server.requests) == 1
    assert (folder(cache) / "toy.pt.part").stat().st_size > 0
    assert fetch(entry(server.url("/a"))).read_bytes() == CONTENT
    assert server.requests[1][1] is not None


def test_an_interrupted_download_leaves_a_part_to_go_on_with(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry(server.url("/a")), progress=interrupt)
    length = (folder(cache) / "toy.pt.part").stat().st_size
    assert 0 < length < len(CONTENT)
    assert fetch(entry(server.url("/a"))).read_bytes() == CONTENT
    assert server.requests[1][1] == f"bytes={length}-"
