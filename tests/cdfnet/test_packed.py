"""The packed format, version 2: read here by its description in kernels/packing.h alone."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lreorg_fast as lf
from lreorg_fast import _native
from lreorg_fast.cdfnet.folding import fold

Array = np.ndarray[Any, Any]

CONFIG = {"dim": 6, "cond_dim": 3, "num_blocks": 2, "growth": 5, "clamp": 2.0}
DTYPES = ("float32", "bfloat16", "int8")
PANEL, GROUP = 16, 32
HEADER = "<8sIIIIIIfIIIQQ"
# Of one element, and how many neighbouring inputs of a column lie side by side.
FORMATS = {"float32": ("<f4", 1), "bfloat16": ("<u2", 2), "int8": ("u1", 4)}


def random_tensors(shape: dict[str, Any], seed: int = 0) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {
        name: generator.standard_normal((outputs, inputs) if inputs else outputs)
        for name, outputs, inputs in tensor_shapes(shape)
    }


def pack(tensors: dict[str, Array], dtype: Any, shape: dict[str, Any] = CONFIG) -> bytes:
    return _native.PackedWeights.pack(**shape, dtype=dtype, tensors=tensors).to_bytes()


def tensor_shapes(shape: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """(name, outputs, inputs) in the order of the payload; vectors have no inputs."""
    dim, growth, hidden = shape["dim"], shape["growth"], 4 * shape["growth"]
    roles = ("add", "scale", "shift")
    for block in range(shape["num_blocks"]):
        yield from ((f"blocks.{block}.condition.{role}", dim, dim) for role in roles)
        for role in roles:
            dense = f"blocks.{block}.dense.{role}"
            yield f"{dense}.hidden", hidden, dim
            yield f"{dense}.hidden_bias", hidden, 0
            yield f"{dense}.direct", dim, dim
            yield f"{dense}.output_bias", dim, 0
            yield from ((f"{dense}.chain.{i}", growth, i * growth) for i in (1, 2, 3))
            yield f"{dense}.output", dim, hidden


class Reader:
    """Takes tensors off a payload in order; what pads them must be neutral."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 64

    def take(self, dtype: str, count: int) -> Array:
        array = np.frombuffer(self._data, dtype, count, self.at)
        self.at += array.nbytes
        return array

    def finish(self) -> None:
        end = -(-self.at // 64) * 64
        assert not any(self._data[self.at : end])
        self.at = end

    def vector(self, outputs: int) -> Array:
        values = self.take("<f4", outputs)
        self.finish()
        return values

    def matrix(self, dtype: str, outputs: int, inputs: int) -> Array:
        element, together = FORMATS[dtype]
        panels = -(-outputs // PANEL)
        depth = -(-inputs // GROUP) * GROUP
        raw = self.take(element, panels * depth * PANEL)
        words = raw.reshape(panels, depth // together, PANEL, together)
        values = words.transpose(0, 2, 1, 3).reshape(panels * PANEL, depth)
        scales = self.take("<f4", panels * PANEL) if dtype == "int8" else None
        self.finish()
        neutral = 128 if dtype == "int8" else 0
        assert (values[outputs:] == neutral).all()
        assert (values[:, inputs:] == neutral).all()
        values = values[:outputs, :inputs]
        if dtype == "bfloat16":
            return (values.astype("<u4") << 16).view("<f4")
        if scales is not None:
            assert not scales[outputs:].any()
            return scales[:outputs, None].astype(np.float64) * (values.astype(np.float64) - 128)
        return values


def read(data: bytes, dtype: str, shape: dict[str, Any] = CONFIG) -> dict[str, Array]:
    reader = Reader(data)
    tensors = {
        name: reader.matrix(dtype, outputs, inputs) if inputs else reader.vector(outputs)
        for name, outputs, inputs in tensor_shapes(shape)
    }
    assert reader.at == len(data)
    return tensors


def rounded(values: Array, dtype: str) -> Array:
    """What the format may keep of a matrix: the nearest value, of two the even one."""
    if dtype == "float32":
        return values.astype(np.float32)
    if dtype == "bfloat16":
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.rint(mantissa * 2**8), exponent - 8)
    scale = np.float32(abs(values).max(axis=1) / 127).astype(np.float64)[:, None]
    whole = np.rint(np.divide(values, scale, out=np.zeros_like(values), where=scale > 0))
    return scale * np.clip(whole, -127, 127)


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def packed(dtype: str) -> bytes:
    return pack(random_tensors(CONFIG), dtype)


def test_the_header_describes_the_weights(packed: bytes, dtype: str) -> None:
    fields = struct.unpack(HEADER, packed[:64])
    shape = (6, 3, 2, 5, 2.0)
    assert fields[:11] == (b"LREORGPK", 2, 64, *shape, DTYPES.index(dtype), PANEL, GROUP)
    assert fields[11] == len(packed) - 64


def test_bytes_survive_a_round_trip(packed: bytes, dtype: str) -> None:
    again = _native.PackedWeights.from_bytes(packed)
    assert again.to_bytes() == packed
    assert again.nbytes == len(packed)
    assert again.dtype == dtype


def test_a_folded_network_has_these_tensors() -> None:
    folded = fold(lf.CDFNet(lf.CDFNetConfig.from_dict(CONFIG))).tensors()
    shapes = {n: (o, i) if i else (o,) for n, o, i in tensor_shapes(CONFIG)}
    assert {name: array.shape for name, array in folded.items()} == shapes


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    dim=st.integers(1, 40), blocks=st.integers(1, 2), growth=st.integers(1, 20), seed=st.integers(0)
)
def test_every_tensor_is_where_the_format_says(
    dtype: str, dim: int, blocks: int, growth: int, seed: int
) -> None:
    shape = CONFIG | {"dim": dim, "num_blocks": blocks, "growth": growth}
    tensors = random_tensors(shape, seed)
    for name, made in read(pack(tensors, dtype, shape), dtype, shape).items():
        kind = "float32" if tensors[name].ndim == 1 else dtype
        np.testing.assert_array_equal(made, rounded(tensors[name], kind), err_msg=name)


def test_bfloat16_is_rounded_once_to_the_nearest_even() -> None:
    # Half way between two bfloat16 and a little more: float32 first would lose the little.
    values = [1 + 2**-8, 1 + 2**-8 + 2**-40, 1 + 3 * 2**-8, -(1 + 2**-8), 2**-20, 0]
    tensors = random_tensors(CONFIG) | {"blocks.0.condition.add": np.diag(values)}
    made = read(pack(tensors, "bfloat16"), "bfloat16")["blocks.0.condition.add"]
    np.testing.assert_array_equal(np.diag(made), [1, 1 + 2**-7, 1 + 2**-6, -1, 2**-20, 0])


def test_int8_has_a_scale_per_output_and_rounds_to_the_nearest_even() -> None:
    row = np.array([127, 0.5, 1.5, -0.5, -1.5, 126.5])
    matrix = np.outer([1, -1, 2**-10, 3, 0, 1e-300], row)
    tensors = random_tensors(CONFIG) | {"blocks.1.condition.shift": matrix}
    made = read(pack(tensors, "int8"), "int8")["blocks.1.condition.shift"]
    np.testing.assert_array_equal(made, np.outer([1, -1, 2**-10, 3, 0, 0], [127, 0, 2, 0, -2, 126]))


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        (0, "magic"),
        (8, r"version \d+ is unknown; this build reads version 2"),
        (12, "header"),
        (36, "weight type"),
        (40, "panel"),
        (44, "group"),
        (48, "truncated or too long"),
        (56, "checksum"),
    ],
)
def test_a_damaged_header_is_named(packed: bytes, offset: int, message: str) -> None:
    damaged = bytearray(packed)
    damaged[offset] ^= 0x7F
    with pytest.raises(ValueError, match=message):
        _native.PackedWeights.from_bytes(bytes(damaged))


