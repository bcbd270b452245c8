"""Tables of the reports, and the two files that a measurement leaves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lreorg_fast.files import atomic_file


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every row has as many cells as there are heads."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_results(path: Path, data: Any, text: str) -> None:
    """``path.json`` with the data and ``path.md`` with the text, each whole or not at all."""
    for ending, content in ((".json", json.dumps(data, indent=1) + "\n"), (".md", text)):
        with atomic_file(path.with_suffix(ending), overwrite=True) as file:
            file.write(content.encode())
