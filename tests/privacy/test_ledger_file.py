"""A ledger in a file: one budget for all runs and processes, and no file taken for an empty one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lreorg_fast.errors import BudgetExceeded, ConfigError, OutputError, PrivacyError
from lreorg_fast.files import exclusive
from lreorg_fast.privacy import Ledger, LedgerFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.json"


def test_a_budget_survives_restarts(path: Path) -> None:
    LedgerFile(path, 2.0).spend("a", 1.5)
    again = LedgerFile(path)
    assert again.budget == 2.0
    assert not again.created
    assert again.total("a") == 1.5
    with pytest.raises(BudgetExceeded, match="'a'"):
        again.spend("a", 0.6)
    assert LedgerFile(path, 2.0).spend("a", 0.5) == 2.0


def test_what_is_paid_is_on_the_disk_before_it_is_drawn(path: Path) -> None:
    ledger = LedgerFile(path, 1.0)

    def draw():
        assert json.loads(path.read_text())["totals"] == {"a": "1.0"}
        raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError):
        ledger.held("a", draw, 1.0)
    with pytest.raises(BudgetExceeded):
        LedgerFile(path).held("a", draw, 1.0)


def test_a_new_ledger_needs_a_budget_and_an_old_one_keeps_its_own(path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        LedgerFile(path)
    assert not path.exists()
    LedgerFile(path, 2.0)
    with pytest.raises(ConfigError, match=r"budget is 3\.0.*started with 2\.0"):
        LedgerFile(path, 3.0)
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_objects_share_what_is_left(path: Path) -> None:
    first, second = LedgerFile(path, 1.0), LedgerFile(path)
    first.spend("a", 0.75)
    assert second.total("a") == 0.75
    with pytest.raises(BudgetExceeded):
        second.spend("a", 0.5)
    assert second.spend("a", 0.25) == 1.0
    with pytest.raises(BudgetExceeded):
        first.spend("a", 0.25)


_SPEND = """
import sys
from lreorg_fast.errors import BudgetExceeded
from lreorg_fast.privacy import LedgerFile
ledger, paid = LedgerFile(sys.argv[1]), 0
for _ in range(40):
    try:
        ledger.spend("shared", 0.1)
        paid += 1
    except BudgetExceeded:
        pass
