"""The stages of ``bench/gpu_check.py`` as data, in the order of running: cheap ones first."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence

SECONDS = 540.0  # what the limits below add up to, and the default for the whole run


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of the run, in a process of its own.

    Attributes:
        name: what ``--stages`` calls it.
        title: what it does, for the tables.
        target: its function, "package.module:function".
        seconds: its time limit in a run of SECONDS.
        correctness: a failure of any of its steps makes the command fail. Of the others only a
            wrong result does.
        needs: stages without which it cannot run.
        grows: it may also use what earlier stages have left of their time.
    """

    name: str
    title: str
    target: str
    seconds: float
    correctness: bool = False
    needs: tuple[str, ...] = ()
    grows: bool = False


DEVICE = "device"
BUILD = "build"

STAGES = (
    Stage(DEVICE, "what the machine is", "bench.gpu.device:describe", 30, correctness=True),
    Stage("rates", "matrix rate and copy bandwidth", "bench.gpu.rates:measure", 20),
    Stage(
        BUILD,
        "the package and the probes, for this GPU",
        "bench.gpu.build:build",
        150,
        correctness=True,
        needs=(DEVICE,),
    ),
    Stage(
        "exchange", "exchanges and weight streams", "bench.gpu.native:measure", 20, needs=(BUILD,)
    ),
    Stage(
        "tests",
        "pytest tests/gpu",
        "bench.gpu.tests:run",
        105,
        correctness=True,
        needs=(BUILD,),
        grows=True,
    ),
    Stage(
        "sanitizer",
        "compute-sanitizer on small networks",
        "bench.gpu.sanitizer:run",
        60,
        correctness=True,
        needs=(BUILD,),
    ),
    Stage(
        "generator",
        "the generator, plain and fused",
        "bench.gpu.generator:measure",
        25,
        needs=(BUILD,),
    ),
    Stage("training", "a training step", "bench.gpu.training:measure", 30, needs=(BUILD,)),
    Stage(
        "recurrence",
        "the benchmark table",
        "bench.gpu.recurrence:measure",
        100,
        needs=(BUILD,),
        grows=True,
    ),
)


def choose(patterns: Sequence[str], stages: Sequence[Stage] = STAGES) -> list[Stage]:
    """The stages whose names match a pattern, and all that those need, in the order of running.

    Raises:
        ValueError: a pattern matches nothing.
    """
    names = [stage.name for stage in stages]
    wanted: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise ValueError(f"{pattern!r} matches no stage; the stages are {', '.join(names)}")
        wanted.update(found)
    for stage in reversed(stages):  # what a stage needs runs before it
        if stage.name in wanted:
            wanted.update(stage.needs)
    return [stage for stage in stages if stage.name in wanted]


def limit(stage: Stage, later: Iterable[Stage], left: float, share: float) -> float:
    """Seconds that a stage may take.

    Args:
        later: the stages after it, whose time it leaves alone.
        left: seconds of the whole run that are left.
        share: the whole run's seconds over SECONDS.
    """
    own = stage.seconds * share
    if stage.grows:
        own = max(own, left - sum(each.seconds for each in later) * share)
    return max(0.0, min(own, left))


def missing(stage: Stage, statuses: Mapping[str, str], passed: str) -> str | None:
    """Why a stage cannot run, or None."""
    for name in stage.needs:
        if statuses.get(name) != passed:
            return f"it needs stage {name}, which is {statuses.get(name, 'not run')}"
    return None