@pytest.mark.parametrize("field", range(16, 36, 4))
@pytest.mark.parametrize("bit", [7, 14, 15, 30])
def test_damage_that_asks_for_much_memory_is_found_before(
    packed: bytes, field: int, bit: int
) -> None:
    damaged = bytearray(packed)
    damaged[field + bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="checksum"):
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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("blocks.1.dense.shift.chain.3", None, "it is missing"),
        ("blocks.0.condition.add", np.zeros((6, 5)), "6 x 5 but must be 6 x 6"),
        ("blocks.0.condition.add", np.full((6, 6), np.nan), "not finite"),
        ("blocks.0.dense.add.hidden_bias", np.full(20, np.inf), "not finite"),
        ("blocks.0.dense.add.hidden_bias", np.full(20, 1e39), "does not fit float32"),
        ("blocks.0.dense.scale.output_bias", np.zeros((6, 1)), "6 x 1 but must be 6 x 0"),
        ("blocks.0.dense.scale.output_bias", np.zeros((2, 3, 4)), "a vector or a matrix"),
        ("blocks.0.dense.scale.output_bias", np.array(1.0), "a vector or a matrix"),
    ],
)
def test_packing_refuses(dtype: str, name: str, value: Array | None, message: str) -> None:
    tensors = {n: x for n, x in (random_tensors(CONFIG) | {name: value}).items() if x is not None}
    with pytest.raises(ValueError, match=rf"^{name}: .*{message}"):
        pack(tensors, dtype)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("int8", "float32")],  # the scale of int8
)
def test_packing_refuses_what_overflows(dtype: str, message: str) -> None:
    tensors = random_tensors(CONFIG) | {"blocks.0.condition.scale": np.full((6, 6), 1e42)}
    with pytest.raises(ValueError, match=rf"condition\.scale: .*does not fit {message}"):
        pack(tensors, dtype)


def test_packing_refuses_unknown_types_and_shapes() -> None:
    with pytest.raises(ValueError, match="'int4' is unknown; use float32, bfloat16 or int8"):
        pack({}, "int4")
    for field in ("dim", "cond_dim", "num_blocks", "growth"):
        with pytest.raises(ValueError, match=f"{field} is 0; allowed are 1 to 65536"):
            pack({}, "float32", CONFIG | {field: 0})
    with pytest.raises(ValueError, match=r"clamp is .*above 0"):
        pack({}, "float32", CONFIG | {"clamp": float("nan")})
