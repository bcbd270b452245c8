"""Fetching: the cache, mirrors, licences, and what is done without a network."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from toy_weights import CONTENT, SHA256, entry, fetch, folder, names
from weights_server import Resource, Server

import lreorg_fast as lf
from lreorg_fast.errors import CheckpointError, ConfigError, OutputError
from lreorg_fast.weights.download import TIMEOUT
from lreorg_fast.weights.registry import Licence, published_files


def test_a_file_comes_whole_private_and_recorded(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT)
    calls: list[tuple[int, int]] = []
    path = fetch(entry(server.url("/a")), progress=lambda *both: calls.append(both))
    assert path == folder(cache) / "toy.pt"
    assert path.read_bytes() == CONTENT
    assert names(cache) == {"toy.pt", "record.json"}
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert calls == sorted(calls)
    for private in (cache, cache / "weights", folder(cache)):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    record = json.loads((folder(cache) / "record.json").read_text())
    assert record["sha256"] == SHA256
    assert record["origin"] == server.url("/a")


def test_the_second_time_nothing_is_asked(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT)
    file = entry(server.url("/a"))
    assert fetch(file) == fetch(file)
    assert len(server.requests) == 1


def test_the_next_mirror_is_tried_and_every_reason_told(cache: Path, server: Server) -> None:
    server.resources["/bad"] = Resource(b"short")
    server.resources["/good"] = Resource(CONTENT)
    urls = [server.url(path) for path in ("/gone", "/bad", "/good")]
    assert fetch(entry(*urls)).read_bytes() == CONTENT
    shutil.rmtree(cache)
    with pytest.raises(CheckpointError) as error:
        fetch(entry(*urls[:2]))
    assert f"{urls[0]}: it answered 404" in str(error.value)
    assert f"{urls[1]}: it has 5 bytes and not {len(CONTENT)}" in str(error.value)
    assert "lreorg weights add FILE --as toy" in str(error.value)


def test_first_use_is_recorded_and_compared_afterwards(
    cache: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.resources["/a"] = resource = Resource(CONTENT)
    file = entry(server.url("/a"), bytes=None, sha256=None)
    with caplog.at_level("INFO", logger="lreorg_fast"):
        path = fetch(file)
    assert SHA256 in caplog.text
    path.unlink()
    resource.content = CONTENT[:-1] + b"!"
    with pytest.raises(CheckpointError, match=f"and not {SHA256}"):
        fetch(file)


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LREORG_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match="choose another folder with the environment variable"):
        fetch(entry("http://127.0.0.1/a"))


def test_a_read_only_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By the system call: the tests may run as root, who may write anywhere.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="Read-only file system"):
        fetch(entry("http://127.0.0.1/a"))


def test_two_at_once(cache: Path, server: Server) -> None:
    began, go_on = threading.Event(), threading.Event()
    server.resources["/a"] = resource = Resource(CONTENT)

    def wait() -> None:
        began.set()
        go_on.wait(TIMEOUT)

    resource.before = wait
    file = entry(server.url("/a"))
    results: list[Path] = []
    first = threading.Thread(target=lambda: results.append(fetch(file)))
    first.start()
    try:
        assert began.wait(TIMEOUT)
        with pytest.raises(CheckpointError, match="another process is fetching or adding toy"):
            fetch(file)
    finally:
        go_on.set()
        first.join()
    assert results[0].read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_opens_no_socket(cache: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    options = {"offline": True} if how == "option" else {}
    if how == "variable":
        monkeypatch.setenv("LREORG_OFFLINE", "1")
    for file in published_files().values():
        with pytest.raises(CheckpointError, match=f"{file.name} .*is not in the cache"):
            lf.weights.fetch(file.name, accept_licence=True, **options)
    assert not cache.exists()


def test_a_licence_with_limits_has_to_be_accepted(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT)
    for commercial in ("no", "unknown"):
        file = entry(server.url("/a"), licence=Licence("some", commercial, "research only"))
        with pytest.raises(ConfigError, match="research only"):
            fetch(file)
    assert not server.requests
    assert fetch(file, accept_licence=True).is_file()


def test_what_a_person_must_fetch(cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"drive\.google\.com.*add FILE --as adaface-ir50"):
        lf.weights.fetch("adaface-ir50-ms1mv2", accept_licence=True)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"'ffhq'; known are .*vgg-face"):
        lf.weights.fetch("ffhq")


def test_a_changed_file_in_the_cache_is_not_handed_out(cache: Path, server: Server) -> None:
    server.resources["/a"] = Resource(CONTENT)
    file = replace(entry(server.url("/a")), bytes=None)
    path = fetch(file)
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"it has 1 bytes and not {len(CONTENT)}"):
        fetch(file)
