"""The native module below the engine: the packed format, programs and every kernel variant."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lreorg_fast as lf
from lreorg_fast import _native
from lreorg_fast.cdfnet.backends import native_program
from lreorg_fast.cdfnet.folding import fold
from tolerances import tolerance

CONFIG = {"dim": 6, "cond_dim": 3, "num_blocks": 2, "growth": 5, "clamp": 2.0}


def pack(net: Any, dtype: str) -> Any:
    return _native.PackedWeights.pack(
        **net.config.to_dict(), dtype=dtype, tensors=fold(net).tensors()
    )


@pytest.fixture(scope="module")
def packed() -> bytes:
    net = lf.CDFNet(lf.CDFNetConfig.from_dict(CONFIG))
    data: bytes = pack(net, "bfloat16").to_bytes()
    return data


def test_the_header_describes_the_weights(packed: bytes) -> None:
    fields = struct.unpack("<8sIIIIIIfIIIQQ", packed[:64])
    assert fields[:11] == (b"LREORGPK", 1, 64, 6, 3, 2, 5, 2.0, 1, 16, 0)
    assert fields[11] == len(packed) - 64


def test_bytes_survive_a_round_trip(packed: bytes) -> None:
    again = _native.PackedWeights.from_bytes(packed)
    assert again.to_bytes() == packed
    assert again.nbytes == len(packed)
    assert again.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("offset", "message"),
    [(0, "magic"), (8, "version"), (12, "header"), (36, "weight type"), (40, "panel"), (44, "sum")],
)
def test_a_damaged_header_is_named(packed: bytes, offset: int, message: str) -> None:
    damaged = bytearray(packed)
    damaged[offset] ^= 0x7F
    with pytest.raises(ValueError, match=message):
        _native.PackedWeights.from_bytes(bytes(damaged))


@given(st.data())
def test_any_damage_is_found(packed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(packed)
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match=r"packed weights|must be finite|allowed are"):
        _native.PackedWeights.from_bytes(bytes(damaged))


@given(st.data())
def test_any_truncation_is_found(packed: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(ValueError, match="packed weights"):
        _native.PackedWeights.from_bytes(packed[:length])
    with pytest.raises(ValueError, match="too long"):
        _native.PackedWeights.from_bytes(packed + b"\0")


def test_weights_are_rounded_once_to_the_nearest_even() -> None:
    config = lf.CDFNetConfig.from_dict(CONFIG)
    tensors = fold(lf.CDFNet(config)).tensors()
    # Half way between two bfloat16 and a little more: float32 first would lose the little.
    values = np.array([1 + 2**-8, 1 + 2**-8 + 2**-40, 1 + 3 * 2**-8, -(1 + 2**-8), 2**-20 / 3, 0])
    tensors["blocks.0.condition_add"] = np.diag(values)
    data = _native.PackedWeights.pack(**CONFIG, dtype="bfloat16", tensors=tensors).to_bytes()
    panel = np.frombuffer(data, "<u2", count=6 * 16, offset=64).reshape(6, 16)
    made = (panel.astype("<u4") << 16).view("<f4")
    expected = [1, 1 + 2**-7, 1 + 2**-6, -1, float(torch.tensor(2**-20 / 3).bfloat16()), 0]
    np.testing.assert_array_equal(np.diag(made), expected)
    assert not made[:, 6:].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.1.dense_add.wide": None}, r"blocks\.1\.dense_add\.wide: it is missing"),
        ({"blocks.0.condition_add": np.zeros((6, 5))}, "6 x 5 but must be 6 x 6"),
        ({"blocks.0.condition_add": np.full((6, 6), np.nan)}, "does not fit bfloat16"),
        ({"blocks.0.condition_add": np.full((6, 6), 1e39)}, "does not fit bfloat16"),
        ({"blocks.0.dense_add.bias": np.full(26, 1e39)}, "does not fit float32"),
        ({"blocks.0.dense_add.bias": np.zeros((2, 3, 4))}, "a vector or a matrix"),
    ],
)
def test_packing_refuses(change: dict[str, Any], message: str) -> None:
    tensors = fold(lf.CDFNet(lf.CDFNetConfig.from_dict(CONFIG))).tensors() | change
    tensors = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        _native.PackedWeights.pack(**CONFIG, dtype="bfloat16", tensors=tensors)


def test_packing_refuses_unknown_types_and_shapes() -> None:
    with pytest.raises(ValueError, match="use float32 or bfloat16"):
        _native.PackedWeights.pack(**CONFIG, dtype="int4", tensors={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="growth is 0"):
        _native.PackedWeights.pack(**CONFIG | {"growth": 0}, dtype="float32", tensors={})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernels", _native.build_config()["cpu_kernels"])
@pytest.mark.parametrize("tokens", [1, 6, 14, 18])
def test_every_kernel_variant_agrees(small: Any, kernels: str, dtype: str, tokens: int) -> None:
    folded, names = fold(small.net), list(small.keywords)
    tables = np.stack([folded.keywords.table(k.numpy()) for k in small.keywords.values()])
    plan = lf.plan(hide=names[:1], keep=names[1:])
    program = native_program(plan, {name: i for i, name in enumerate(names)})
    s = np.float32(np.resize(small.latent.numpy(), (tokens, 64)))
    inputs = [s, np.zeros_like(s)]
    results = [
        _native.Executor(pack(small.net, dtype), np.float32(tables), kernels=choice).run(
            program, inputs
        )[0]
        for choice in (kernels, "generic")
    ]
    np.testing.assert_allclose(*results, rtol=0, atol=tolerance("cdfnet engine", "float32"))


def test_generic_kernels_are_always_there() -> None:
    assert _native.build_config()["cpu_kernels"][-1] == "generic"


@pytest.mark.parametrize("x", [-1e4, -88.0, -20.0, -1.0, 0.0, 1.0, 20.0, 88.0, 1e4])
@pytest.mark.parametrize("kernels", _native.build_config()["cpu_kernels"])
def test_the_coupling_saturates_at_the_clamp(kernels: str, x: float) -> None:
    """A network that only scales: stream 2 is multiplied by e(x) and divided by it again."""
    shape = {"dim": 1, "cond_dim": 1, "num_blocks": 1, "growth": 1, "clamp": 2.0}
    tensors = fold(lf.CDFNet(lf.CDFNetConfig.from_dict(shape))).tensors()
    weights = _native.PackedWeights.pack(**shape, dtype="float32", tensors=tensors)
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


def test_runs_are_checked(packed: bytes) -> None:
    weights = _native.PackedWeights.from_bytes(packed)
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
