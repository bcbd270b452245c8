"""What every test stands on: repeatable properties, one thread, fixed seeds, no network."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from typing import Any

# Before torch or numpy start their thread pools: with pytest -n each worker has one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # the machine may be busy; speed is measured in bench/, never asserted
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


class NetworkRefused(BaseException):
    """Derives from BaseException so that no `except Exception` of the code under test hides it."""


# Streams are tested between two ends on this machine, and urllib3, which the package ``trackers``
# imports, binds an address of its own. Other names are not looked up, "localhost" neither.
LOOPBACK = ("127.0.0.1", "::1")


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        # AF_UNIX addresses are a path; those of the network are tuples.
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise NetworkRefused(f"tests run offline: {event} to {address!r}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and arguments[0] not in LOOPBACK:
        raise NetworkRefused(f"tests run offline: {event} of {arguments[0]!r}")


sys.addaudithook(_refuse_network)


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    """Seed the global generators, and torch if the test's module has imported it."""
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)
