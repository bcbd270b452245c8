"""Folders of originals and outputs: who is paired with whom, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lreorg_fast.errors import ConfigError, ImageError
from lreorg_fast.evaluation import folders
from lreorg_fast.evaluation.folders import open_collection, open_outputs, picture_names


def save(path: Path, shade: int = 100, size: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (shade, shade, shade)).save(path)
    return path


def shade(picture: object) -> int:
    assert isinstance(picture, np.ndarray)
    return int(picture[0, 0, 0])


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    for i, name in enumerate(["ann/1.png", "ann/2.png", "bob/10.png", "bob/9.png"]):
        save(tmp_path / "in" / name, 10 * i)
    return tmp_path / "in"


def outputs(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        save(root / "out" / name, 100 + i)
    return root / "out"


def test_the_first_folder_is_the_person_and_numbers_count_as_numbers(originals: Path) -> None:
    save(originals / "bob" / "deeper" / "1.png")
    found = open_collection(originals)
    assert list(found.names) == [
        "ann/1.png",
        "ann/2.png",
        "bob/9.png",
        "bob/10.png",
        "bob/deeper/1.png",
    ]
    assert found.subjects.tolist() == [0, 0, 1, 1, 1]
    assert list(found.people) == ["ann", "bob"]
    assert (found.name, found.domain, len(found)) == ("in", "photographs", 5)
    assert shade(found.picture(1)) == 10


def test_pictures_without_folders_are_of_one_person_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    assert open_collection(tmp_path).subjects.tolist() == [0, 1]
    assert "another person" in caplog.text


def test_folders_beside_pictures_are_refused(originals: Path) -> None:
    save(originals / "stray.png")
    with pytest.raises(ConfigError, match=r"'stray.png' and 0 more pictures beside"):
        open_collection(originals)


def test_outputs_have_the_same_path_and_any_suffix(originals: Path, tmp_path: Path) -> None:
    where = outputs(tmp_path, "ann/1.jpg", "ann/2.png", "bob/9.webp", "bob/10.bmp")
    found = open_outputs(open_collection(originals), where)
    assert len(found) == 4
    assert [shade(found.picture(i)) for i in (1, 3)] == [101, 103]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ann/1.png", "ann/2.png", "bob/9.png"], r"1 originals without an output \('bob/10.png'"),
        (
            ["ann/1.png", "ann/2.png", "bob/9.png", "bob/10.png", "eve/1.png"],
            r"1 outputs without an original \('eve/1.png'",
        ),
        (["ann/1.png", "eve/1.png"], "3 originals .*'ann/2.png'.*; 1 outputs .*--allow-missing"),
    ],
)
def test_what_is_not_paired_is_named(
    originals: Path, tmp_path: Path, names: list[str], message: str
) -> None:
    where = outputs(tmp_path, *names)
    with pytest.raises(ConfigError, match=message):
        open_outputs(open_collection(originals), where)


def test_only_the_first_names_are_shown(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / "in" / "p" / f"{i}.png")
    where = outputs(tmp_path, "p/0.png")
    with pytest.raises(ConfigError, match=r"'p/1.png', 'p/2.png', 'p/3.png' and 6 more\)"):
        open_outputs(open_collection(tmp_path / "in"), where)


def test_missing_outputs_count_as_not_released_when_allowed(
    originals: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = outputs(tmp_path, "ann/1.png", "ann/2.png", "eve/1.png")
    (where / "ann" / "2.png").write_bytes(b"no picture")
    found = open_outputs(open_collection(originals), where, allow_missing=True)
    assert shade(found.picture(0)) == 100
    assert [found.picture(i) for i in (1, 2, 3)] == [None, None, None]
    assert found.unreadable == 1
    assert "not released" in caplog.text
    assert found.fingerprint(2) == "none"
    assert len(found.fingerprint(0)) == 64


def test_an_unreadable_output_is_an_error_that_names_it(originals: Path, tmp_path: Path) -> None:
    names = ["ann/1.png", "ann/2.png", "bob/9.png", "bob/10.png"]
    where = outputs(tmp_path, *names)
    (where / "ann" / "2.png").write_bytes(b"no picture")
    found = open_outputs(open_collection(originals), where)
    with pytest.raises(ImageError, match=r"ann/2.png"):
        found.picture(1)


def test_nothing_paired_is_refused_even_when_missing_is_allowed(
    originals: Path, tmp_path: Path
) -> None:
    where = outputs(tmp_path, "x/1.png")
    with pytest.raises(ConfigError, match=r"no file of .* has the name of an original"):
        open_outputs(open_collection(originals), where, allow_missing=True)


def test_suffixes_decide_between_originals_of_one_stem(tmp_path: Path) -> None:
    for name, value in (("p/a.png", 1), ("p/a.bmp", 2), ("p/b.png", 3)):
        save(tmp_path / "in" / name, value)
    same = outputs(tmp_path, "p/a.png", "p/a.bmp", "p/b.png")
    found = open_outputs(open_collection(tmp_path / "in"), same)
    assert [shade(found.picture(i)) for i in range(3)] == [101, 100, 102]
    (same / "p" / "a.png").rename(same / "p" / "a.webp")
    (same / "p" / "a.bmp").unlink()
    with pytest.raises(ConfigError, match=r"'p/a.webp' belongs to 'p/a.bmp' or to 'p/a.png'"):
        open_outputs(open_collection(tmp_path / "in"), same)


def test_two_outputs_for_one_original_are_refused(originals: Path, tmp_path: Path) -> None:
    where = outputs(tmp_path, "ann/1.jpg", "ann/1.webp", "ann/2.png", "bob/9.png", "bob/10.png")
    with pytest.raises(ConfigError, match=r"2 outputs for 'ann/1.png'"):
        open_outputs(open_collection(originals), where)


@pytest.mark.parametrize("inside", ["", "ann"])
def test_outputs_among_originals_are_refused(originals: Path, inside: str) -> None:
    collection = open_collection(originals)
    with pytest.raises(ConfigError, match="keep them apart"):
        open_outputs(collection, originals / inside)
    with pytest.raises(ConfigError, match="keep them apart"):
        open_outputs(collection, originals.parent)


def test_links_are_not_followed_and_other_files_are_counted(
    originals: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = save(tmp_path / "secret" / "x.png")
    os.symlink(secret, originals / "ann" / "link.png")
    os.symlink(secret.parent, originals / "eve")
    os.mkfifo(originals / "ann" / "pipe.png")
    (originals / "ann" / "notes.txt").write_text("no picture")
    save(originals / "ann" / ".hidden.png")
    found = open_collection(originals)
    assert len(found) == 4
    assert found.left_out == {
        "symbolic links, which are not followed": 2,
        "not named as a picture": 3,
    }
    assert "secret" not in caplog.text
    assert "ann" not in caplog.text


def test_a_folder_itself_may_be_a_link(originals: Path, tmp_path: Path) -> None:
    os.symlink(originals, tmp_path / "link")
    assert len(open_collection(tmp_path / "link")) == 4


def test_folders_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"cannot list the folder .*nowhere"):
        open_collection(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot list"):
        open_collection("a\0b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no pictures"):
        open_collection(tmp_path / "empty")
    save(tmp_path / "many" / "p" / "1.png")
    save(tmp_path / "many" / "p" / "2.png")
    monkeypatch.setattr(folders, "MOST_ENTRIES", 2)
    with pytest.raises(ConfigError, match="more than 2 files and folders"):
        open_collection(tmp_path / "many")


def test_a_deep_folder_is_walked(tmp_path: Path) -> None:
    """Python's recursion ends at 1,000."""
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(400):
            os.mkdir("d", dir_fd=here)
            deeper = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
        save(tmp_path / "x" / "1.png")
        os.link(tmp_path / "x" / "1.png", "1.png", dst_dir_fd=here)
    finally:
        os.close(here)
    names, _ = picture_names(tmp_path)
    assert max(name.count("/") for name in names) == 400


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(_made(tmp_path / "p" / "bomb.png"))
    collection = open_collection(tmp_path)
    with pytest.raises(ImageError, match="too large"):
        collection.picture(0)
    with pytest.raises(ImageError, match="too large"):
        open_collection(tmp_path, max_pixels=50).picture(0)


