"""How values of options are read that several verbs have."""

from __future__ import annotations

import click


def keyword_names(
    _context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Comma-separated keywords; ``--keep none`` is the empty list."""
    if value is None:
        return None
    if parameter.name == "keep" and value == "none":
        return ()
    return tuple(name.strip() for name in value.split(","))
