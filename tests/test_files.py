from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lreorg_fast.errors import OutputError
from lreorg_fast.files import atomic_file


def _write(path: Path, content: bytes, overwrite: bool = False) -> None:
    with atomic_file(path, overwrite) as stream:
        stream.write(content)


def test_content_appears_and_no_temporary_file_stays(tmp_path: Path) -> None:
    _write(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_an_existing_file_stays_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "a"
    _write(target, b"one")
    with pytest.raises(OutputError, match="exists already"):
        _write(target, b"two")
    assert target.read_bytes() == b"one"
    _write(target, b"two", overwrite=True)
    assert target.read_bytes() == b"two"


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_made_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr(os, "link", _no_hard_links)
    target = tmp_path / "a"

    def two_writers() -> None:
        with atomic_file(target) as stream:
            stream.write(b"mine")
            target.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists already"):
        two_writers()
    assert target.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a"]


def test_without_hard_links_files_still_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _no_hard_links)
    _write(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def interrupted() -> None:
        with atomic_file(tmp_path / "a") as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_an_interrupted_overwrite_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left"), atomic_file(target, True):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_bytes() == b"old"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    with pytest.raises(OutputError, match="exists already"):
        _write(link, b"new")
    _write(link, b"new", overwrite=True)
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        _write(tmp_path / "link", b"new")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_are_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="name a file"):
        _write(tmp_path / "folder", b"", overwrite)
    with pytest.raises(OutputError, match="does not exist; create it first"):
        _write(tmp_path / "missing" / "a", b"", overwrite)


def test_the_usual_permissions_are_given(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _write(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def _no_hard_links(*_: Any, **__: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
