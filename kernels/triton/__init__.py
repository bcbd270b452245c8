"""Triton kernels of the coupling blocks, for large batches and for training.

``launch.py`` has the calls; it is imported where kernels run, so that this package can say why they
cannot. Imports torch and triton only. On CPU tensors the kernels run in Triton's interpreter if
``TRITON_INTERPRET=1`` was set before ``launch`` was imported.
"""

from __future__ import annotations

import os


def unavailable() -> str | None:
    """None where the kernels can run, else the reason, in words that end a sentence."""
    # In this order, as looking for a device does not import triton.
    return _no_device() or missing()


def missing() -> str | None:
    """None where triton can be imported, else what is wrong and the remedy."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"triton does not load ({error}); install it with 'pip install triton'"
    return None


def _no_device() -> str | None:
    import torch

    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return "no CUDA device"
