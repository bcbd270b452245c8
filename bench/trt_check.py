"""``python bench/trt_check.py``: build, check and time TensorRT engines on this machine's GPU.

One command for one short session on a GPU machine with TensorRT; docs/tensorrt.md says what it
writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts this file's folder first, whose modules would hide others of the same names.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from bench.gpu.command import main
    from bench.trt.suite import TRT_CHECK

    sys.exit(main(suite=TRT_CHECK))
