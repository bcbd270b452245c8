"""Stage ``tests``: every test of tests/gpu, each a step of its own, so that one that hangs or kills
the process does not hide the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.gpu.channel import Channel, Context

FOLDER = Path("tests") / "gpu"
_TEST_SECONDS = 60.0  # of one test; Triton compiles in some


class NoTests(Exception):
    """There was nothing to run, which is no success; the message says why."""


def run(context: Context, channel: Channel, folder: Path = FOLDER) -> None:
    """Run pytest in this process; keeps the outcome of every test and the counts."""
    try:
        import pytest
    except ImportError:
        raise NoTests("pytest is missing: bring it as a wheel") from None
    reporter = Reporter(channel, context.kept.get("tests", {}))
    if context.device == "cuda":
        import torch

        channel.check_device = torch.cuda.synchronize
    arguments = ["--rootdir", str(context.root), "-c", str(context.root / "pyproject.toml")]
    arguments += ["-p", "no:cacheprovider", "-p", "no:xdist", "-v", str(context.root / folder)]
    status = pytest.main(arguments, plugins=[reporter])
    counts = reporter.counts()
    channel.keep("counts", value=counts)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED or not counts.get("passed"):
        raise NoTests(f"no test of {folder} has passed: {counts or 'there are none'}")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise NoTests(f"pytest ended with {pytest.ExitCode(status).name}; see the log")


class Reporter:
    """A pytest plugin that makes every test a step, and leaves out those that an earlier process
    has finished or died in."""

    def __init__(self, channel: Channel, finished: dict[str, str]) -> None:
        self._channel = channel
        self._results = dict(finished)

    def counts(self) -> dict[str, int]:
        """How many tests passed, failed and were skipped, in all processes."""
        found: dict[str, int] = {}
        for result in self._results.values():
            found[result] = found.get(result, 0) + 1
        return found

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        left_out = [item for item in items if self._is_done(item.nodeid)]
        items[:] = [item for item in items if not self._is_done(item.nodeid)]
        config.hook.pytest_deselected(items=left_out)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._channel.fail(report.nodeid or "collection", _last_line(report.longreprtext))

    def pytest_runtest_protocol(self, item: Any) -> None:
        self._channel.begin(item.nodeid, _TEST_SECONDS)
        self._result, self._reason = "passed", ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._result, self._reason = "failed", _last_line(report.longreprtext)
        elif report.skipped and self._result == "passed":
            self._result = "skipped"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._results[nodeid] = self._result
        self._channel.keep("tests", nodeid, value=self._result)
        if self._result == "failed":
            self._channel.fail(nodeid, self._reason)
            self._channel.stop_if_broken()
        else:
            self._channel.end(nodeid)

    def _is_done(self, test: str) -> bool:
        return test in self._results or self._channel.has_failed(test)


def _last_line(text: str) -> str:
    """What pytest says last that begins with its mark of an error, else its last line."""
    lines = text.strip().splitlines() or ["it failed"]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    return errors[0] if errors else lines[-1]
