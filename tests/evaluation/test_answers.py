"""The cache of answers: private, whole, and not believed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lreorg_fast.errors import OutputError
from lreorg_fast.evaluation.answers import FILE, Answers, holds_answers, remove_answers

ROW = np.array([1.5, np.nan, -2.0], dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_answers_come_back_exactly_and_under_their_own_key_only(folder: Path) -> None:
    with Answers(folder) as answers:
        answers.put("judge", {"a": ROW, "b": ROW * 2})
    with Answers(folder) as answers:
        np.testing.assert_array_equal(answers.get("judge", "a"), ROW)
        np.testing.assert_array_equal(answers.get("judge", "b"), ROW * 2)
        assert answers.get("judge", "c") is None
        assert answers.get("another", "a") is None
        assert answers.get("judgea", "") is None  # where one ends and the other begins counts


def test_only_the_owner_can_read(folder: Path) -> None:
    before = os.umask(0)
    try:
        with Answers(folder) as answers:
            answers.put("judge", {"a": ROW})
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [folder, *folder.iterdir()]}
    finally:
        os.umask(before)
    assert modes.pop("cache") == 0o700
    assert set(modes.values()) == {0o600}


def test_a_folder_that_others_can_open_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(OutputError, match="face data; run: chmod 700"):
        Answers(folder)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="or a link"):
        Answers(folder)


def test_no_link_and_no_pipe_takes_the_place_of_the_file(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(mode=0o700)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (folder / FILE).symlink_to(target)
    with pytest.raises(OutputError, match="cannot use"):
        Answers(folder)
    assert target.read_bytes() == b"precious"
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE)
    with pytest.raises(OutputError, match="not a regular file"):
        Answers(folder)


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 500])
def test_another_kind_of_file_is_one_sentence(folder: Path, content: bytes) -> None:
    folder.mkdir(mode=0o700)
    (folder / FILE).write_bytes(content)
    with pytest.raises(OutputError, match="--force"):
        Answers(folder)


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE answers (key BLOB, value BLOB)",
        "CREATE VIEW answers AS SELECT 1 AS key, 2 AS value",
        "CREATE TABLE other (x)",
    ],
)
def test_other_tables_are_refused(folder: Path, schema: str) -> None:
    folder.mkdir(mode=0o700)
    with sqlite3.connect(folder / FILE) as connection:
        connection.execute(schema)
    connection.close()
    with pytest.raises(OutputError, match="no cache of this version"):
        Answers(folder)


def change(folder: Path, value: object) -> None:
    connection = sqlite3.connect(folder / FILE)
    connection.execute("UPDATE answers SET value = ?", (value,))
    connection.commit()
    connection.close()


@pytest.mark.parametrize("change_to", ["flip", "short", "empty", "text", "number", "other", "huge"])
def test_a_damaged_answer_is_as_none(folder: Path, change_to: str) -> None:
    with Answers(folder) as answers:
        answers.put("judge", {"a": ROW})
    connection = sqlite3.connect(folder / FILE)
    (value,) = connection.execute("SELECT value FROM answers").fetchone()
    connection.close()
    with Answers(folder) as answers:
        answers.put("judge", {"b": ROW + 1})
    connection = sqlite3.connect(folder / FILE)
    others = [v for (v,) in connection.execute("SELECT value FROM answers") if v != value]
    connection.close()
    damaged: dict[str, object] = {
        "flip": value[:-1] + bytes([value[-1] ^ 1]),
        "short": value[:-4],
        "empty": b"",
        "text": "hello",
        "number": 7,
        "other": others[0],  # valid, but of another picture
        "huge": value + bytes(2**20),
    }
    change(folder, damaged[change_to])
    with Answers(folder) as answers:
        assert answers.get("judge", "a") is None
        answers.put("judge", {"a": ROW})
        np.testing.assert_array_equal(answers.get("judge", "a"), ROW)


def test_two_evaluations_do_not_share_a_cache(folder: Path) -> None:
    with Answers(folder), pytest.raises(OutputError, match="another evaluation uses"):
        Answers(folder)


def test_a_killed_writer_leaves_whole_answers(folder: Path) -> None:
    code = (
        "import os, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from lreorg_fast.evaluation.answers import Answers\n"
        "answers = Answers(Path(sys.argv[1]))\n"
        "row = np.arange(512, dtype=np.float32)\n"
        "for i in range(100):\n"
        "    answers.put('judge', {f'{i}.{k}': row for k in range(8)})\n"
        "    if i == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)])
    assert done.returncode == -signal.SIGKILL
    with Answers(folder) as answers:
        for i in range(21):
            kept = answers.get("judge", f"{i}.7")
            assert kept is not None
            assert len(kept) == 512
        assert answers.get("judge", "21.0") is None


def test_removing_leaves_nothing_of_it(folder: Path) -> None:
    assert not holds_answers(folder)
    with Answers(folder) as answers:
        answers.put("judge", {"a": ROW})
    assert holds_answers(folder)
    remove_answers(folder)
    assert not folder.exists()
    remove_answers(folder)  # nothing there is nothing to do
    with Answers(folder):
        pass
    (folder / "mine.txt").write_text("kept")
    remove_answers(folder)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]


def test_what_cannot_be_removed_is_said(folder: Path) -> None:
    (folder / FILE).mkdir(parents=True)
    with pytest.raises(OutputError, match="face data"):
        remove_answers(folder)
