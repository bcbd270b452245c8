"""Work that hangs: whoever waits goes on, the thread is replaced, and after a few all ends."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hangs import Hanging

from lreorg_fast.errors import ConfigError, LateError, StuckError
from lreorg_fast.time_limit import MOST_LEFT_BEHIND, TimeLimit, left_behind


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.release()


def always(_number: int) -> bool:
    return True


def hung(hanging: Hanging) -> str:
    with pytest.raises(LateError) as late:
        hanging.limit(hanging.instead_of(lambda: None, always), "the work", 2)
    return str(late.value)


def test_results_and_errors_come_through() -> None:
    limit = TimeLimit(60)
    assert limit(lambda: 7, "x") == 7
    with pytest.raises(KeyError, match="gone"):
        limit(lambda: {}["gone"], "x")


def test_one_thread_does_one_task_after_another() -> None:
    limit = TimeLimit(60)
    names = {limit(lambda: threading.current_thread().name, "x") for _ in range(5)}
    assert len(names) == 1
    assert names != {threading.current_thread().name}


def test_without_a_limit_the_work_is_done_in_place() -> None:
    for seconds in (None, 0):
        done_by = TimeLimit(seconds)(threading.current_thread, "x")
        assert done_by is threading.current_thread()


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_seconds_out_of_range(seconds: float) -> None:
    with pytest.raises(ConfigError, match="face time-out"):
        TimeLimit(seconds)


def test_what_hangs_is_left_behind_and_another_thread_goes_on(hanging: Hanging) -> None:
    assert hung(hanging) == "the work took longer than 120 s"
    assert left_behind()
    assert hanging.limit(lambda: 7, "x") == 7
    assert not hanging.limit.stuck
    hanging.limit.check()


def test_after_a_few_nothing_is_begun(hanging: Hanging) -> None:
    for _ in range(MOST_LEFT_BEHIND):
        hung(hanging)
    assert hanging.limit.stuck
    with pytest.raises(LateError, match="was not begun"):
        hanging.limit(lambda: 7, "x")
    with pytest.raises(StuckError, match="--resume"):
        hanging.limit.check()
    assert TimeLimit(60)(lambda: 7, "x") == 7  # another run of this process


def test_what_comes_back_late_is_thrown_away_and_counts_no_more() -> None:
    hanging = Hanging()
    for _ in range(MOST_LEFT_BEHIND):
        hung(hanging)
    late = [t for t in threading.enumerate() if t.name.startswith("lreorg-limited")]
    hanging.release()
    for thread in late:  # the idle ones wait for work, and do not end
        while thread.is_alive() and hanging.limit.stuck:
            thread.join(0.01)
    assert hanging.limit(lambda: 7, "x") == 7


def test_an_interruption_leaves_the_work_behind(hanging: Hanging) -> None:
    def interrupt(_finished: threading.Event, _seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TimeLimit(60, interrupt)(hanging.instead_of(lambda: None, always), "x")
    assert TimeLimit(60)(lambda: 7, "x") == 7


COMMAND = """
import sys, threading
from lreorg_fast.cli import app
from lreorg_fast.errors import LateError
from lreorg_fast.time_limit import TimeLimit

@app.lreorg.command()
def hung_three():
    limit = TimeLimit(60, lambda finished, seconds: None)
    for _ in range(3):
        try:
            limit(threading.Event().wait, "the search for faces")
        except LateError:
            pass
    print("told")
    limit.check()

sys.argv = ["lreorg", sys.argv[1]]
app.main()
"""


def test_the_command_ends_although_threads_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "hung-three"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == "told\n"
    assert "so the run ends here" in done.stderr
    assert "Traceback" not in done.stderr
