"""The guard of conftest.py itself: a test that reaches for the network fails."""

from __future__ import annotations

import contextlib
import socket
import urllib.request

import pytest


def _fetch_and_hide_errors() -> None:
    with contextlib.suppress(Exception):
        urllib.request.urlopen("http://192.0.2.1/", timeout=0.01)


def test_network_is_refused_even_inside_broad_handlers() -> None:
    with pytest.raises(BaseException, match="tests run offline"):
        _fetch_and_hide_errors()


def test_unix_sockets_work() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        one.sendall(b"x")
        assert other.recv(1) == b"x"


@pytest.mark.parametrize("host", ["192.0.2.1", "localhost"])
def test_no_other_machine_is_reached(host: str) -> None:
    with pytest.raises(BaseException, match="tests run offline"):
        socket.create_connection((host, 9), timeout=0.01)


def test_no_other_machine_is_let_in() -> None:
    with pytest.raises(BaseException, match="tests run offline"):
        socket.create_server(("0.0.0.0", 0))


def test_the_loopback_works() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        server.accept()[0] as other,
    ):
        one.sendall(b"x")
        assert other.recv(1) == b"x"
