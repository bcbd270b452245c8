"""The native engine and the reference network at 1, 8 and 64 faces, for pytest-benchmark.

``pytest bench/test_engine.py`` prints medians and spreads; nothing here asserts a time. Every
variant is compared with the float64 reference in the run that times it. The comparison with other
libraries is ``python -m bench.cpu``.
"""

from __future__ import annotations

import copy
import functools
import platform
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import TOKENS, cases
from tolerances import tolerance

ROUNDS = 7


@pytest.mark.parametrize("faces", [1, 8, 64])
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [*(("cpu", dtype) for dtype in cases.offered_dtypes("cpu")), ("reference", "float32")],
)
def test_default_reorganization(benchmark: Any, backend: str, dtype: str, faces: int) -> None:
    s, f = cases.inputs(faces)
    runner = cases.engine(backend, dtype)
    benchmark.group = f"reorganize-default, {faces} face(s) of {TOKENS} tokens"
    benchmark.extra_info.update(
        runner.build_info(), torch=torch.__version__, machine=platform.processor()
    )
    made = benchmark.pedantic(
        runner.reorganize, (s, {cases.HIDE: f}, cases.KEEP), rounds=ROUNDS, warmup_rounds=1
    )
    check(made - cases.expected(faces), dtype, runner.build_info()["activations"])


def check(error: Tensor, dtype: str, activations: str) -> None:
    """As tests/cdfnet judges it: types that round, by the error of plain bfloat16 PyTorch."""
    if dtype == "float32":
        assert float(error.abs().max()) < tolerance("cdfnet engine", dtype)
    else:
        how = "exact" if activations == "float32" else "rounded"
        limit = tolerance(f"cdfnet {how} activations ratio to plain bfloat16 PyTorch", dtype)
        assert rms(error) < limit * plain_bfloat16_error()


@functools.cache
def plain_bfloat16_error() -> float:
    """RMS error of the reference network run as users would in bfloat16 PyTorch."""
    net, keywords = cases.network()
    half = {name: k.bfloat16() for name, k in keywords.items()}
    s, f = (x.bfloat16() for x in cases.inputs(1))
    own = copy.deepcopy(net).bfloat16()
    with torch.no_grad():
        made = own.reorganize(s, half, {cases.HIDE: f}, cases.KEEP)
    return rms(made - cases.expected(1))


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
