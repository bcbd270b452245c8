"""What the tests of fetching share: a cache of their own and a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import weights_server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, not made yet; and nothing of the user's environment."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LREORG_CACHE", str(folder))
    monkeypatch.delenv("LREORG_OFFLINE", raising=False)
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[weights_server.Server]:
    with weights_server.running(monkeypatch) as behaviour:
        yield behaviour
