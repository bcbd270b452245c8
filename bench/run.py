"""One run of the benchmark: build every variant, measure by turns, keep the record."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lreorg_fast as lf
from bench import TOKENS, cases, machine, report
from bench.floor import Floor, FloorUnavailable, Work
from bench.rounds import Budget, Measurement, measure
from bench.runtimes import Setting
from bench.variants import ENGINE, Variant
from bench.worker import Worker, WorkerError, export_network
from lreorg_fast.files import atomic_file

# Two variants are built at once: torch.compile and the exporter each keep one core busy.
_BUILDERS = 2

# Libraries that spin at barriers lose far more than their share of a busy machine: 2 threads of
# PyTorch beside 6 other processes took seconds for what takes milliseconds.
_QUIET_LOAD = 0.5


@dataclasses.dataclass
class Run:
    """The whole of ``python -m bench.cpu`` but for its arguments.

    Attributes:
        config: shape of the network.
        variants: what to compare, in the order of the table.
        faces: numbers of faces, in the order of measuring.
        budget: for each number of faces.
        threads: for every variant.
        folder: an existing folder for exported networks and the probe.
        output: the results go to this path with .json and .md added.
    """

    config: lf.CDFNetConfig
    variants: Sequence[Variant]
    faces: Sequence[int]
    budget: Budget
    threads: int
    folder: Path
    output: Path

    def __post_init__(self) -> None:
        self._start = time.monotonic()
        self._workers: list[Worker] = []
        self._problems: dict[str, str] = {}
        self._finished: list[Measurement] = []
        self._floor: Floor | None = None
        self._floor_problem: str | None = None
        self._complete = False
        self._machine = machine.describe()
        self._last_loads: dict[str, float] = {}

    def everything(self) -> None:
        """Measure, writing the files after every step; an interrupted run leaves them valid."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        load = self._machine["load_average"][0]
        if load > _QUIET_LOAD:
            self._say(f"others use this machine (load average {load:.1f}): times will be too long")
        try:
            self._exact()
            self._probe_machine()
            self._build_workers()
            for faces in self.faces:
                self._measure(faces)
            self._complete = True
            self._write([])
        finally:
            # Also those that are still being built when the run is interrupted.
            for process in multiprocessing.active_children():
                process.terminate()

    def record(self, running: Sequence[Measurement] = ()) -> dict[str, Any]:
        """Everything that is known so far, JSON-ready."""
        facts = {worker.variant.name: worker.facts for worker in self._workers}
        return {
            "format": report.FORMAT,
            "complete": self._complete,
            "seconds": round(time.monotonic() - self._start, 1),
            "command": sys.argv,
            "machine": self._machine,
            "load_average_after": list(os.getloadavg()),
            "threads": self.threads,
            "budget": dataclasses.asdict(self.budget),
            "case": {
                "name": "reorganize-default",
                "config": self.config.to_dict(),
                "tokens": TOKENS,
                "hide": [cases.HIDE],
                "keep": list(cases.KEEP),
            },
            "variants": {
                variant.name: {
                    **dataclasses.asdict(variant),
                    "problem": self._problems.get(variant.name),
                    "facts": facts.get(variant.name),
                }
                for variant in self.variants
            },
            "floor": None if self._floor is None else self._floor.to_dict(),
            "floor_problem": self._floor_problem,
            "results": [self._result(each, facts) for each in [*self._finished, *running]],
        }

    def markdown(self) -> str:
        return report.markdown(self.record())

    def _result(self, measurement: Measurement, facts: dict[str, Any]) -> dict[str, Any]:
        result = measurement.to_dict()
        variant = next(v for v in self.variants if v.name == measurement.variant)
        if variant.runtime == ENGINE and self._floor is not None:
            operands = facts[variant.name]["activations"]
            result["floor"] = {
                "memory": self._floor.memory_seconds(variant.dtype),
                "compute": self._floor.compute_seconds(operands, measurement.faces),
            }
        return result

    def _exact(self) -> None:
        self._say("float64 reference")
        cases.expected(max(self.faces), self.config)

    def _probe_machine(self) -> None:
        from bench.folded import FoldedRecurrence, weight_elements

        plan = cases.recurrence()
        folded = FoldedRecurrence(*cases.network(self.config), plan)
        work = Work(weight_elements(folded), len(plan.steps), len(plan.passes))
        self._say("building the probe of the machine's rates")
        try:
            self._floor = Floor(self.folder, self.threads, work)
            self._floor.sample()
        except FloorUnavailable as error:
            self._floor, self._floor_problem = None, str(error)
            self._say(f"no floors: {error}")

    def _build_workers(self) -> None:
        """Start all that can run. Exports come first: others wait for them."""
        setting = Setting(self.config, self.threads, self.folder)
        for variant in self.variants:
            missing = variant.missing()
            if missing is not None:
                self._problems[variant.name] = missing
        present = [v for v in self.variants if v.name not in self._problems]
        networks = sorted({v.network for v in present if v.needs_onnx})
        pool = ThreadPoolExecutor(_BUILDERS)
        exports = {n: pool.submit(export_network, n, setting) for n in networks}
        slow_first = sorted(present, key=lambda v: v.runtime != "compile")
        futures = {
            variant.name: pool.submit(self._build, variant, setting, exports.get(variant.network))
            for variant in slow_first
        }
        try:
            self._collect(present, futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _collect(self, present: Sequence[Variant], futures: dict[str, Future[Worker]]) -> None:
        for variant in present:
            try:
                self._workers.append(futures[variant.name].result())
            except WorkerError as error:
                self._problems[variant.name] = f"failed: {error}"

    def _build(self, variant: Variant, setting: Setting, export: Future[None] | None) -> Worker:
        if variant.needs_onnx and export is not None:
            export.result()
        start = time.monotonic()
        worker = Worker(variant, setting)
        try:
            worker.load(*self._inputs(1))  # compiles what compiles on its first call
        except WorkerError:
            worker.close()
            raise
        worker.facts["build_seconds"] = round(time.monotonic() - start, 1)
        self._say(f"built {variant.name} in {worker.facts['build_seconds']:.0f} s")
        return worker

    def _measure(self, faces: int) -> None:
        self._say(f"{faces} face(s): checking every variant")
        exact = cases.expected(faces, self.config).reshape(-1, self.config.dim).numpy()

        def after_turn(running: list[Measurement]) -> None:
            self._write(running)
            turns = max(len(each.seconds) for each in running)
            self._say(
                f"{faces} face(s): {len(running)} of {len(self._workers)} checked, "
                f"up to {turns} timed calls{self._time_left(faces, running)}"
            )

        done = measure(self._workers, self._inputs(faces), exact, faces, self.budget, after_turn)
        self._finished += done
        if self._floor is not None:
            self._floor.sample()
        self._write([])

    def _time_left(self, faces: int, running: Sequence[Measurement]) -> str:
        """An estimate from the times at this number of faces, which grow at most in proportion."""
        later = self.faces[list(self.faces).index(faces) + 1 :]
        per_call = sum(each.seconds[-1] for each in running if each.seconds)
        if not later or len(running) < len(self._workers) or per_call == 0:
            return ""
        checks = sum(2 * per_call * count / faces for count in later)
        left = checks + len(later) * self.budget.seconds
        return f", at most {left / 60:.0f} min for what follows"

    def _inputs(self, faces: int) -> tuple[Any, Any]:
        s, f = cases.inputs(faces, self.config)
        dim = self.config.dim
        return s.reshape(-1, dim).numpy(), f.reshape(-1, dim).numpy()

    def _write(self, running: Sequence[Measurement]) -> None:
        record = self.record(running)
        content = {".json": json.dumps(record, indent=1) + "\n", ".md": report.markdown(record)}
        for suffix, text in content.items():
            path = self.output.with_name(self.output.name + suffix)
            with atomic_file(path, overwrite=True) as stream:
                stream.write(text.encode())

    def _say(self, words: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {words}", file=sys.stderr, flush=True)
