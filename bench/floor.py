"""The floor: how fast this machine could be, from its measured memory and arithmetic rates.

A call reads all weights once per dependent step and multiplies every one with every row of every
pass, so no engine with these weights is faster than

    max(steps x bytes of weights / bandwidth,  2 x weights x rows x passes / rate).

``native/floor.cpp`` measures both rates with nothing of the engine in it.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import TOKENS
from lreorg_fast.errors import LReorgError

SOURCE = Path(__file__).parent / "native" / "floor.cpp"

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
# By what products read: instructions that multiply it without losing digits, any of them.
INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "float32": ("fma-256", "fma-512"),
    "bfloat16": ("vdpbf16ps", "tdpbf16ps"),
    "int8": ("vpdpbusd", "tdpbssd"),
}
HEADLINE_BYTES = 64 << 20
_HUGE_PAGE = 2 << 20


class FloorUnavailable(LReorgError):
    """The probe cannot be built or run here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one reorganization must do.

    Attributes:
        weights: matrix elements of one dependent step.
        steps: dependent steps; each reads all weights.
        passes: passes; each multiplies all weights with the rows of the case.
    """

    weights: int
    steps: int
    passes: int

    def bytes_read(self, dtype: str) -> int:
        return self.weights * WEIGHT_BYTES[dtype] * self.steps

    def operations(self, faces: int) -> int:
        return 2 * self.weights * self.passes * faces * TOKENS


@dataclasses.dataclass(frozen=True)
class Probe:
    """One thing that is measured: the arguments of the probe but for the threads."""

    what: str  # "read" or "rate"
    of: str  # bytes, or an instruction

    @classmethod
    def all(cls, weights: int) -> list[Probe]:
        """Reading 64 MiB, reading as much as the weights of each type, every instruction."""
        sizes = {HEADLINE_BYTES, *(weights * each for each in WEIGHT_BYTES.values())}
        reads = [cls("read", str(size)) for size in sorted(sizes)]
        return reads + [cls("rate", i) for names in INSTRUCTIONS.values() for i in names]


class Floor:
    """Measures a machine's rates and keeps every sample.

    Args:
        folder: an existing folder for the probe's binary.
        threads: how many threads "all" means.
        work: the work whose floor is wanted.

    Raises:
        FloorUnavailable: there is no compiler, or it refuses the probe.
    """

    def __init__(self, folder: Path, threads: int, work: Work) -> None:
        self.work = work
        self.threads = threads
        self.compiler = _compiler()
        self._program = folder / "floor"
        self._run([self.compiler, "-std=c++17", "-O2", "-pthread", SOURCE, "-o", self._program])
        self.samples: dict[tuple[Probe, int], list[float]] = {}

    def sample(self) -> None:
        """Measure everything once more, about two seconds."""
        for threads in sorted({1, self.threads}):
            for probe in Probe.all(self.work.weights):
                printed = self._run([self._program, probe.what, probe.of, str(threads)]).strip()
                if printed != "unsupported":
                    self.samples.setdefault((probe, threads), []).append(float(printed))

    def bandwidth(self, size: int, threads: int) -> float:
        """GB/s of reading ``size`` bytes again and again: the best sample of the run."""
        return max(self.samples[Probe("read", str(size)), threads])

    def rate(self, operands: str, threads: int) -> float | None:
        """1e9 operations a second on such operands; None where no instruction takes them."""
        found = [
            max(samples)
            for (probe, count), samples in self.samples.items()
            if probe.of in INSTRUCTIONS[operands] and count == threads
        ]
        return max(found, default=None)

    def best_rate(self, operands: str, threads: int) -> float:
        """As :meth:`rate`; where no instruction takes them they are multiplied as float32."""
        rate = self.rate(operands, threads) or self.rate("float32", threads)
        assert rate is not None, "every x86-64 with AVX2 multiplies float32"
        return rate

    def memory_seconds(self, dtype: str) -> float:
        """The least time for reading the weights, whatever the number of faces."""
        size = self.work.weights * WEIGHT_BYTES[dtype]
        return self.work.bytes_read(dtype) / (1e9 * self.bandwidth(size, self.threads))

    def compute_seconds(self, operands: str, faces: int) -> float:
        """The least time for the products, with operands of the type that products read."""
        return self.work.operations(faces) / (1e9 * self.best_rate(operands, self.threads))

    def seconds(self, dtype: str, operands: str, faces: int) -> float:
        """The floor of one call."""
        return max(self.memory_seconds(dtype), self.compute_seconds(operands, faces))

    def to_dict(self) -> dict[str, Any]:
        return {
            "compiler": self.compiler,
            "threads": self.threads,
            **dataclasses.asdict(self.work),
            "samples": [
                {**dataclasses.asdict(probe), "threads": threads, "values": values}
                for (probe, threads), values in self.samples.items()
            ],
        }

    def _run(self, command: Sequence[str | Path]) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except OSError as error:
            raise FloorUnavailable(f"cannot run {command[0]}: {error.strerror}.") from error
        except subprocess.CalledProcessError as error:
            words = error.stderr.strip().splitlines() or ["no message"]
            raise FloorUnavailable(f"{command[0]} failed: {words[0]}") from error
        return done.stdout


def _compiler() -> str:
    asked = os.environ.get("CXX")
    for name in [asked] if asked else ["c++", "g++", "clang++"]:
        found = shutil.which(name)
        if found is not None:
            return found
    raise FloorUnavailable(
        f"no C++ compiler was found ({asked or 'c++, g++, clang++'}); install one or set CXX."
    )
