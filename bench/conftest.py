"""Lets ``pytest bench`` import this folder, which is no part of the installed package."""

from __future__ import annotations

import sys
from pathlib import Path

# Last, so that an installed lreorg_fast comes before the one beside this folder.
sys.path.append(str(Path(__file__).parents[1]))
