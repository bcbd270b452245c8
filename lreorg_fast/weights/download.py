"""One file over https into a ``.part`` file: bounded, resumable, hashed while it comes.

Nothing that a server says is believed: not the length, not the type, not the place that it sends
us to. What has arrived stays when the connection breaks or the user interrupts, and the next
attempt asks for the rest only if the server can prove (a strong ETag, RFC 9110 section 13.1.5)
that the rest belongs to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn, Protocol

import lreorg_fast
from lreorg_fast.errors import OutputError
from lreorg_fast.files import parse_json

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5
LONGEST_WAIT = 16.0  # seconds between attempts
MAX_REDIRECTS = 5
MAX_UNKNOWN_BYTES = 8 * 2**30  # for files whose size nobody published
_CHUNK = 1 << 20
_MAX_STATE_BYTES = 1 << 14
_LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
_FINAL = (ssl.SSLCertVerificationError, socket.gaierror)  # asking again does not help
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_WEB_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml|head|body)", re.IGNORECASE)

Progress = Callable[[int, int], None]


class Refused(Exception):
    """This address will not give the file, however often it is asked."""


class Interrupted(Exception):
    """The connection failed; asking again may help."""


@dataclass(frozen=True)
class Wanted:
    """What is known of the file beforehand: size in bytes and SHA-256, each None if unknown."""

    bytes: int | None
    sha256: str | None

    @property
    def most(self) -> int:
        """More bytes than this are never written."""
        return MAX_UNKNOWN_BYTES if self.bytes is None else self.bytes


@dataclass(frozen=True)
class Received:
    """A complete ``.part`` file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Transfer:
    """How to ask: whether plain http to this very machine is allowed, and how to wait."""

    allow_local_http: bool
    sleep: Callable[[float], None]
    progress: Progress | None

    def get(self, url: str, part: Path, wanted: Wanted) -> Received:
        """Fetch ``url`` into ``part``, going on where an earlier attempt ended.

        Raises:
            Refused: with the reason; ``part`` is gone if it was not the file that is wanted.
            OutputError: the disk is full or cannot be written.
        """
        check_address(url, self.allow_local_http)
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(min(2.0 ** (attempt - 1), LONGEST_WAIT))
            try:
                return self._attempt(url, part, wanted)
            except Interrupted as error:
                reason = str(error)
        raise Refused(f"{reason}, {ATTEMPTS} times")

    def _attempt(self, url: str, part: Path, wanted: Wanted) -> Received:
        etag = _resumable(part, url)
        with _network_errors(), self._open(url, part, etag) as response:
            start, total = _check_response(response, part, etag, wanted)
            _check_space(part, (total or 0) - start)
            with _writing(part), open(part, "r+b" if start else "wb") as stream:
                if not start:
                    _remember(part, url, response.headers.get("ETag"))
                digest = _hash_beginning(stream, start)
                try:
                    received = self._copy(response, stream, digest, start, total, wanted)
                except Refused:
                    _discard(part)
                    raise
        if total is not None and received < total:
            raise Interrupted(f"the connection ended after {received} of {total} bytes")
        found = digest.hexdigest()
        if wanted.sha256 is not None and found != wanted.sha256:
            _discard(part)
            raise Refused(f"it sent a file of SHA-256 {found} and not {wanted.sha256}")
        return Received(received, found)

    def _open(self, url: str, part: Path, etag: str | None) -> Any:
        headers = {
            "User-Agent": f"lreorg_fast/{lreorg_fast.__version__}",
            "Accept-Encoding": "identity",
        }
        if etag is not None:
            headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": etag}
        opener = urllib.request.OpenerDirector()
        # No handlers of file:, ftp: and data:, which build_opener would add.
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _CheckedRedirects(self.allow_local_http),
        ):
            opener.add_handler(handler)
        try:
            return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                _explain_status(error, part)

    def _copy(
        self,
        response: _Response,
        stream: BinaryIO,
        digest: hashlib._Hash,
        start: int,
        total: int | None,
        wanted: Wanted,
    ) -> int:
        received = start
        while piece := _read(response):
            if received == 0 and _WEB_PAGE.match(piece):
                raise Refused("it sent a web page instead of the file")
            received += len(piece)
            if received > wanted.most:
                raise Refused(f"it sent more than the {wanted.most} bytes that are allowed")
            stream.write(piece)
            digest.update(piece)
            if self.progress is not None:
                self.progress(received, total or received)
        return received


