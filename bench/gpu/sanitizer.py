"""Stage ``sanitizer``: compute-sanitizer's memcheck and racecheck over native/memory_check.cu.

Small networks, every tier and every weight type. The cases are written here: packed weights,
program and the float64 result of the schedule's twin.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lreorg_fast as lf
from bench.gpu.build import CHECKER, cuda_program
from bench.gpu.channel import Channel, Context, Unavailable, WrongResult
from lreorg_fast.cdfnet.backends.program import number
from lreorg_fast.cdfnet.folding import FoldedCDFNet, fold
from lreorg_fast.cdfnet.schedule import execute

TOOLS = ("memcheck", "racecheck")
TIERS = {"cluster": 1, "grid": 2}  # LreorgCudaTier
WEIGHTS = {"bfloat16": 0, "float16": 1, "float32": 2}  # LreorgCudaWeights
KEYWORDS = ("identity", "gender")

# RMS errors by weight type, of values of about unit size after two blocks and four passes. They
# find wrong kernels, not rounding: tests/gpu judges that.
LIMITS = {"bfloat16": 2e-2, "float16": 5e-3, "float32": 1e-4}

_SECONDS = 60.0
_CANNOT = ("Device not supported", "unsupported device", "Insufficient privileges")


@dataclasses.dataclass(frozen=True)
class Case:
    """One small reorganization.

    Attributes:
        dim, growth, blocks: the network's shape; some are no multiples of a tile.
        tokens: rows.
        exact: products read float32 activations.
    """

    tier: str
    dtype: str
    dim: int
    growth: int
    blocks: int
    tokens: int
    exact: bool = False

    @property
    def name(self) -> str:
        exact = "-exact" if self.exact else ""
        return f"{self.tier}-{self.dtype}{exact}-{self.dim}x{self.blocks}-{self.tokens}"


def cases(quick: bool) -> list[Case]:
    """Every tier, each with every weight type; with ``quick`` bfloat16 alone."""
    found = []
    for tier in TIERS:
        found += [Case(tier, "bfloat16", 256, 32, 1, 5), Case(tier, "bfloat16", 72, 8, 2, 37)]
        if not quick:
            found.append(Case(tier, "bfloat16", 64, 16, 2, 14, exact=True))
            found += [Case(tier, dtype, 64, 16, 2, 14) for dtype in ("float16", "float32")]
    return found


def run(context: Context, channel: Channel) -> None:
    """Keep what each case said, under its name: plain, and under each tool.

    Raises:
        Unavailable: there is no compute-sanitizer, or it does not know this device.
    """
    for case in cases(context.quick):
        channel.attempt(case.name, _SECONDS, functools.partial(_plain, context, channel, case))
    if not any(_file(context, case).exists() for case in cases(context.quick)):
        raise WrongResult("not one case ran")
    sanitizer = cuda_program("compute-sanitizer")
    if sanitizer is None:
        raise Unavailable("compute-sanitizer is missing; the cases ran without it")
    for tool in TOOLS:
        for case in cases(context.quick):
            file = _file(context, case)
            if channel.has_failed(case.name) or not file.exists():
                continue
            command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--print-limit", "5"]
            command += [str(context.work / CHECKER), "run", str(file)]
            with channel.step(f"{tool} {case.name}", _SECONDS):
                check_tool(command)
                channel.keep(tool, case.name, value="no errors")


def _plain(context: Context, channel: Channel, case: Case) -> None:
    program, file = context.work / CHECKER, _file(context, case)
    file.unlink(missing_ok=True)  # of an earlier run
    group = int(_output([str(program), "group", *map(str, group_arguments(case))]))
    if group == 0:
        channel.keep("plain", case.name, value="the device cannot run this tier")
        return
    file.write_bytes(content(case, group))
    made = json.loads(_output([str(program), "run", str(file)]))
    channel.keep("plain", case.name, value=made)
    check(case, made)


def _file(context: Context, case: Case) -> Path:
    return context.work / f"{case.name}.case"


def check(case: Case, made: dict[str, Any]) -> None:
    """Raises WrongResult where a run's line of JSON shows one."""
    if not made["finite"]:
        raise WrongResult("the result is not finite")
    if made["rms_error"] > LIMITS[case.dtype]:
        raise WrongResult(f"RMS error {made['rms_error']:.1e} > {LIMITS[case.dtype]:.0e}")
    if not made["same"]:
        raise WrongResult("two runs gave different bits")


def check_tool(command: list[str]) -> None:
    """Run under compute-sanitizer; raises WrongResult if it found something."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    if any(words in done.stdout for words in _CANNOT):
        raise Unavailable("compute-sanitizer does not work on this machine; see the log")
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if line.startswith("=====")]
        told = [line.strip("= ") for line in errors if "Error" in line or "ERROR SUMMARY" in line]
        raise WrongResult(told[-1] if told else f"code {done.returncode}; see the log")


def group_arguments(case: Case) -> list[int]:
    return [case.dim, case.blocks, case.growth, WEIGHTS[case.dtype], TIERS[case.tier]]


def content(case: Case, group: int) -> bytes:
    """The file that memory_check.cu reads: its ``Head``, then the arrays."""
    from lreorg_fast.cdfnet.cuda_packing import pack

    folded, tables, inputs = _network(case)
    weights = np.ascontiguousarray(pack(folded, case.dtype, group)).view(np.uint8).reshape(-1)
    plan = lf.plan(hide=KEYWORDS[:1], keep=KEYWORDS[1:])
    program = number(plan, {name: i for i, name in enumerate(KEYWORDS)})
    values = execute(
        plan,
        folded,
        dict(zip(KEYWORDS, tables.astype(np.float64), strict=True)),
        dict(zip(plan.inputs, inputs.astype(np.float64), strict=True)),
    )
    steps, lanes = [], []
    for direction, of_step in program.steps:
        steps.append((("disentangle", "fuse").index(direction), len(lanes), len(of_step)))
        lanes += of_step
    head = np.array([case.dim, case.blocks, case.growth], np.int32).tobytes()
    head += np.float32(folded.config.clamp).tobytes()
    counts = [WEIGHTS[case.dtype], int(case.exact), TIERS[case.tier], case.tokens]
    counts += [weights.size, tables.size, len(steps), len(lanes)]
    counts += [program.num_inputs, program.num_values, program.outputs[0]]
    arrays: list[NDArray[Any]] = [
        np.array(counts, np.int32),
        weights,
        tables,
        np.array(steps, np.int32),
        np.array(lanes, np.int32),
        inputs,
        values[plan.outputs[0]].astype(np.float32),
    ]
    return head + b"".join(array.tobytes() for array in arrays)


def _network(case: Case) -> tuple[FoldedCDFNet, NDArray[np.float32], NDArray[np.float32]]:
    """(network, constants (keyword, block, 3, dim), inputs (2, tokens, dim)), from fixed seeds."""
    from bench import cases as benchmark

    config = lf.CDFNetConfig(dim=case.dim, cond_dim=32, num_blocks=case.blocks, growth=case.growth)
    net, keywords = benchmark.network(config)
    folded = fold(net)
    tables = [folded.keywords.table(keywords[name].double().numpy()) for name in KEYWORDS]
    draw = np.random.default_rng(math.prod((case.dim, case.tokens)))
    inputs = draw.standard_normal((2, case.tokens, case.dim), np.float32)
    return folded, np.asarray(tables, np.float32), inputs * np.float32([1, 0.1])[:, None, None]


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stderr.strip() or f"code {done.returncode}").splitlines()[-1]
        raise WrongResult(f"{Path(command[0]).name}: {words}")
    return done.stdout
