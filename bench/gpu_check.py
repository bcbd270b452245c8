"""``python bench/gpu_check.py``: build, check and time everything that runs on this GPU.

One command for one short session on a GPU machine; docs/gpu.md says what it writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts this file's folder first, whose modules would hide others of the same names.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from bench.gpu.command import main

    sys.exit(main())
