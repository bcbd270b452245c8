"""A published file that is small, and fetching it without waiting."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import lreorg_fast as lf
from lreorg_fast.weights.registry import Licence, PublishedFile

CONTENT = bytes(range(256)) * 9000  # more than two pieces of what is read at once
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FREE = Licence("MIT", "yes", "none")


def entry(*mirrors: str, **changes: Any) -> PublishedFile:
    values = {
        "name": "toy",
        "title": "a toy",
        "purpose": "generator",
        "architecture": "stylegan2",
        "loader": "load_generator",
        "licence": FREE,
        "paper": "none",
        "repository": "none",
        "file": "toy.pt",
        "bytes": len(CONTENT),
        "sha256": SHA256,
        "mirrors": mirrors,
        "by_hand": None,
        "source": ("this test",),
        "checked": "here",
    }
    return PublishedFile(**{**values, **changes})  # type: ignore[arg-type]


def fetch(file: PublishedFile, **options: Any) -> Path:
    """Without waiting: the pauses that were asked for are in ``fetch.waits``."""
    waits: list[float] = []
    options.setdefault("sleep", waits.append)
    fetch.waits = waits  # type: ignore[attr-defined]
    return lf.weights.fetch(file, allow_local_http=True, **options)


def folder(cache: Path) -> Path:
    return cache / "weights" / "toy"


def names(cache: Path) -> set[str]:
    return {path.name for path in folder(cache).iterdir()} - {".lock"}
