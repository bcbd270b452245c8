"""Stage ``exchange``: the native probes of exchanges and of weight streams."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from bench.gpu.build import PROBES
from bench.gpu.channel import Channel, Context, WrongResult

_SECONDS = 30.0


def measure(context: Context, channel: Channel) -> None:
    """Keep each probe's lines under its name."""
    for name in PROBES:
        with channel.step(name, _SECONDS):
            rows = lines([str(context.work / name)])
            channel.keep(name, value=rows)
            check(name, rows)


def check(name: str, rows: list[dict[str, Any]]) -> None:
    """Raises WrongResult where what was exchanged or streamed was not what was sent."""
    wrong = [row for row in rows if row.get("wrong")]
    if wrong:
        raise WrongResult(f"{name}: {len(wrong)} of {len(rows)} rows are wrong, such as {wrong[0]}")


def lines(command: list[str]) -> list[dict[str, Any]]:
    """The lines of JSON that a program prints.

    Raises:
        RuntimeError: it ended with an error.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout, done.stderr, sep="", flush=True)
    if done.returncode != 0:
        words = (done.stderr.strip() or f"code {done.returncode}").splitlines()[-1]
        raise RuntimeError(f"{Path(command[0]).name}: {words}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
