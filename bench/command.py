"""The command behind ``python -m bench.cpu``; docs/benchmarks.md explains what it prints."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import lreorg_fast as lf
from bench import machine
from bench.rounds import Budget
from bench.run import Run
from bench.variants import choose
from lreorg_fast.errors import LReorgError

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None, config: lf.CDFNetConfig | None = None) -> int:
    """Run the command; ``config`` replaces ``cdfnet-base`` (for tests). Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="lreorg-bench-") as folder:
            run = Run(
                config=config or lf.CDFNetConfig(),
                variants=choose(options.variants),
                faces=options.faces,
                budget=Budget(options.rounds, options.seconds),
                threads=options.threads,
                folder=Path(folder),
                output=options.output,
            )
            run.everything()
    except LReorgError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured so far is in the output files", file=sys.stderr)
        return 130
    print(run.markdown())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cpu",
        description="Time reorganize-default on cdfnet-base: this engine, its peers, the floor.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--faces", type=_counts, default="1,2,4,8,16,64,256", help="numbers of faces per call")
    add("--variants", type=_names, default="*", help="names, patterns (engine-*), or !left-out-*")
    add("--rounds", type=_positive, default=9, help="turns of each variant, at most")
    add("--seconds", type=float, default=30.0, help="of timed calls per number of faces")
    add("--threads", type=_positive, default=machine.usable_cores(), help="per variant")
    add(
        "--output",
        type=Path,
        default=RESULTS / "cpu",
        help="where OUTPUT.json and OUTPUT.md go; older ones are replaced",
    )
    return parser


def _counts(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
