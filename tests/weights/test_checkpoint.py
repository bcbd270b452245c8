"""Files of weights are read as data: what torch wrote comes back, what is not data is refused."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights import write_tensors
from lreorg_fast.weights.checkpoint import (
    Checkpoint,
    Inert,
    PersistentObject,
    TensorRef,
    open_checkpoint,
    read_all,
    tensor_refs,
)

DATA = Path(__file__).parents[1] / "data" / "published"
_BASE = torch.arange(24.0).reshape(4, 6)
# One tensor for each way that a tensor can lie in its storage.
TENSORS: dict[str, Tensor] = {
    "plain": _BASE,
    "tied": _BASE,
    "view": _BASE[1:3, ::2],
    "transposed": _BASE.t(),
    "last row": _BASE[3],
    "expanded": torch.ones(1).expand(4, 4),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3.0),
    "parameter": nn.Parameter(torch.randn(2, 2)),
    **{
        str(dtype): torch.arange(7).to(dtype)
        for dtype in (
            *(torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
            *(torch.int16, torch.int8, torch.uint8, torch.bool),
        )
    },
}
PLAIN = {"step": 3, "loss": 0.5, "names": ["a", ("b", None)], "flag": True, 4: b"raw", "set": {1}}


def save(path: Path, content: Any, legacy: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize(("legacy", "kind"), [(False, "torch zip"), (True, "torch legacy")])
def test_what_torch_saved_comes_back(tmp_path: Path, legacy: bool, kind: str) -> None:
    options = argparse.Namespace(size=256, path="x")
    content = OrderedDict(weights=TENSORS, options=options, best=np.float64(0.25), p=PLAIN)
    with open_checkpoint(save(tmp_path / "any.name", content, legacy)) as checkpoint:
        assert checkpoint.kind == kind
        read = read_all(tensor_refs(checkpoint.content["weights"]))
        assert checkpoint.content["p"] == PLAIN
        assert checkpoint.content["best"] == 0.25
        held = checkpoint.content["options"]
        assert isinstance(held, Inert)
        assert (held.class_name, held.attributes) == ("argparse.Namespace", vars(options))
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name
        assert read[name].is_contiguous()
        assert read[name].untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_a_state_dict_keeps_its_order_and_metadata_are_no_obstacle(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = net.state_dict()
    with open_checkpoint(save(tmp_path / "a.pt", state, False)) as checkpoint:
        assert list(checkpoint.content) == list(state)
        assert [ref.shape for ref in checkpoint.content.values()] == [
            v.shape for v in state.values()
        ]


def test_safetensors_are_read_lazily_too(tmp_path: Path) -> None:
    tensors = {name: t.detach() for name, t in TENSORS.items()}
    write_tensors(tmp_path / "x.bin", tensors, {"made": "here"})
    with open_checkpoint(tmp_path / "x.bin") as checkpoint:
        assert (checkpoint.kind, checkpoint.metadata) == ("safetensors", {"made": "here"})
        for name, tensor in tensors.items():
            assert torch.equal(checkpoint.content[name].read(), tensor), name


def test_a_torchscript_archive_is_its_state_dict(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    torch.jit.script(net).save(str(tmp_path / "net.pt"))
    with open_checkpoint(tmp_path / "net.pt") as checkpoint:
        assert checkpoint.kind == "TorchScript"
        read = read_all(tensor_refs(checkpoint.content))
    assert {name: value.tolist() for name, value in read.items()} == {
        name: value.tolist() for name, value in net.state_dict().items()
    }


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"wanted": torch.ones(3), "other": torch.ones(1000)}, False)
    content = bytearray(path.read_bytes())
    place = content.find(torch.ones(500).numpy().tobytes())
    content[place : place + 4] = b"\xff" * 4  # damage in what nobody reads
    path.write_bytes(content)
    with open_checkpoint(path) as checkpoint:
        assert torch.equal(checkpoint.content["wanted"].read(), torch.ones(3))
        assert not torch.equal(checkpoint.content["other"].read(), torch.ones(1000))


def _state(network: PersistentObject, prefix: str = "") -> dict[str, TensorRef]:
    found: dict[str, TensorRef] = {}
    for group in ("_parameters", "_buffers"):
        for name, value in network.state[group].items():
            if isinstance(value, TensorRef):
                found[prefix + name] = value
    for name, module in network.state["_modules"].items():
        found |= _state(module, f"{prefix}{name}.")
    return found


def test_an_nvlabs_pickle_is_read_without_its_source() -> None:
    """The fixture's ``module_src`` is a line that raises; its G is half of its G_ema."""
    keys = json.loads((DATA / "nvpkl_ada_keys.json").read_text())
    with open_checkpoint(DATA / "nvpkl_ada.pkl") as checkpoint:
        assert checkpoint.kind == "NVlabs pickle"
        network = checkpoint.content["G_ema"]
        assert network.class_name == "Generator"
        state = read_all(_state(network))
    assert {"torch_utils", "dnnlib"}.isdisjoint(sys.modules)
    found = [[name, list(value.shape)] for name, value in state.items()]
    assert found == [entry[:2] for entry in keys["keys"]]  # in this order
    for name, value in state.items():
        made = published.value(name, value.shape, set(state), "stylegan", True)
        assert made is None or np.array_equal(value.numpy(), made), name


