"""A run that is killed, stopped, starved of disk or shared by processes loses nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import (
    SignallingJudges,
    mean_of_gradients,
    train_together,
    train_toy,
    train_until_killed,
)

from lreorg_fast.errors import CheckpointError, OutputError
from lreorg_fast.training.run import Interrupted


def processes(target: Callable[..., None], *each: tuple[Any, ...]) -> list[int | None]:
    """Run ``target`` in a child per tuple of arguments; their exit codes."""
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=target, args=arguments) for arguments in each]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        if child.is_alive():
            child.kill()
            child.join()
    return [child.exitcode for child in children]


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_toy(tmp_path_factory.mktemp("unbroken")).state_dict()


def test_a_killed_run_goes_on_to_the_same_parameters(
    unbroken: dict[str, Any], tmp_path: Path
) -> None:
    assert processes(train_until_killed, (str(tmp_path), 7)) == [-signal.SIGKILL]
    assert (tmp_path / "state.pt").exists()
    assert not (tmp_path / "done.json").exists()
    assert equal(train_toy(tmp_path).state_dict(), unbroken)
    assert not list(tmp_path.glob(".lreorg-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves_it(
    number: signal.Signals, unbroken: dict[str, Any], tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped at 6 of 12 steps") as caught:
        train_toy(tmp_path, SignallingJudges(number, 6))
    assert str(tmp_path) in str(caught.value)
    assert signal.getsignal(number) is before
    assert torch.load(tmp_path / "state.pt", weights_only=True)["position"] == 6
    assert equal(train_toy(tmp_path).state_dict(), unbroken)


def test_a_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(
    unbroken: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, sync = iter(range(4)), os.fsync

    def full(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr("lreorg_fast.files.os.fsync", full)
    with pytest.raises(OutputError, match=r"state\.pt.*No space left"):
        train_toy(tmp_path)
    monkeypatch.undo()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert 0 < saved["position"] < 12
    assert not list(tmp_path.glob(".lreorg-*"))
    assert equal(train_toy(tmp_path).state_dict(), unbroken)


@pytest.mark.parametrize("damage", ["cut", "foreign", "other network"])
def test_a_checkpoint_that_cannot_be_used_is_refused_and_kept(damage: str, tmp_path: Path) -> None:
    train_toy(tmp_path)
    path = tmp_path / "state.pt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        state = torch.load(path, weights_only=True)
        state["payload"]["net"].popitem()
        torch.save(state, path)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        train_toy(tmp_path)
    assert path.read_bytes() == content


def test_gradients_are_the_mean_over_processes(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert processes(mean_of_gradients, (0, 2, folder), (1, 2, folder)) == [0, 0]
    for rank in range(2):
        first, second, flags = torch.load(tmp_path / f"means-{rank}.pt", weights_only=True)
        assert first.tolist() == [0.5, 0.5, 0.5]
        assert second.tolist() == [2.0, 2.0, 2.0]
        assert flags == (True, False)


def test_two_processes_end_with_one_network_also_after_a_stop(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder, stops in ((whole, (-1,)), (broken, (4, -2))):
        folder.mkdir()
        for stop in stops:
            both = [(rank, 2, str(folder), 8, stop) for rank in range(2)]
            assert processes(train_together, *both) == [0, 0]
    assert (broken / "stopped-0").exists()
    assert (broken / "stopped-1").exists()
    ends = [
        torch.load(folder / f"parameters-{rank}.pt", weights_only=True)
        for folder in (whole, broken)
        for rank in range(2)
    ]
    assert all(equal(ends[0], end) for end in ends[1:])
    # Each process drew its own people, so two of them are not one.
    assert not equal(ends[0], train_toy(tmp_path / "alone", steps=8, average=0.9).state_dict())
    with pytest.raises(CheckpointError, match="nproc-per-node 2"):
        train_toy(broken / "run", steps=8, average=0.9)
