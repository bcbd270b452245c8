"""The ``triton`` backend: throughput kernels, imported when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from lreorg_fast.cdfnet.backends.base import Precision, Runner
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.errors import BackendUnavailable


def unavailable() -> str | None:
    """Why Triton kernels cannot run, or None."""
    try:
        # mypy does not see kernels/, which is part of the package when it is installed.
        from lreorg_fast.kernels.triton import unavailable as reason  # type: ignore[import-not-found]
    except ImportError as error:
        return f"the Triton kernels do not load ({error}); reinstall with 'pip install .'"
    return cast("str | None", reason())


def build(net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision) -> Runner:
    """The runner of lreorg_fast/cdfnet/triton_runner.py, on the network's device.

    Raises:
        BackendUnavailable: the network is not on a CUDA device, and kernels are not interpreted.
    """
    device = next(net.parameters()).device
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise BackendUnavailable(
            f"backend 'triton' runs where the network is, which is {device}; move it with .cuda()."
        )
    from lreorg_fast.cdfnet.triton_runner import TritonRunner

    return TritonRunner.build(net, keywords, precision)