def test_unicode_forms_of_one_name_are_paired_and_twins_refused(tmp_path: Path) -> None:
    save(tmp_path / "in" / "p" / "é.png")
    where = outputs(tmp_path, "p/e\N{COMBINING ACUTE ACCENT}.jpg")
    assert open_outputs(open_collection(tmp_path / "in"), where).picture(0) is not None
    save(tmp_path / "in" / "p" / "e\N{COMBINING ACUTE ACCENT}.png")
    with pytest.raises(ConfigError, match="two files whose names look the same"):
        open_collection(tmp_path / "in")


def test_a_fingerprint_is_of_the_content(originals: Path) -> None:
    collection = open_collection(originals)
    before = collection.fingerprint(0)
    os.utime(originals / "ann" / "1.png", (1, 1))
    assert collection.fingerprint(0) == before != collection.fingerprint(1)
    save(originals / "ann" / "1.png", 77)
    assert collection.fingerprint(0) != before


def test_a_table_says_who_is_on_flat_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name)
    table = tmp_path / "people.csv"
    table.write_text(
        "name,person,smiling,skin\nc.png,ann,1,dark\n./a.png,bob,0,\nb.png,ann,yes,light\n"
    )
    found = open_collection(tmp_path / "in", table)
    assert found.subjects.tolist() == [0, 1, 1]
    assert list(found.people) == ["bob", "ann"]
    assert found.attributes["smiling"].tolist() == [False, True, True]
    assert found.groups == {"skin": ["unknown", "light", "dark"]}


def test_a_table_that_does_not_fit_the_folder(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)
    table = tmp_path / "people.csv"
    table.write_text("name,person\na.png,ann\nz.png,bob\n")
    with pytest.raises(ConfigError, match=r"1 rows without .*'z.png'.*1 pictures .*'b.png'"):
        open_collection(tmp_path / "in", table)
    found = open_collection(tmp_path / "in", table, allow_missing=True)
    assert list(found.names) == ["a.png"]
    assert found.left_out["not in the table"] == 1
    table.write_text("name,person\nz.png,bob\n")
    with pytest.raises(ConfigError, match="lists none of the pictures"):
        open_collection(tmp_path / "in", table, allow_missing=True)


@given(st.lists(st.text("ab1.", min_size=1, max_size=4), min_size=1, max_size=8, unique=True))
def test_pairing_is_one_to_one(stems: list[str]) -> None:
    originals = [f"p/{stem}.png" for stem in stems]
    shuffled = [f"p/{stem}.jpg" for stem in reversed(stems)]
    found = folders._paired(originals, shuffled, Path("out"))
    assert found == [f"p/{stem}.jpg" for stem in stems]


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