print(paid)
"""


def test_processes_cannot_overspend(path: Path) -> None:
    LedgerFile(path, 5.0)
    running = [
        subprocess.Popen([sys.executable, "-c", _SPEND, str(path)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    paid = [int(process.communicate(timeout=120)[0]) for process in running]
    assert sum(paid) == 50
    assert LedgerFile(path).total("shared") == 5.0


def test_threads_cannot_overspend(path: Path) -> None:
    LedgerFile(path, 1.0)

    def work(_: int) -> int:
        ledger, refused = LedgerFile(path), 0
        for _ in range(5):
            try:
                ledger.spend("shared", 0.1)
            except BudgetExceeded:
                refused += 1
        return refused

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 10


def test_a_payment_that_cannot_be_written_is_no_payment_and_no_draw(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = LedgerFile(path, 5.0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PrivacyError, match="could not be written"):
        ledger.held("a", lambda: pytest.fail("drawn"), 1.0)
    monkeypatch.undo()
    assert LedgerFile(path).total("a") == 0


def test_a_ledger_that_was_set_back_or_exchanged_is_refused(path: Path) -> None:
    ledger = LedgerFile(path, 5.0)
    before = path.read_bytes()
    ledger.spend("a", 1.0)
    path.write_bytes(before)
    with pytest.raises(PrivacyError, match="set back"):
        ledger.spend("b", 1.0)
    path.unlink()
    with pytest.raises(PrivacyError, match="cannot be read"):
        ledger.spend("b", 1.0)
    LedgerFile(path, 5.0).spend("a", 2.0)
    with pytest.raises(PrivacyError, match="exchanged"):
        ledger.spend("b", 1.0)


def test_the_report_is_about_this_run_with_what_was_paid_before(path: Path) -> None:
    LedgerFile(path, 5.0).spend("a", 1.0)
    ledger = LedgerFile(path)
    ledger.spend("a", 1.0)
    LedgerFile(path).spend("b", 3.0)
    report = ledger.report()
    assert report["tracks"] == {"a": 2.0}
    assert (report["largest"], report["budget"]) == (2.0, 5.0)
    assert "not a guarantee for the picture" in report["statement"]
    # What was refused is told with what it had cost before.
    for track in ("b", "c"):
        with pytest.raises(BudgetExceeded):
            ledger.spend(track, 9.0)
    assert ledger.report()["tracks"] == {"a": 2.0, "b": 3.0, "c": 0.0}


def test_names_of_tracks_are_repeatable_and_tell_nothing(path: Path, tmp_path: Path) -> None:
    ledger = LedgerFile(path, 1.0)
    name = ledger.track_of("person", b"Anna Musterfrau")
    assert name == LedgerFile(path).track_of("person", b"Anna Musterfrau")
    assert "Anna" not in name
    others = {
        ledger.track_of("picture", b"Anna Musterfrau"),
        ledger.track_of("person", b"Anna Musterfraw"),
        LedgerFile(tmp_path / "other", 1.0).track_of("person", b"Anna Musterfrau"),
    }
    assert len(others | {name}) == 4


SALT = "00" * 32
GOOD = {
    "format": "lreorg-ledger",
    "version": 2,
    "budget": "2.0",
    "salt": SALT,
    "totals": {"a": "1.0"},
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b'{"format": "lreorg-ledger", "format": "lreorg-ledger"}',
        json.dumps(GOOD).replace('{"a"', '{"a": "0.0", "a"').encode(),
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"version": 1},
                {"salt": "00"},
                {"salt": 7},
                {"salt": "zz" * 32},
                {"budget": 2.0},
                {"budget": "Infinity"},
                {"budget": "1e999999999"},
                {"totals": {"a": "-1"}},
                {"totals": {"a": "NaN"}},
                {"totals": {"a": 0}},
                {"totals": {"a": "2.1"}},
                {"more": 1},
            )
        ),
    ],
    ids=lambda content: content[:40].decode("utf-8", "replace"),
)
def test_a_hostile_file_is_refused_and_stays(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises((PrivacyError, ConfigError)):
        LedgerFile(path, 2.0)
    assert path.read_bytes() == content


def test_the_file_that_all_those_are_made_from_is_fine(path: Path) -> None:
    path.write_text(json.dumps(GOOD))
    assert LedgerFile(path).total("a") == 1.0


def test_links_pipes_and_folders_are_refused(path: Path, tmp_path: Path) -> None:
    LedgerFile(tmp_path / "real", 1.0)
    path.symlink_to(tmp_path / "real")
    with pytest.raises(PrivacyError):
        LedgerFile(path, 1.0)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(PrivacyError):
        LedgerFile(path, 1.0)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PrivacyError):
        LedgerFile(path, 1.0)
    path.unlink()
    path.mkdir()
    with pytest.raises(PrivacyError):
        LedgerFile(path, 1.0)
    with pytest.raises(OutputError, match="lock file"):
        LedgerFile(tmp_path / "missing" / "ledger", 1.0)


def test_a_lock_that_is_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    Path(f"{path}.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match="lock file"):
        LedgerFile(path, 1.0)
    assert not (tmp_path / "victim").exists()


def test_whoever_holds_the_lock_is_waited_for_and_not_for_ever(path: Path) -> None:
    impatient = exclusive(path, patience_seconds=0)
    with exclusive(path), pytest.raises(OutputError, match="held by another"), impatient:
        pytest.fail("two hold it")
    waiting = threading.Event()
    done: list[int] = []

    def later() -> None:
        waiting.set()
        with exclusive(path):
            done.append(len(done))

    with exclusive(path):
        second = threading.Thread(target=later)
        second.start()
        waiting.wait()
        assert not done
    second.join()
    assert done == [0]


def test_an_error_inside_is_not_taken_for_one_of_the_lock(path: Path) -> None:
    for error in (ConfigError("mine"), OSError("mine"), BudgetExceeded("mine")):
        with pytest.raises(type(error), match="mine"), exclusive(path):
            raise error


def test_a_ledger_of_one_run_is_another_format(path: Path) -> None:
    Ledger(1.0).save(path)
    with pytest.raises(PrivacyError, match="version 2"):
        LedgerFile(path, 1.0)
