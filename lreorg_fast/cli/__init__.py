"""The command ``lreorg``: arguments in, words out. What it does is in other rooms (docs/cli.md).

Nothing here imports torch before a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

from lreorg_fast.cli.app import main

__all__ = ["main"]
