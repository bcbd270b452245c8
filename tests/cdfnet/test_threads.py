"""One engine, many threads and processes: the team of csrc and what fork() does to it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lreorg_fast as lf

# A child that hangs is killed and fails the test; a good one answers within milliseconds.
PATIENCE_SECONDS = 60.0

Reorganize = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def team() -> Iterator[None]:
    torch.set_num_threads(3)  # more than the cores of a small machine: threads must give way
    yield
    torch.set_num_threads(1)


@pytest.fixture(params=["float32", "bfloat16", "int8"])
def reorganize(
    request: pytest.FixtureRequest,
    make_net: Callable[..., Any],
    make_latent: Callable[..., Tensor],
) -> Reorganize:
    # Wide enough for three threads to share the columns of one face.
    net = make_net(lf.CDFNetConfig(dim=128, cond_dim=8, num_blocks=3, growth=16))
    keywords = {name: make_latent(name, 8) for name in ("a", "b")}
    engine = lf.compile(net, keywords, backend="cpu", dtype=request.param)
    donor = make_latent("donor", 128).float()
    return lambda s: engine.reorganize(s, {"a": donor}, ["b"])


def run_all(works: list[Callable[[], None]]) -> None:
    """Runs each on a thread of its own, all at once."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], None]) -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_a_forked_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a child made by fork()."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(work()))
    child.start()
    try:
        assert receiving.poll(PATIENCE_SECONDS), "the child hangs"
        return receiving.recv()
    finally:
        child.kill()
        child.join()


def test_threads_share_an_engine(
    reorganize: Reorganize, make_latent: Callable[..., Tensor]
) -> None:
    inputs = [make_latent(f"thread {i}", 14 + 17 * i, 128).float() for i in range(5)]
    torch.set_num_threads(1)
    expected = [reorganize(s) for s in inputs]
    torch.set_num_threads(3)
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            if not torch.equal(reorganize(inputs[i]), expected[i]):
                wrong.append(i)

    run_all([lambda i=i: work(i) for i in range(len(inputs))])  # type: ignore[misc]
    assert not wrong


def test_results_do_not_depend_on_the_number_of_threads(
    reorganize: Reorganize, make_latent: Callable[..., Tensor]
) -> None:
    s = make_latent("latent", 70, 128).float()
    results = []
    for threads in (1, 2, 3, 4, 2, 1):
        torch.set_num_threads(threads)
        results.append(reorganize(s))
    assert all(torch.equal(result, results[0]) for result in results)


def test_a_forked_child_computes_the_same(
    reorganize: Reorganize, make_latent: Callable[..., Tensor]
) -> None:
    s = make_latent("latent", 14, 128).float()
    expected = reorganize(s)  # the team exists now, and its threads are not in the child
    for _ in range(3):
        made = in_a_forked_child(lambda: [reorganize(s).tolist() for _ in range(2)])
        assert made == [expected.tolist()] * 2
        assert torch.equal(reorganize(s), expected)


def test_a_child_of_a_child_computes_the_same(
    reorganize: Reorganize, make_latent: Callable[..., Tensor]
) -> None:
    s = make_latent("latent", 14, 128).float()
    expected = reorganize(s).tolist()

    def child() -> Any:
        own = reorganize(s).tolist()
        return own, in_a_forked_child(lambda: reorganize(s).tolist())

    assert in_a_forked_child(child) == (expected, expected)


def test_fork_while_another_thread_is_inside_a_run(
    reorganize: Reorganize, make_latent: Callable[..., Tensor]
) -> None:
    s = make_latent("latent", 14, 128).float()
    long = make_latent("long", 200, 128).float()
    expected, of_long = reorganize(s), reorganize(long)
    stop = threading.Event()
    inside = threading.Event()
    wrong: list[Tensor] = []

    def keep_running() -> None:
        while not stop.is_set():
            inside.set()
            made = reorganize(long)
            if not torch.equal(made, of_long):
                wrong.append(made)

    def fork_often() -> None:
        inside.wait()
        try:
            for _ in range(3):
                assert in_a_forked_child(lambda: reorganize(s).tolist()) == expected.tolist()
        finally:
            stop.set()

    others = [threading.Thread(target=keep_running) for _ in range(2)]
    for other in others:
        other.start()
    try:
        fork_often()
    finally:
        for other in others:
            other.join()
    assert not wrong


def test_the_engine_leaves_the_affinity_alone(
    reorganize: Reorganize, make_latent: Callable[..., Tensor]
) -> None:
    before = os.sched_getaffinity(0)
    reorganize(make_latent("latent", 14, 128).float())
    assert os.sched_getaffinity(0) == before
