"""The native module below the engine: programs, runs, and the coupling of every variant."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import lreorg_fast as lf
from lreorg_fast import _native
from lreorg_fast.cdfnet.folding import fold

VARIANTS = _native.build_config()["cpu_kernels"]


def pack(config: lf.CDFNetConfig, dtype: Any) -> Any:
    """A fresh network: all that changes a stream are the keywords' constants."""
    return _native.PackedWeights.pack(
        **config.to_dict(), dtype=dtype, tensors=fold(lf.CDFNet(config)).tensors()
    )


def test_generic_kernels_are_always_there() -> None:
    assert VARIANTS[-1] == "generic"


@pytest.mark.parametrize("x", [-1e4, -88.0, -20.0, -1.0, 0.0, 1.0, 20.0, 88.0, 1e4])
@pytest.mark.parametrize("kernels", VARIANTS)
def test_the_coupling_saturates_at_the_clamp(kernels: str, x: float) -> None:
    """A network that only scales: stream 2 is multiplied by e(x) and divided by it again."""
    weights = pack(lf.CDFNetConfig(dim=1, cond_dim=1, num_blocks=1, growth=1), "float32")
    constants = np.array([[[[0], [x], [0]]]], dtype=np.float32)
    executor = _native.Executor(weights, constants, kernels=kernels)
    ones = np.ones((3, 1), dtype=np.float32)
    disentangle = _native.Program(
        num_inputs=1, steps=[("disentangle", [(0, -1, 0, 1, 2)])], outputs=[2]
    )
    fuse = _native.Program(num_inputs=2, steps=[("fuse", [(0, 0, 1, 2, 3)])], outputs=[3])
    (scaled,) = executor.run(disentangle, [ones])
    (back,) = executor.run(fuse, [np.zeros_like(ones), scaled])
    np.testing.assert_allclose(scaled, np.exp(2 * np.tanh(x / 2)), rtol=1e-6)
    np.testing.assert_allclose(back, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inputs": 0, "steps": [], "outputs": []}, "at least one input"),
        ({"steps": [("disentangle", [])]}, "no lane"),
        ({"steps": [("sideways", [(0, -1, 0, 1, 2)])]}, "sideways"),
        ({"steps": [("disentangle", [(-1, -1, 0, 1, 2)])]}, "keyword index"),
        ({"steps": [("disentangle", [(0, -1, 1, 1, 2)])]}, "stream 2 is not known"),
        ({"steps": [("fuse", [(0, 5, 0, 1, 2)])]}, "stream 1 is not known"),
        ({"steps": [("disentangle", [(0, -1, -1, 1, 2)])]}, "stream 2 is not known"),
        ({"steps": [("disentangle", [(0, -1, 0, 2, 1)])]}, "numbered in order"),
        ({"steps": [("disentangle", [(0, -1, 0, -1, -1)])]}, "no result"),
        ({"steps": [], "outputs": [1]}, "not a value"),
    ],
)
def test_programs_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _native.Program(**{"num_inputs": 1, "outputs": []} | arguments)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("kernels", VARIANTS)
def test_exact_means_float32_activations(kernels: str, dtype: str) -> None:
    weights = pack(lf.CDFNetConfig(dim=5, cond_dim=1, num_blocks=1, growth=1), dtype)
    constants = np.zeros((1, 1, 3, 5), dtype=np.float32)
    fast = _native.Executor(weights, constants, kernels=kernels)
    exact = _native.Executor(weights, constants, kernels=kernels, exact=True)
    assert exact.activations == "float32"
    assert fast.activations in {"float32": ["float32"]}.get(dtype, ["float32", "bfloat16", "int8"])
    assert fast.kernels == exact.kernels == kernels


def test_auto_takes_the_first_variant() -> None:
    weights = pack(lf.CDFNetConfig(dim=5, cond_dim=1, num_blocks=1, growth=1), "int8")
    assert _native.Executor(weights, np.zeros((0, 1, 3, 5), np.float32)).kernels == VARIANTS[0]


def test_runs_are_checked() -> None:
    weights = pack(lf.CDFNetConfig(dim=6, cond_dim=3, num_blocks=2, growth=5), "bfloat16")
    constants = np.zeros((1, 2, 3, 6), dtype=np.float32)
    executor = _native.Executor(weights, constants)
    program = _native.Program(num_inputs=1, steps=[], outputs=[0])
    other = _native.Program(num_inputs=1, steps=[("disentangle", [(1, -1, 0, 1, -1)])], outputs=[1])
    good = np.zeros((2, 6), dtype=np.float32)
    with pytest.raises(ValueError, match="number of inputs"):
        executor.run(program, [good, good])
    with pytest.raises(ValueError, match="number of inputs"):
        executor.run(program, [])
    with pytest.raises(ValueError, match=r"\(tokens, dim\)"):
        executor.run(program, [np.zeros((2, 5), dtype=np.float32)])
    with pytest.raises(ValueError, match="keyword that this executor lacks"):
        executor.run(other, [good])
    with pytest.raises(TypeError):
        executor.run(program, [good.astype(np.float64).astype(object)])
    with pytest.raises(TypeError):
        executor.run(program, [good], -1)
    with pytest.raises(ValueError, match="do not fit"):
        _native.Executor(weights, constants[..., :-1])
    with pytest.raises(ValueError, match=re.escape("'sse9' do not run here")):
        _native.Executor(weights, constants, kernels="sse9")


def test_cuda_devices_never_crash() -> None:
    cuda = _native.cuda_devices()
    assert isinstance(cuda["built"], bool)
    assert cuda["devices"] or isinstance(cuda["reason"], str)
    for device in cuda["devices"]:
        assert device["memory_bytes"] > 0
        assert device["multiprocessors"] > 0
