"""Stage ``rates``: how fast PyTorch multiplies and copies on this device, two of the floors."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from bench.gpu.channel import Channel, Context
from bench.gpu.timing import WARM, Clock, Times

_CALLS = 12
_WARM_UP = 3
_COPY_BYTES = 4 << 30
_DTYPES = ("bfloat16", "float16", "float32")


def measure(context: Context, channel: Channel) -> None:
    """Keep ``matrix`` (FLOP/s by dtype and shape) and ``copy`` (bytes/s, reads plus writes)."""
    clock = Clock(context.device, 1 << 20)
    small = context.device == "cpu"
    # A large square, and the products of 256 faces: rows x dim x the stacked outputs.
    shapes = [(64, 64, 64)] if small else [(8192, 8192, 8192), (3584, 512, 1024)]
    for dtype in _DTYPES:
        for shape in shapes:
            name = f"{dtype} {'x'.join(map(str, shape))}"
            rate = channel.attempt(name, 20, lambda d=dtype, s=shape: matrix(clock, context, d, s))
            if rate is not None:
                channel.keep("matrix", name, value=rate)
    size = 1 << 16 if small else _COPY_BYTES
    rate = channel.attempt("copy", 20, lambda: copy(clock, context, size))
    if rate is not None:
        channel.keep("copy", value=rate)


def matrix(
    clock: Clock, context: Context, dtype: str, shape: tuple[int, int, int]
) -> dict[str, Any]:
    """FLOP/s of torch.matmul of random (m x k) with (k x n)."""
    m, k, n = shape
    a, b = (
        torch.randn(size, device=context.device).to(getattr(torch, dtype))
        for size in ((m, k), (k, n))
    )
    seconds = _seconds(clock, lambda: torch.matmul(a, b))
    return {"flops": 2 * m * k * n / seconds, "seconds": seconds}


def copy(clock: Clock, context: Context, size: int) -> dict[str, Any]:
    """Bytes/s of a copy of ``size`` random bytes on the device, each read and written once."""
    source = torch.randint(256, (size,), dtype=torch.uint8, device=context.device)
    target = torch.empty_like(source)
    seconds = _seconds(clock, lambda: target.copy_(source))
    return {"bytes_per_second": 2 * size / seconds, "bytes": size, "seconds": seconds}


def _seconds(clock: Clock, call: Any) -> float:
    for _ in range(_WARM_UP):
        call()
    times = Times()
    for _ in range(_CALLS):
        clock.once(call, WARM, times)
    return statistics.median(times.device)