class _Response(Protocol):
    """What is used of an answer."""

    headers: Message
    status: int

    def read(self, amount: int) -> bytes: ...


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and to https only."""

    max_redirections = MAX_REDIRECTS
    max_repeats = 2

    def __init__(self, allow_local_http: bool) -> None:
        self._allow_local_http = allow_local_http

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any
    ) -> Any:
        # The base class lets ftp: pass and words its own error for other schemes.
        target = headers.get("Location")
        if target is not None:
            try:
                target = urllib.parse.urljoin(req.full_url, target)
            except ValueError:
                raise Refused(f"it leads to {target!r:.200}, which is not an address") from None
            check_address(target, self._allow_local_http)
        return super().http_error_302(req, fp, code, msg, headers)

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request:
        # The base class knows 308 from Python 3.11 on only.
        return urllib.request.Request(newurl, headers=dict(req.headers), unverifiable=True)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def check_address(url: str, allow_local_http: bool) -> None:
    """Raise :class:`Refused` unless ``url`` is https, or http to this machine where allowed."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise Refused(f"{url!r:.200} is not an address") from None
    local = allow_local_http and parts.scheme == "http" and host in _LOCAL_HOSTS
    if not host or not (parts.scheme == "https" or local):
        raise Refused(f"it leads to {url!r:.200}, and only https is followed")


def _explain_status(error: urllib.error.HTTPError, part: Path) -> NoReturn:
    if error.code == 416:  # the part is as long as the file or longer, so it is not its beginning
        _discard(part)
        raise Interrupted("the server could not go on where the last attempt ended") from error
    if 300 <= error.code < 400:
        raise Refused(f"it redirects more than {MAX_REDIRECTS} times or in a circle") from error
    sentence = f"it answered {error.code} {error.reason}"
    raise (Interrupted if error.code in _RETRIED else Refused)(sentence) from error


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Whatever breaks while we talk becomes :class:`Interrupted`; the disk's errors do not."""
    try:
        yield
    except OutputError:
        raise
    except urllib.error.URLError as error:
        final = isinstance(error.reason, _FINAL)
        raise (Refused if final else Interrupted)(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(f"the connection failed: {error or type(error).__name__}") from error


@contextlib.contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write '{part}': {error.strerror or error}; free space or set LREORG_CACHE to "
            "another folder, then fetch again"
        ) from error


def _read(response: _Response) -> bytes:
    try:
        return response.read(_CHUNK)
    except OSError as error:
        raise Interrupted(f"the connection failed: {error or type(error).__name__}") from error
    except http.client.HTTPException as error:
        raise Interrupted(f"the connection failed: {type(error).__name__}") from error


def _check_response(
    response: _Response, part: Path, etag: str | None, wanted: Wanted
) -> tuple[int, int | None]:
    """Where the body begins in the file, and how long the file is; None if that is not told."""
    headers = response.headers
    if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise Refused("it sent a web page instead of the file")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(f"it sent the file encoded as {headers['Content-Encoding']!r:.40}")
    length = headers.get("Content-Length")
    if length is not None and not length.isdecimal():
        raise Refused(f"it told the length {length!r:.40}")
    start, total = 0, None if length is None else int(length)
    if response.status == 206:
        start = part.stat().st_size if etag is not None else 0
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        same = headers.get("ETag", etag) == etag
        if etag is None or not same or found is None or int(found[1]) != start:
            _discard(part)
            raise Interrupted("the server sent another part of the file than was asked for")
        total = int(found[3])
    if total is None:
        if wanted == Wanted(None, None):  # a broken connection could not be told from the end
            raise Refused("it does not tell how long the file is, and nobody else does")
        total = wanted.bytes
    elif wanted.bytes is not None and total != wanted.bytes:
        raise Refused(f"it has {total} bytes and not {wanted.bytes}")
    elif total > wanted.most:
        raise Refused(f"it has {total} bytes, more than the {wanted.most} that are allowed")
    return start, total


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OutputError(
            f"'{part.parent}' has {free} bytes free and {needed} more are needed; free space or "
            "set LREORG_CACHE to another folder"
        )


def _hash_beginning(stream: BinaryIO, length: int) -> hashlib._Hash:
    """The digest of the first ``length`` bytes; the stream stands behind them afterwards."""
    digest = hashlib.sha256()
    left = length
    while left and (piece := stream.read(min(left, _CHUNK))):
        digest.update(piece)
        left -= len(piece)
    stream.truncate(length)
    return digest


def _state(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, url: str, etag: str | None) -> None:
    """Note which file the part is the beginning of. A weak ETag does not tell bytes apart."""
    strong = etag if etag is not None and etag.startswith('"') else None
    _state(part).write_text(json.dumps({"url": url, "etag": strong}))


def _resumable(part: Path, url: str) -> str | None:
    """The ETag under which the rest of ``part`` may be asked for; None to begin anew."""
    try:
        if not part.stat().st_size:
            return None
        with open(_state(part), "rb") as stream:
            state = parse_json(stream.read(_MAX_STATE_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(state, dict) or state.get("url") != url:
        return None
    etag = state.get("etag")
    return etag if isinstance(etag, str) and etag.isprintable() else None


def _discard(part: Path) -> None:
    for path in (part, _state(part)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def finish(part: Path) -> None:
    """Forget what only an unfinished part needs, after it has got its name."""
    _state(part).unlink(missing_ok=True)
