"""More than fifty hostile paths: whatever is named, nothing is written outside of the output."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import toy_bundle
from PIL import Image

from lreorg_fast.batch import anonymize_files
from lreorg_fast.errors import LReorgError
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import LedgerFile, PrivateKey, Pseudonyms
from lreorg_fast.sealing import Sealer

NAMES = [
    "../up.png",
    "../../up.png",
    "./././../up.png",
    "in/../../up.png",
    "in/face.png/..",
    "in/face.png/",
    "in//..//in/face.png",
    "/etc/passwd",
    "/etc/passwd.png",
    "//etc//passwd",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/environ",
    "/proc/self/mem",
    "/proc/self/root/etc",
    "",
    ".",
    "..",
    "~",
    "~/face.png",
    "-",
    "--",
    "-o",
    "*",
    "?.png",
    "$(touch owned).png",
    "`touch owned`.png",
    "; touch owned",
    "| touch owned",
    "%2e%2e%2fup.png",
    "..%00/up.png",
    "nul\0.png",
    "in\n.png",
    "file:///etc/passwd",
    "http://localhost/face.png",
    "concat:in/face.png",
    "\\\\host\\share\\face.png",
    "..\\up.png",
    "C:\\face.png",
    "\u2024\u2024/up.png",
    "\uff0e\uff0e/up.png",
    "\u202egnp.ecaf",
    "\udcff.png",
    "x" * 300 + ".png",
    "x/" * 3000 + "face.png",
]


@pytest.fixture(scope="module")
def anonymizer(tmp_path_factory: pytest.TempPathFactory) -> Anonymizer:
    return Anonymizer.load(toy_bundle(tmp_path_factory.mktemp("bundle") / "toy"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place to stand in, with a picture in it, one above it and a treasure elsewhere."""
    work = tmp_path / "treasury" / "work"
    (work / "in").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (36, 36, 3), dtype=np.uint8)
    pictures = (work / "in" / "face.png", work.parent / "up.png", tmp_path / "secret" / "s.png")
    for path in pictures:
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path / "secret"))
    return work


def everything(root: Path, but: Path) -> dict[str, str]:
    """Every entry below ``root`` except below ``but``, with what it holds or points to."""
    found = {}
    for folder, folders, files in os.walk(root):
        if Path(folder) == but:
            folders.clear()
            continue
        for name in (*folders, *files):
            path = Path(folder) / name
            if path == but:
                continue
            if path.is_symlink():
                found[str(path)] = f"-> {os.readlink(path)}"
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path)] = "folder or special"
    return found


def run_is_contained(anonymizer: Anonymizer, place: Path, name: str | Path) -> None:
    root, out = place.parents[1], place / "out"
    before = everything(root, out)
    with contextlib.suppress(LReorgError):
        anonymize_files(anonymizer, [name], out, overwrite=True)
    assert everything(root, out) == before
    for path in out.rglob("*") if out.exists() else ():
        assert path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(out)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:24]))
def test_a_name_leads_nowhere(anonymizer: Anonymizer, place: Path, name: str) -> None:
    run_is_contained(anonymizer, place, name)


def link_to_a_file(place: Path) -> None:
    (place / "in" / "l.png").symlink_to(place.parents[1] / "secret" / "s.png")


def link_to_a_folder(place: Path) -> None:
    (place / "in" / "l").symlink_to(place.parents[1] / "secret")


def a_loop(place: Path) -> None:
    (place / "in" / "l").symlink_to(place / "in")


def a_link_to_itself(place: Path) -> None:
    (place / "in" / "l.png").symlink_to(place / "in" / "l.png")


def a_dangling_link(place: Path) -> None:
    (place / "in" / "l.png").symlink_to(place / "nothing")


def a_pipe(place: Path) -> None:
    os.mkfifo(place / "in" / "p.png")


def a_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("in/s.png")  # the current folder is the place; a longer path does not fit


def a_folder_like_a_picture(place: Path) -> None:
    (place / "in" / "d.png").mkdir()


def a_result_that_is_a_link(place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "face.png").symlink_to(place.parents[1] / "secret" / "s.png")


def a_result_that_dangles(place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "face.png").symlink_to(place.parents[1] / "secret" / "new.png")


def a_result_that_is_the_source(place: Path) -> None:
    (place / "out").mkdir()
    os.link(place / "in" / "face.png", place / "out" / "face.png")


def a_subfolder_that_is_a_link(place: Path) -> None:
    (place / "in" / "sub").mkdir()
    os.link(place / "in" / "face.png", place / "in" / "sub" / "face.png")
    (place / "out").mkdir()
    (place / "out" / "sub").symlink_to(place.parents[1] / "secret")


def names_to_the_terminal(place: Path) -> None:
    os.link(place / "in" / "face.png", place / "in" / "\x1b]0;owned\x07\n.png")


def names_that_are_options(place: Path) -> None:
    for name in ("-o.png", "--force.png", "..png", "...png"):
        os.link(place / "in" / "face.png", place / "in" / name)


STRUCTURES = [
    link_to_a_file,
    link_to_a_folder,
    a_loop,
    a_link_to_itself,
    a_dangling_link,
    a_pipe,
    a_socket,
    a_folder_like_a_picture,
    a_result_that_is_a_link,
    a_result_that_dangles,
    a_result_that_is_the_source,
    a_subfolder_that_is_a_link,
    names_to_the_terminal,
    names_that_are_options,
]


@pytest.mark.parametrize("make", STRUCTURES, ids=lambda make: make.__name__)
def test_what_lies_in_a_folder_leads_nowhere(
    anonymizer: Anonymizer, place: Path, make: Callable[[Path], None]
) -> None:
    make(place)
    run_is_contained(anonymizer, place, place / "in")


def test_there_are_fifty() -> None:
    assert len(NAMES) + len(STRUCTURES) >= 50


SIDE_FILES: dict[str, Callable[[Path, Anonymizer], object]] = {
    "report": lambda path, anonymizer: anonymize_files(
        anonymizer, ["in/face.png"], "out", report=path, overwrite=True
    ),
    "ledger": lambda path, _: LedgerFile(path, 1.0).spend("a", 1.0),
    "pseudonyms": lambda path, _: Pseudonyms(path, create=True).sampler("a"),
    "private key": lambda path, _: PrivateKey.generate().save(path, None),
    "public key": lambda path, _: PrivateKey.generate().public.save(path),
}


@pytest.mark.parametrize("what", SIDE_FILES)
@pytest.mark.parametrize("dangling", [False, True])
def test_files_beside_the_pictures_are_not_written_through_links(
    anonymizer: Anonymizer, place: Path, what: str, dangling: bool
) -> None:
    secret = place.parents[1] / "secret"
    (place / "link").symlink_to(secret / ("new" if dangling else "s.png"))
    before = everything(secret, place)
    with contextlib.suppress(LReorgError):
        SIDE_FILES[what](place / "link", anonymizer)
    assert everything(secret, place) == before


def test_a_seal_is_not_written_through_a_link(anonymizer: Anonymizer, place: Path) -> None:
    secret = place.parents[1] / "secret"
    (place / "out").mkdir()
    (place / "out" / "face.png.seal").symlink_to(secret / "s.png")
    before = everything(secret, place)
    sealer = Sealer(PrivateKey.generate().public)
    for overwrite in (False, True):
        anonymize_files(anonymizer, ["in/face.png"], "out", sealer=sealer, overwrite=overwrite)
        assert everything(secret, place) == before
    assert not (place / "out" / "face.png.seal").is_symlink()
