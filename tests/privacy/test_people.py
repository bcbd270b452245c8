"""The table of who is who: read as it was meant, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.errors import ConfigError, LReorgError
from lreorg_fast.privacy import Ledger, PeopleFile, Pseudonyms, Subjects
from lreorg_fast.privacy.people import NamedPlace, named_faces

BOXES = np.array([[0.0, 0, 10, 10], [8, 0, 20, 10], [100, 100, 140, 150]])


def table(folder: Path, text: str, encoding: str = "utf-8") -> PeopleFile:
    (folder / "people.csv").write_bytes(text.encode(encoding))
    return PeopleFile(folder / "people.csv")


def place(x: float | None, y: float | None = None, person: str = "Ann") -> NamedPlace:
    return NamedPlace("line", person, None if x is None or y is None else (x, y), None)


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    lines = (
        "\ufeffPerson,FILE , x,y,seconds",
        '"Ann, ""B""", a.png ,1.5,2,',
        ",,,,",
        "Ä,b/c.mp4,3,4,0.5",
        "",
    )
    text = "\r\n".join(lines)
    people = table(tmp_path, text)
    (ann,) = people.of(tmp_path / "a.png")
    assert (ann.person, ann.point, ann.seconds) == ('Ann, "B"', (1.5, 2.0), None)
    (other,) = people.of(tmp_path / "b" / "c.mp4")
    assert (other.person, other.point, other.seconds) == ("Ä", (3.0, 4.0), 0.5)
    assert "line 4" in other.where
    assert people.of(tmp_path / "d.png") == ()
    people.check([tmp_path / "a.png", tmp_path / "b" / ".." / "b" / "c.mp4"])
    with pytest.raises(ConfigError, match=r"line 4 is about .*c\.mp4', which does not exist"):
        people.check([tmp_path / "a.png"])


def test_what_spreadsheets_write_where_a_comma_is_a_decimal_point(tmp_path: Path) -> None:
    people = table(tmp_path, "file;person;x;y;seconds\r\na,b.mp4;Ann, B;1,5;2;0,25\r\n")
    (ann,) = people.of(tmp_path / "a,b.mp4")
    assert (ann.person, ann.point, ann.seconds) == ("Ann, B", (1.5, 2.0), 0.25)


def test_a_table_may_be_about_more_than_one_run(tmp_path: Path) -> None:
    """Pictures and videos are done in runs of their own, from one table."""
    people = table(tmp_path, "file,person\na.png,Ann\nb.mp4,Ann\n")
    for name in ("a.png", "b.mp4", "c.png"):
        (tmp_path / name).touch()
    people.check([tmp_path / "a.png"])
    people.check([tmp_path / "b.mp4", tmp_path / "c.png"])
    with pytest.raises(ConfigError, match="none of the inputs"):
        people.check([tmp_path / "c.png"])
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        people.check([tmp_path / "a.png"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns"),
        ("file,x,y\na,1,1", "file and person"),
        ("file,person,z\na,b,1", "columns"),
        ("file,person,x,x\na,b,1,1", "once each"),
        ("file,person\n", "nobody"),
        ("file,person\na", "1 values for 2"),
        ("file,person\na,b,c", "3 values for 2"),
        ("file,person\n,b", "line 2"),
        ("file,person\na,", "line 2"),
        ("file,person\na," + "b" * 1001, "1000 letters"),
        ("file,person\na\0,b", "line"),
        ("file,person,x\na,b,1", "only one of x and y"),
        ("file,person,x,y\na,b,1,", "only one of x and y"),
        ("file,person,x,y\na,b,1,left", "'left'"),
        ("file,person,x,y\na,b,nan,1", "'nan'"),
        ("file,person,x,y\na,b,inf,1", "'inf'"),
        ("file,person,x,y,seconds\na,b,1,1,-1", "negative"),
        ("file,person,seconds\na,b,1", "need x and y"),
        ('file,person\na,"b', "CSV"),
        ("file,person\na,b" + "c" * 200_000, "CSV"),
    ],
)
def test_hostile_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        table(tmp_path, text)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            PeopleFile(path)
    with pytest.raises(ConfigError, match="UTF-8"):
        table(tmp_path, "file,person\na,Ä", "latin-1")


@given(st.text(max_size=60))
def test_any_text_is_a_table_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        table(folder, "file,person,x,y\n" + text, "utf-8")
    except LReorgError:
        pass
    except UnicodeEncodeError:  # a lone surrogate, which is no text
        pass


def test_points_name_faces() -> None:
    assert named_faces([place(5, 5), place(120, 149, "Ben")], BOXES) == {0: "Ann", 2: "Ben"}
    # In both boxes: the nearer middle, in sizes of the box.
    assert named_faces([place(8.5, 5)], BOXES) == {0: "Ann"}
    assert named_faces([place(9.9, 5), place(9.9, 5)], BOXES) == {1: "Ann"}
    assert named_faces([place(None)], BOXES[:1]) == {0: "Ann"}
    assert named_faces([], BOXES) == {}


@pytest.mark.parametrize(
    ("places", "boxes", "words"),
    [
        ([place(50, 50)], BOXES, "no face is found there"),
        ([place(5, 5)], BOXES[:0], "there is none in it"),
        ([place(None)], BOXES, "3 faces"),
        ([place(None)], BOXES[:0], "0 faces"),
        ([place(5, 5), place(4, 4, "Ben")], BOXES, "another person"),
        ([place(5, 5), place(120, 120)], BOXES, "two faces as one"),
    ],
)
def test_lines_that_do_not_fit_are_errors(places, boxes, words) -> None:
    with pytest.raises(ConfigError, match=words):
        named_faces(places, boxes)


@given(st.floats(0, 160), st.floats(0, 160))
def test_a_named_face_holds_its_point(x: float, y: float) -> None:
    try:
        ((face, _),) = named_faces([place(x, y)], BOXES).items()
    except ConfigError:
        inside = (BOXES[:, :2] <= (x, y)) & (BOXES[:, 2:] >= (x, y))
        assert not inside.all(axis=1).any()
        return
    assert (BOXES[face, :2] <= (x, y)).all()
    assert (BOXES[face, 2:] >= (x, y)).all()


def test_aligned_faces_can_be_named_by_a_table(tmp_path: Path) -> None:
    people = table(tmp_path, "file,person\na.png,Ann\nb.png,Ann\nc.png,Ann\nc.png,Ben\n")
    subjects = Subjects(Ledger(), people=people)
    face = np.zeros((8, 8, 3), np.uint8)
    first, second = (subjects.of(tmp_path / name, face).track for name in ("a.png", "b.png"))
    assert first == second is not None
    assert subjects.of(tmp_path / "d.png", face).track is None
    with pytest.raises(ConfigError, match="another person"):
        subjects.of(tmp_path / "c.png", face)


def test_people_are_named_once(tmp_path: Path) -> None:
    people = table(tmp_path, "file,person\na.png,Ann\n")
    with pytest.raises(ConfigError, match="named twice"):
        Subjects(Ledger(), person=lambda path: "Ann", people=people)
    keys = Pseudonyms(tmp_path / "keys", create=True)
    Subjects(Ledger(), pseudonyms=keys, people=people)
    with pytest.raises(ConfigError, match="nobody is named"):
        Subjects(Ledger(), pseudonyms=keys)