# ---- hypothesis: equal to torch's own reader, and never anything but an answer or a refusal

_tensors = st.builds(
    lambda shape, dtype: torch.arange(int(np.prod(shape))).to(dtype).reshape(shape),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.bfloat16]),
)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_trees = st.recursive(
    _scalars | _tensors,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Tensor):
        read = found.read()
        return read.dtype == wanted.dtype and torch.equal(read, wanted)
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(_same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list | tuple):
        return (
            type(found) is type(wanted)
            and len(found) == len(wanted)
            and all(map(_same, found, wanted))
        )
    return type(found) is type(wanted) and found == wanted


@given(content=_trees, legacy=st.booleans())
def test_any_tree_is_read_as_torch_reads_it(
    tmp_path_factory: pytest.TempPathFactory, content: Any, legacy: bool
) -> None:
    path = save(tmp_path_factory.mktemp("tree") / "tree.pt", content, legacy)
    wanted = torch.load(path, weights_only=True)
    with open_checkpoint(path) as checkpoint:
        assert _same(checkpoint.content, wanted)


def _samples(folder: Path) -> list[bytes]:
    content = {"state_dict": {"a": torch.ones(4, 4), "b": torch.zeros(3).bool()}, "step": 5}
    paths = [save(folder / f"{legacy}.pt", content, legacy) for legacy in (False, True)]
    write_tensors(folder / "s.safetensors", {"a": torch.ones(4, 4)})
    return [path.read_bytes() for path in (*paths, folder / "s.safetensors")]


