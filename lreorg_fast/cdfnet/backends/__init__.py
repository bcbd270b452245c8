"""What can run a CDFNet: the backends as data, and the runners that they build.

A runner turns a :class:`~lreorg_fast.cdfnet.schedule.Plan` into a function on (tokens, dim)
tensors. ``dtype`` names how weights are stored; streams and sums are float32 (float64 for
"float64"), as spec/kernels.md asks: bfloat16 weights cost accuracy once, not in every block.
"""

from __future__ import annotations

from lreorg_fast.cdfnet.backends.base import BackendInfo as BackendInfo
from lreorg_fast.cdfnet.backends.base import Precision as Precision
from lreorg_fast.cdfnet.backends.base import ReportsFaults as ReportsFaults
from lreorg_fast.cdfnet.backends.base import Run as Run
from lreorg_fast.cdfnet.backends.base import Runner as Runner
from lreorg_fast.cdfnet.backends.cpu import ISA_VARIABLE as ISA_VARIABLE
from lreorg_fast.cdfnet.backends.cpu import native_program as native_program
from lreorg_fast.cdfnet.backends.registry import BACKENDS as BACKENDS
from lreorg_fast.cdfnet.backends.registry import available_backends as available_backends
from lreorg_fast.cdfnet.backends.registry import build as build
