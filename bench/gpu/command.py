"""The command behind ``python bench/gpu_check.py`` and ``bench/trt_check.py``: stage after stage, a
record after each."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.gpu import report, runner
from bench.gpu.runner import NOT_RUN, PASSED, Outcome, Process
from bench.gpu.stages import BUILD, DEVICE, SECONDS, STAGES, Stage, choose, limit, missing

ROOT = Path(__file__).resolve().parents[2]
FORMAT = 1

_CHILD = "from bench.gpu.child import main; main()"
_WRITE_SECONDS = 1.0  # between two records while a stage runs
_LEAST_SECONDS = 60.0

OK, WRONG, NO_GPU, INTERRUPTED = 0, 1, 2, 130


@dataclasses.dataclass(frozen=True)
class Suite:
    """What a command runs, and how it tells of it.

    Attributes:
        name: the script in bench/, and the folder of its builds.
        about: one sentence.
        stages: in the order of running; the first is DEVICE.
        seconds: what their limits add up to, and the default for the whole run.
        summary, markdown: of a record: what is printed, and the results' tables.
        suffix: of the results' names, after the device.
    """

    name: str
    about: str
    stages: Sequence[Stage]
    seconds: float
    summary: Callable[[report.Record], str]
    markdown: Callable[[report.Record], str]
    suffix: str = ""


GPU_CHECK = Suite(
    "gpu_check",
    "Build, check and time everything that runs on this machine's GPU.",
    STAGES,
    SECONDS,
    report.summary,
    report.markdown,
)


def main(
    arguments: Sequence[str] | None = None,
    stages: Sequence[Stage] | None = None,
    suite: Suite = GPU_CHECK,
) -> int:
    """Run the command; ``stages`` replaces what there is to run, for tests.

    Returns:
        0; 1 if a correctness stage failed or any result was wrong; 2 without a GPU.
    """
    options = _parser(suite).parse_args(arguments)
    try:
        chosen = choose([*options.stages, DEVICE], suite.stages if stages is None else stages)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_GPU
    run = Run(options, chosen, suite)
    try:
        return run.everything()
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured so far is in the output files", file=sys.stderr)
        return INTERRUPTED


class Run:
    """One run of the chosen stages."""

    def __init__(
        self, options: argparse.Namespace, stages: Sequence[Stage], suite: Suite = GPU_CHECK
    ) -> None:
        self._options = options
        self._suite = suite
        self._stages = stages
        self._outcomes = {stage.name: Outcome() for stage in stages}
        self._start = time.monotonic()
        self._written = float("-inf")
        self._date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._complete = False
        self._work: Path = options.work.resolve()
        self._output: Path = options.output.resolve()
        self._scratch = self._work / "scratch"  # holds nothing that a Python process could import
        self._log = self._work / "log"

    def everything(self) -> int:
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._log.write_bytes(b"")
        for i, stage in enumerate(self._stages):
            self._one(stage, self._stages[i + 1 :])
            if stage.name == DEVICE and self._outcomes[DEVICE].status != PASSED:
                print(f"error: {self._outcomes[DEVICE].reason}", file=sys.stderr)
                return NO_GPU
        self._complete = True
        self._write()
        print(self._suite.summary(self.record()))
        return WRONG if any(map(self._is_wrong, self._stages)) else OK

    def record(self) -> dict[str, Any]:
        """Everything that is known so far, JSON-ready."""
        return {
            "format": FORMAT,
            "complete": self._complete,
            "date": self._date,
            "command": sys.argv,
            "quick": self._options.quick,
            "seconds": round(time.monotonic() - self._start, 1),
            "stages": {
                stage.name: {
                    "title": stage.title,
                    "correctness": stage.correctness,
                    **self._outcomes[stage.name].to_dict(),
                }
                for stage in self._stages
            },
        }

    def _one(self, stage: Stage, later: Sequence[Stage]) -> None:
        statuses = {name: outcome.status for name, outcome in self._outcomes.items()}
        reason = missing(stage, statuses, PASSED)
        left = self._options.seconds - (time.monotonic() - self._start)
        seconds = limit(stage, later, left, self._options.seconds / self._suite.seconds)
        if reason is None and seconds <= 0:
            reason = "the time of the whole run was up"
        if reason is not None:
            self._outcomes[stage.name] = Outcome(NOT_RUN, reason)
        else:
            self._say(f"{stage.name}: {stage.title} (at most {seconds:.0f} s)")
            with self._log.open("a") as log:
                log.write(f"\n===== {stage.name}\n")
            self._outcomes[stage.name] = runner.run(
                self._process(stage, seconds), seconds, lambda made: self._changed(stage, made)
            )
        made = self._outcomes[stage.name]
        self._say(f"{stage.name}: {made.status}{f' ({made.reason})' if made.reason else ''}")
        self._write()

    def _process(self, stage: Stage, seconds: float) -> Process:
        orders = self._scratch / f"{stage.name}.orders.json"
        deadline = time.monotonic() + seconds
        earlier = {name: outcome.data for name, outcome in self._outcomes.items()}

        def command(outcome: Outcome, end: int) -> Sequence[str]:
            context = {
                "root": str(ROOT),
                "work": str(self._work),
                "seconds": deadline - time.monotonic(),
                "quick": self._options.quick,
                "earlier": earlier,
                "kept": outcome.data,
            }
            content = {"target": stage.target, "failed": outcome.failed, "context": context}
            orders.write_text(json.dumps(content))
            return [sys.executable, "-c", _CHILD, str(orders), str(end)]

        return Process(command, self._log, self._scratch, self._environment())

    def _environment(self) -> dict[str, str]:
        """The built package comes before the checkout's; caches outlive the run."""
        path = [self._work / "site", ROOT, ROOT / "tests"]
        given = os.environ.get("PYTHONPATH")
        return {
            "PYTHONPATH": os.pathsep.join([*map(str, path), *([given] if given else [])]),
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(self._work / "inductor"),
            "TRITON_CACHE_DIR": str(self._work / "triton"),
        }

    def _changed(self, stage: Stage, outcome: Outcome) -> None:
        self._outcomes[stage.name] = outcome
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self._write()

    def _is_wrong(self, stage: Stage) -> bool:
        outcome = self._outcomes[stage.name]
        failed = outcome.status not in (PASSED, runner.UNAVAILABLE)
        return outcome.wrong or (stage.correctness and failed)

    def _write(self) -> None:
        """Replace the files whole; without a device there is nothing to write."""
        device = self._outcomes[DEVICE].data.get("gpu", {}).get("name")
        if device is None:
            return
        self._output.mkdir(parents=True, exist_ok=True)
        record = self.record()
        texts = {
            ".json": json.dumps(record) + "\n",
            ".md": self._suite.markdown(record),
            ".log": self._log.read_text(errors="replace"),
        }
        for ending, text in texts.items():
            with _replacing(self._output / f"{slug(device)}{self._suite.suffix}{ending}") as path:
                path.write_text(text)
        self._written = time.monotonic()

    def _say(self, words: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {words}", flush=True)


def slug(device: str) -> str:
    """A device's name as a file name: "NVIDIA H200" -> "nvidia_h200"."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    # Not lreorg_fast.files: the command must not need the package that it builds.
    beside = path.with_name(path.name + ".new")
    yield beside
    beside.replace(path)


def _parser(suite: Suite) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python bench/{suite.name}.py",
        description=suite.about,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, default=ROOT / "bench" / "results", help="folder of the results")
    add("--quick", action="store_true", help="fewer faces, rounds and peers")
    add("--seconds", type=_seconds, default=suite.seconds, help="for everything together")
    names = ", ".join(stage.name for stage in suite.stages)
    add(
        "--stages",
        type=lambda text: text.split(","),
        default="*",
        help=f"names or patterns ({names}); what they need runs too, of which {BUILD} builds only "
        "what has changed",
    )
    add(
        "--work",
        type=Path,
        default=ROOT / "build" / suite.name,
        help="folder of builds and caches, which later runs use again",
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= _LEAST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} s is less than {_LEAST_SECONDS:.0f}")
    return seconds
