from __future__ import annotations

import hashlib
import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.errors import CheckpointError, OutputError
from lreorg_fast.weights import load_into, read_tensors, write_tensors
from lreorg_fast.weights.tensors import DTYPES


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[Any], *offsets: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def example() -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "a.bias": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
        "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "scalar": torch.tensor(7),
        "none": torch.zeros(0, 4),
        "mask": torch.tensor([True, False]),
    }


def assert_same(given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert set(given) == set(wanted)
    for name, value in wanted.items():
        assert given[name].dtype == value.dtype
        assert torch.equal(given[name], value)


def test_round_trip_and_the_library_agree(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_tensors(ours, example(), {"by": "test"})
    safetensors.torch.save_file(example(), theirs)
    for path in (ours, theirs):
        assert_same(read_tensors(path), example())
        assert_same(safetensors.torch.load_file(path), example())


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    """To the byte the library's, which orders more than one line of metadata by chance."""
    tensors = {name: torch.arange(3.0) + ord(name[0]) for name in ("b", "a", "c\u00e9", "d")}
    write_tensors(tmp_path / "ours", tensors, {"by": "test"})
    safetensors.torch.save_file(tensors, tmp_path / "theirs", {"by": "test"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    metadata = {str(n): "x" for n in range(20)}
    write_tensors(tmp_path / "one", tensors, metadata)
    reordered = dict(reversed(list(tensors.items())))
    write_tensors(tmp_path / "two", reordered, dict(reversed(list(metadata.items()))))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=4)),
        max_size=6,
    )
)
def test_every_type_and_shape_comes_back(
    kinds: list[tuple[str, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tensors = {
        str(index): torch.randint(0, 2, shape).to(DTYPES[kind])
        for index, (kind, shape) in enumerate(kinds)
    }
    path = tmp_path_factory.mktemp("kinds") / "a"
    write_tensors(path, tensors)
    assert_same(read_tensors(path), tensors)


def test_views_and_tied_weights_are_written_in_full(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"base": base, "tied": base, "column": base[:, 1], "transposed": base.T}
    write_tensors(tmp_path / "a", tensors)
    assert_same(read_tensors(tmp_path / "a"), tensors)
    assert (tmp_path / "a").stat().st_size < 1000


def test_tensors_own_their_memory(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", example())
    tensors = read_tensors(tmp_path / "a")
    tensors["a.weight"].zero_()
    assert torch.equal(tensors["odd"], example()["odd"])
    assert all(t.data_ptr() % 16 == 0 for t in tensors.values() if t.numel())


def test_an_existing_file_stays(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", example())
    with pytest.raises(OutputError, match="exists already"):
        write_tensors(tmp_path / "a", {})
    write_tensors(tmp_path / "a", {}, overwrite=True)
    assert read_tensors(tmp_path / "a") == {}


def test_types_that_would_not_be_read_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="complex64; convert it"):
        write_tensors(tmp_path / "a", {"w": torch.zeros(2, dtype=torch.complex64)})
    assert os.listdir(tmp_path) == []


def test_expected_tensors(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_tensors(path, example())
    fits = {name: (tuple(value.shape), value.dtype) for name, value in example().items()}
    assert_same(read_tensors(path, fits), example())
    any_type = {name: (shape, None) for name, (shape, _) in fits.items()}
    assert_same(read_tensors(path, any_type), example())
    wrong = {**fits, "more": ((1,), torch.float32), "a.weight": ((3, 2), torch.float32)}
    del wrong["odd"]
    with pytest.raises(CheckpointError) as caught:
        read_tensors(path, wrong)
    assert str(caught.value) == (
        f"'{path}' does not fit the architecture: missing: more; extra: odd; "
        "different: a.weight is [2, 3] float32 and must be [3, 2] float32"
    )


def test_long_lists_of_differences_are_cut(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {f"w{i}": torch.zeros(1) for i in range(40)})
    with pytest.raises(CheckpointError, match=r"and 35 more$"):
        read_tensors(tmp_path / "a", {})


def test_the_digest_is_that_of_the_bytes_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, example())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert_same(read_tensors(path, sha256=digest), example())
    with pytest.raises(CheckpointError, match="changed or damaged"):
        read_tensors(path, sha256="0" * 64)


def test_the_size_limit(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", example())
    size = (tmp_path / "a").stat().st_size
    read_tensors(tmp_path / "a", max_bytes=size)
    with pytest.raises(CheckpointError, match=f"{size} bytes and at most {size - 1}"):
        read_tensors(tmp_path / "a", max_bytes=size - 1)


FOUR = bytes(4)
HOSTILE = {
    "empty": b"",
    "short prefix": b"\x01\x02",
    "html": b"<!DOCTYPE html><title>404 Not Found</title>",
    "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93.",
    "header past the end": raw({}, length=2**20),
    "header of 2^63": raw({}, length=2**63),
    "no header": raw(b""),
    "header is a list": raw([]),
    "header is not UTF-8": raw(b'{"\xff": 1}'),
    "header is not JSON": raw(b"{'a': 1}"),
    "NaN": raw(b'{"a": NaN}'),
    "nested": raw(b'{"a":' * 50_000),
    "brackets": raw(b"[" * 100_000),
    "huge integer": raw(b'{"a": ' + b"9" * 10_000 + b"}"),
    "name twice": raw(
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
        b'"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        FOUR,
    ),
    "metadata": raw({"__metadata__": {"a": 1}}),
    "metadata list": raw({"__metadata__": []}),
    "entry is a number": raw({"a": 4}),
    "field missing": raw({"a": {"dtype": "F32", "shape": [1]}}, FOUR),
    "field unknown": raw({"a": {**entry("F32", [1], 0, 4), "x": 1}}, FOUR),
    "unknown type": raw({"a": entry("F8_E4M3", [4], 0, 4)}, FOUR),
    "type is a list": raw({"a": entry(["F32"], [1], 0, 4)}, FOUR),  # type: ignore[arg-type]
    "claims 40 GB": raw({"a": entry("F32", [10**10], 0, 4 * 10**10)}, FOUR),
    "overflow": raw({"a": entry("F32", [2**32, 2**32], 0, 0)}, FOUR),
    "negative size": raw({"a": entry("F32", [-1], 0, -4)}),
    "negative offset": raw({"a": entry("F32", [1], -4, 0)}, FOUR),
    "reversed offsets": raw({"a": entry("F32", [1], 4, 0)}, FOUR),
    "float size": raw({"a": entry("F32", [1.0], 0, 4)}, FOUR),
    "bool size": raw({"a": entry("F32", [True], 0, 4)}, FOUR),
    "text offsets": raw({"a": entry("F32", [1], "0", "4")}, FOUR),
    "three offsets": raw({"a": entry("F32", [1], 0, 4, 8)}, FOUR),
    "too many axes": raw({"a": entry("F32", [1] * 100, 0, 4)}, FOUR),
    "past the end": raw({"a": entry("F32", [2], 0, 8)}, FOUR),
    "overlap": raw({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, FOUR),
    "partial overlap": raw({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 2, 6)}, bytes(6)),
    "hole": raw({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, bytes(3)),
    "hidden bytes": raw({"a": entry("F32", [1], 0, 4)}, bytes(400)),
    "not a bool": raw({"a": entry("BOOL", [4], 0, 4)}, b"\0\1\2\0"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"hostile\.safetensors"):
            read_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["overlap", "partial overlap", "hole"])
def test_the_layout_is_checked_before_the_data_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(HOSTILE[name])
    with pytest.raises(CheckpointError, match=r"'b' begins at byte \d of the data and not at \d"):
        read_tensors(tmp_path / "a")


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open(path, "wb") as stream:
        stream.write((2**30).to_bytes(8, "little"))
        stream.truncate(2**31)  # sparse: takes no space
    with pytest.raises(CheckpointError, match="its header has 1073741824 bytes"):
        read_tensors(path)


def test_places_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe", "missing", "nul\0"):
        with pytest.raises(CheckpointError, match="cannot read"):
            read_tensors(tmp_path / name)


def test_damaged_files_give_tensors_of_the_same_kind_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, example())
    whole = path.read_bytes()
    generator = random.Random(0)
    for _ in range(500):
        damaged = bytearray(
            whole[: generator.choice([len(whole), generator.randrange(len(whole))])]
        )
        if damaged:
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            tensors = read_tensors(path)
        except CheckpointError:
            continue
        assert sum(t.nbytes for t in tensors.values()) <= len(whole)


# --- into a module ------------------------------------------------------------------------


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def test_half_precision_fills_a_float_module(tmp_path: Path) -> None:
    source, target = network(), network()
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in source.state_dict().items()
    }
    load_into(target, half, "net")
    for name, value in target.state_dict().items():
        assert value.dtype == source.state_dict()[name].dtype
        assert torch.equal(value, half[name].to(value.dtype))


def _changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = {name: value.clone() for name, value in network().state_dict().items()}
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0__weight": None}, "missing: 0.weight$"),
        ({"0__more": torch.zeros(1)}, "extra: 0.more$"),
        ({"0__bias": torch.zeros(3)}, r"0.bias is \[3\] float32 and must be \[2\] float32"),
        ({"0__bias": torch.zeros(2, dtype=torch.int64)}, r"0.bias is \[2\] int64 and must be"),
        ({"1__num_batches_tracked": torch.tensor(1.0)}, "float32 and must be .* int64"),
        ({"0__weight": torch.full((2, 3), float("nan"))}, "NaN or infinity in '0.weight'"),
        ({"1__running_var": torch.tensor([1.0, float("inf")])}, "NaN or infinity"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    change: dict[str, torch.Tensor | None], message: str
) -> None:
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"'net.safetensors'.*{message}"):
        load_into(module, _changed(**change), "net.safetensors")
    assert_same(dict(module.state_dict()), before)
