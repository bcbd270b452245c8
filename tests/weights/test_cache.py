"""The cache folder, what is recorded in it, and adding and verifying files."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

import lreorg_fast as lf
from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.weights import registry
from lreorg_fast.weights.cache import cache_folder, cached, place, state_of, verify
from lreorg_fast.weights.registry import published_file

KNOWN = "fid-inception"
UNKNOWN = "vgg-face"  # nobody published its digest
CONTENT = b"some weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "download (1).pth"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of ``source`` as the published one of a file."""
    from dataclasses import replace

    files = dict(registry.published_files())
    files[KNOWN] = replace(files[KNOWN], bytes=len(CONTENT), sha256=SHA256)
    monkeypatch.setattr(registry, "_packaged", lambda: files)
    return KNOWN


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/lreorg"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/somebody/.cache/lreorg"),
        ("linux", {}, "/home/somebody/.cache/lreorg"),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, "/home/somebody/Library/Caches/lreorg"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/lreorg"),
        ("win32", {}, "/home/somebody/AppData/Local/lreorg"),
        ("linux", {"LREORG_CACHE": "/mine", "XDG_CACHE_HOME": "/xdg"}, "/mine"),
        ("linux", {"LREORG_CACHE": "~/mine"}, "/home/somebody/mine"),
    ],
)
def test_the_folder_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("LREORG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/somebody", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path(expected)


def test_asking_makes_nothing(cache: Path) -> None:
    assert cached(KNOWN) is None
    assert state_of(published_file(KNOWN)) == "missing"
    assert verify(KNOWN).state == "missing"
    assert not cache.exists()


def test_a_known_file_is_recognised_by_its_digest(cache: Path, source: Path, known: str) -> None:
    entry, path = lf.weights.add(source)
    assert entry.name == known
    assert path == cached(known) == place(entry)
    assert path.read_bytes() == CONTENT
    assert source.exists()
    assert not path.samefile(source)
    assert verify(known) == type(verify(known))(known, "ok", f"SHA-256 {SHA256}, as published")


def test_another_file_is_not_taken_for_a_known_one(cache: Path, source: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        lf.weights.add(source, KNOWN)
    assert SHA256 in str(error.value)
    assert published_file(KNOWN).sha256 in str(error.value)
    assert cached(KNOWN) is None


def test_a_file_of_unknown_digest_needs_its_name(cache: Path, source: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"if it is one of .*{UNKNOWN}, say which with --as"):
        lf.weights.add(source)


def test_no_such_file_and_no_such_name(cache: Path, source: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        lf.weights.add(source.with_name("missing"))
    with pytest.raises(CheckpointError, match="no published weights are called"):
        lf.weights.add(source, "nothing")


def test_damage_is_found(cache: Path, source: Path, known: str) -> None:
    _, path = lf.weights.add(source)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert cached(known) == path  # the same size: only hashing tells
    found = verify(known)
    assert found.state == "damaged"
    assert SHA256 in found.detail
    path.write_bytes(b"")
    assert state_of(published_file(known)) == "damaged"
    with pytest.raises(CheckpointError, match="it has 0 bytes"):
        cached(known)
    lf.weights.add(source)
    assert verify(known).state == "ok"


def test_a_file_without_a_record_is_not_trusted(cache: Path) -> None:
    path = place(published_file(UNKNOWN))
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert verify(UNKNOWN).state == "damaged"
    assert "nothing is recorded" in verify(UNKNOWN).detail


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"file": "a"}', b"\xff"])
def test_a_broken_record_is_told(cache: Path, content: bytes) -> None:
    path = place(published_file(UNKNOWN))
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    path.with_name("record.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read: .*delete the folder"):
        cached(UNKNOWN)
    assert verify(UNKNOWN).state == "damaged"


def test_a_record_of_wrong_types_is_told(cache: Path) -> None:
    path = place(published_file(UNKNOWN))
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    record = {"file": "a", "bytes": "1", "sha256": 2, "origin": "", "added": ""}
    path.with_name("record.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="wrong type"):
        cached(UNKNOWN)


def test_adding_needs_no_licence_but_fetching_does(cache: Path, source: Path, known: str) -> None:
    with pytest.raises(ConfigError, match="accept_licence"):
        lf.weights.fetch(known)
    lf.weights.add(source)
    assert lf.weights.fetch(known) == cached(known)