@given(data=st.data())
def test_damage_gives_an_answer_or_a_refusal_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    content = bytearray(data.draw(st.sampled_from(_samples(folder))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(CheckpointError), open_checkpoint(path) as checkpoint:
        _read_everything(checkpoint.content)


def _read_everything(tree: Any) -> None:
    if isinstance(tree, TensorRef):
        tree.read()
    for child in tree.values() if isinstance(tree, dict) else ():
        _read_everything(child)


# ---- hostile files


class _Call:
    """Pickles as a call of anything."""

    def __init__(self, called: Callable[..., Any], *arguments: Any) -> None:
        self.call = (called, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _zip(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _torch_zip(structure: bytes, **data: bytes) -> bytes:
    records = {"a/data.pkl": structure, "a/byteorder": b"little"}
    return _zip(records | {f"a/data/{key}": value for key, value in data.items()})


def _tensor(elements: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int) -> bytes:
    """The structure of a file with one tensor, by hand."""
    counts = [b"I%d\n" % n for n in shape], [b"I%d\n" % n for n in stride]
    return b"".join(
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage",
            b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu",
            b"I%d\ntQ" % elements,
            b"I%d\n" % offset,
            b"(" + b"".join(counts[0]) + b"t(" + b"".join(counts[1]) + b"t\x89NtR.",
        )
    )


def _nested(opening: bytes, count: int) -> bytes:
    return b"\x80\x02" + opening * count + b"."


def _shared_bomb() -> bytes:
    """Thirty lists, each holding the one before ten times: 10^30 values when walked."""
    inner: list[Any] = [1]
    for _ in range(30):
        inner = [inner] * 10
    return pickle.dumps(inner, 2)


def _recursive() -> bytes:
    inner: list[Any] = []
    inner.append(inner)
    return pickle.dumps(inner, 2)


# With what the refusal names; an empty string where the file is harmless here and just opened.
HOSTILE: dict[str, tuple[bytes, str]] = {
    "os.system": (_torch_zip(pickle.dumps(_Call(os.system, "touch owned"), 2)), "posix.system"),
    "eval": (_torch_zip(pickle.dumps(_Call(eval, "1"), 2)), "eval"),
    "eval as a plain pickle": (pickle.dumps(_Call(eval, "1"), 4), "eval"),
    "a method of an allowed class": (
        _torch_zip(b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93."),
        "fromkeys",
    ),
    "torch.load inside": (_torch_zip(pickle.dumps(_Call(torch.load, "x"), 2)), "torch"),
    "a memo index of 2^31": (_torch_zip(b"\x80\x02Nr\xff\xff\xff\x7f."), ""),
    "bytes of 40 GB": (
        _torch_zip(b"\x80\x04\x8e" + struct.pack("<Q", 40 * 2**30) + b"x."),
        "cut short",
    ),
    "a number of 2 GB": (
        _torch_zip(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x."),
        "damaged",
    ),
    "a deep list": (_torch_zip(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."), "deep"),
    "deep tuples as a key": (
        _torch_zip(b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"Ns."),
        "key",
    ),
    "values without end": (_torch_zip(_nested(b"N", 2_000_000)), "entries"),
    "shared lists": (_torch_zip(_shared_bomb()), "entries"),
    "a device named by shared lists": (
        _torch_zip(b"\x80\x02ctorch\ndevice\n" + _shared_bomb()[2:-1] + b"\x85R."),
        "device",
    ),
    "a type named by deep tuples": (
        _torch_zip(b"\x80\x02cnumpy\ndtype\n)" + b"\x85" * 500_000 + b"R."),
        "number",
    ),
    "a name of a megabyte": (
        _torch_zip(b"\x80\x02}X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"Ns."),
        "letters",
    ),
    "a size of a million digits": (
        _torch_zip(
            b"\x80\x02ctorch\nSize\n(\x8b" + struct.pack("<i", 2**19) + b"\x7f" * 2**19 + b"t\x85R."
        ),
        "counts",
    ),
    "a list in itself": (_torch_zip(_recursive()), "itself"),
    "a huge shape": (
        _torch_zip(_tensor(4, (10**6, 10**6), (10**6, 1), 0), **{"0": b"x" * 16}),
        "outside",
    ),
    "a huge expanded tensor": (
        _torch_zip(_tensor(4, (10**6, 10**6), (0, 0), 0), **{"0": b"x" * 16}),
        "larger",
    ),
    "a negative stride": (_torch_zip(_tensor(4, (4,), (-1,), 3), **{"0": b"x" * 16}), "counts"),
    "an offset outside": (_torch_zip(_tensor(4, (4,), (1,), 2), **{"0": b"x" * 16}), "outside"),
    "a storage that lies": (
        _torch_zip(_tensor(10**10, (4,), (1,), 0), **{"0": b"x" * 16}),
        "lacks",
    ),
    "a storage that is not there": (_torch_zip(_tensor(4, (4,), (1,), 0)), "lacks"),
    "a zip bomb": (
        _zip({"a/data.pkl": b"N" * 2**24, "a/data/0": b"0" * 2**24}, zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "another zip archive": (_zip({"word/document.xml": b"<x/>"}), "not one that torch wrote"),
    "two structures": (_zip({"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "torch wrote"),
    "big-endian": (_zip({"a/data.pkl": b"\x80\x02N.", "a/byteorder": b"big"}), "big-endian"),
    "TensorFlow's StyleGAN2": (b"\x80\x03cdnnlib.tflib.network\nNetwork\n.", "TensorFlow"),
    "a plain pickle": (pickle.dumps({"a": 1}), "plain pickle"),
    "a web page": (b"\n<!DOCTYPE html><html>Virus scan warning</html>", "web page"),
    "a pointer of git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "gzip": (b"\x1f\x8b" + b"\0" * 20, "gzip"),
    "a tar archive": (b"a".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0"), "tar"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "picture"),
    "nothing": (b"", "empty"),
    "noise": (bytes(range(1, 200)), "no known format"),
}

# In a process of its own, which may take little more memory than importing torch does.
_OPEN_WITH_LITTLE_MEMORY = """
import resource, sys
from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights.checkpoint import open_checkpoint
import numpy, torch
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + int(sys.argv[1]), pages + int(sys.argv[1])))
for path in sys.argv[2:]:
    try:
        open_checkpoint(path)
        print("opened")
    except CheckpointError as error:
        print("refused:", error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit memory")
def test_hostile_files_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    paths = []
    for i, (content, _) in enumerate(HOSTILE.values()):
        paths.append(tmp_path / f"{i}")
        paths[-1].write_bytes(content)
    run = subprocess.run(
        [sys.executable, "-c", _OPEN_WITH_LITTLE_MEMORY, str(256 * 2**20), *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    lines = run.stdout.splitlines()
    for (name, (_, reason)), line in zip(HOSTILE.items(), lines, strict=True):
        assert line.startswith("refused: '") == bool(reason), f"{name}: {line}"
        assert reason in line, f"{name}: {line}"
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_short_is_refused_wherever_it_was_cut(tmp_path: Path, legacy: bool) -> None:
    content = save(tmp_path / "whole", {"a": torch.ones(100)}, legacy).read_bytes()
    for part in range(16):
        path = tmp_path / "cut"
        path.write_bytes(content[: len(content) * part // 16])
        with pytest.raises(CheckpointError, match="cut"):
            open_checkpoint(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="cannot read"):
            open_checkpoint(path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.ones(100)}, False)
    with pytest.raises(CheckpointError, match="max_bytes"):
        open_checkpoint(path, max_bytes=100)


def test_a_bool_that_is_neither_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.tensor([True, False, True] * 9)}, True)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x07")
    with open_checkpoint(path) as checkpoint, pytest.raises(CheckpointError, match="bool"):
        checkpoint.content["a"].read()


def test_the_file_is_closed_whatever_happens(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.ones(3)}, False)
    checkpoint: Checkpoint
    with open_checkpoint(path) as checkpoint:
        pass
    assert checkpoint.stream.closed
    before = len(os.listdir("/proc/self/fd"))
    path.write_bytes(b"\x80\x02c")
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
    assert len(os.listdir("/proc/self/fd")) == before
