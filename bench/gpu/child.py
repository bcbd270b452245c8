"""The process of one stage: ``main`` reads its orders from a file and answers through a pipe."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.gpu.channel import Channel, Context, Unavailable

Target = Callable[[Context, Channel], None]


def main() -> None:
    """``sys.argv``: the file of orders, the number of the pipe's end."""
    orders, end = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    # Otherwise a compiler or tool that this process starts keeps the pipe open after its death.
    os.set_inheritable(end, False)
    with os.fdopen(end, "w") as stream:
        channel = Channel(stream, orders["failed"])
        try:
            target(orders["target"])(_context(orders["context"]), channel)
        except Unavailable as error:
            channel.unavailable(str(error))


def target(name: str) -> Target:
    """The function that "package.module:function" names."""
    module, function = name.split(":")
    found: Target = getattr(importlib.import_module(module), function)
    return found


def _context(fields: Mapping[str, Any]) -> Context:
    paths = {name: Path(fields[name]) for name in ("root", "work")}
    return Context(**{**fields, **paths})
