"""The table of people: hostile files end in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation import people
from lreorg_fast.evaluation.people import read_people


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "people.csv"


def test_columns_of_yes_and_no_are_attributes_and_others_groups(table: Path) -> None:
    table.write_bytes(
        b'\xef\xbb\xbfperson, name ,Smiling,skin\r\nann,"a,1.png",-1,light\r\n\r\nbob,b.png,1,\r\n'
    )
    found = read_people(table)
    assert dict(found.index) == {"a,1.png": 0, "b.png": 1}
    assert list(found.people) == ["ann", "bob"]
    assert found.attributes["Smiling"].tolist() == [False, True]
    assert found.groups == {"skin": ["light", "unknown"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the column 'name'"),
        (b"file,who\na,b\n", "lacks the column 'name'"),
        (b"name\na\n", "lacks the column 'person'"),
        (b"name,person,x,x\na,b,1,1\n", "two columns 'x'"),
        (b"name,person,\na,b,1\n", "an unnamed column"),
        (b"name,person\n", "lists no pictures"),
        (b"name,person\na,b,c\n", "row 2 .* 3 cells and the header 2"),
        (b"name,person\na\n", "row 2 .* 1 cells"),
        (b"name,person\n,b\n", "row 2 .* has no name"),
        (b"name,person\na, \n", "row 2 .* has no person"),
        (b"name,person\na,b\n./a,c\n", "lists './a' twice"),
        (b"name,person\na,\xff\n", "is not UTF-8"),
        (b"name,person\na,b\0\n", "NUL"),
        (b'name,person\na,"b\n', "is no CSV"),
        (b"name,person\na," + b"x" * 5000 + b"\n", "more than 4096 characters"),
        (b"name,person\na," + b"x" * 200_000 + b"\n", "is no CSV"),
        (b"name,person," + b",".join(b"c%d" % i for i in range(200)) + b"\n", "202 columns"),
        (
            b"name,person,note\n" + b"".join(b"%d,p,text %d\n" % (i, i) for i in range(60)),
            "'note' .* has 60 different values",
        ),
    ],
)
def test_what_is_no_such_table(table: Path, content: bytes, message: str) -> None:
    table.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_people(table)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_people(tmp_path / "missing.csv")
    with pytest.raises(ConfigError, match=r"cannot read|is no table"):
        read_people(tmp_path)
    (tmp_path / "large.csv").write_text("name,person\na,b\n")
    monkeypatch.setattr(people, "MOST_BYTES", 4)
    with pytest.raises(ConfigError, match="larger than 4 bytes"):
        read_people(tmp_path / "large.csv")


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_table_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"name,person\n" + content)
    try:
        found = read_people(path)
    except ConfigError:
        return  # anything else fails the test
    assert len(found.people) == len(found.index) > 0
