"""Files that are no data, that lie or that are damaged: refused, in little memory and time."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights.checkpoint import open_checkpoint


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


def _shared_bomb() -> bytes:
    """Thirty lists, each holding the one before ten times: 10^30 values when walked."""
    inner: list[Any] = [1]
    for _ in range(30):
        inner = [inner] * 10
    return pickle.dumps(inner, 2)


def _global(name: str) -> bytes:
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def _legacy(structure: bytes, keys: bytes) -> bytes:
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in parts) + structure + keys


def _repeated(name: str, value: bytes, *more: bytes) -> bytes:
    """A long value, and then 3000 calls that each take it: 6 bytes per call."""
    call = b"h\x01h\x00" + b"".join(more) + (b"\x86R" if more else b"\x85R")
    return b"\x80\x04" + value + b"\x940" + _global(name) + b"\x940(" + call * 3000 + b"l."


def _length(opcode: bytes, content: bytes) -> bytes:
    return opcode + struct.pack("<I", len(content)) + content


def _zip64(header_offset: int) -> bytes:
    """An archive whose only record begins where its 64-bit field says."""
    name, content = b"a/data.pkl", b"\x80\x02N."
    sizes = (0, len(content), len(content), len(name))
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, *sizes, 0) + name + content
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 45, 45, *[0] * 4, *sizes, 12, *[0] * 4, 2**32 - 1)
    directory = entry + name + struct.pack("<2HQ", 1, 8, header_offset)
    end = (0, 0, 1, 1, len(directory), len(local), 0)
    return local + directory + struct.pack("<4s4H2IH", b"PK\5\6", *end)


def _crowded(entries: int) -> bytes:
    """A directory of many entries for one record."""
    local = b"PK\3\4" + bytes(60)
    directory = (struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *[0] * 8, 1, *[0] * 6) + b"x") * entries
    end = (0, 0, 2**16 - 1, 2**16 - 1, len(directory), len(local), 0)
    return local + directory + struct.pack("<4s4H2IH", b"PK\5\6", *end)


def _renamed_directory() -> bytes:
    """Its local headers say one name and its directory another."""
    content = _zip({"a/data.pkl": b"\x80\x02N."})
    return content.replace(b"a/data.pkl", b"b/data.pkl", 1)


def _shared_by_two_records() -> bytes:
    """The second entry of its directory points to the first record."""
    content = bytearray(_zip({"a/data/0": b"x" * 8, "a/data/1": b"x" * 8}))
    second = content.rfind(b"PK\1\2")
    content[second + 42 : second + 46] = bytes(4)
    content[content.rfind(b"a/data/1") + 7 : content.rfind(b"a/data/1") + 8] = b"0"
    return bytes(content)


def _recursive() -> bytes:
    inner: list[Any] = []
    inner.append(inner)
    return pickle.dumps(inner, 2)


_DEEP_TUPLE = b")" + b"\x85" * 900_000
_SHARED = _shared_bomb()[2:-1]
_LONG_INTEGER = _length(b"\x8b", b"\x7f" * 2_000_000)

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
    "values without end": (_torch_zip(b"\x80\x02" + b"N" * 2_000_000 + b"."), "entries"),
    "shared lists": (_torch_zip(_shared_bomb()), "entries"),
    "a device named by shared lists": (
        _torch_zip(b"\x80\x02ctorch\ndevice\n" + _SHARED + b"\x85R."),
        "device",
    ),
    "a type named by deep tuples": (
        _torch_zip(b"\x80\x02cnumpy\ndtype\n" + _DEEP_TUPLE + b"R."),
        "name of a type",
    ),
    "a name of a megabyte": (
        _torch_zip(b"\x80\x02}" + _length(b"X", b"a" * 2**20) + b"Ns."),
        "letters",
    ),
    "a class of a long name as a key": (
        _torch_zip(
            b"\x80\x04}" + _length(b"X", b"typing") + _length(b"X", b"a" * 2**20) + b"\x93Ns."
        ),
        "letters",
    ),
    "a size of many digits": (
        _torch_zip(b"\x80\x02ctorch\nSize\n(\x8a\x09" + b"\x7f" * 9 + b"t\x85R."),
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
    # Each of these ended, filled or hung the process once.
    "deep tuples as a key of EasyDict": (
        b"\x80\x04" + _global("dnnlib.util.EasyDict") + b"]" + _DEEP_TUPLE + b"N\x86a\x85R.",
        "key",
    ),
    "shared lists as names of tensors": (
        _legacy(b"\x80\x02N.", b"\x80\x02" + _SHARED + b"."),
        "list of tensors",
    ),
    "a rebuilding that rebuilds itself": (
        _torch_zip(
            b"\x80\x04"
            + _global("torch._tensor._rebuild_from_type_v2")
            + b"\x940"
            + b"h\x00N" * 20_000
            + b")"
            + b"\x87" * 20_000
            + b"h\x00N\x87R."
        ),
        "damaged",
    ),
    "a list copied again and again": (
        _torch_zip(_repeated("builtins.list", b"](" + b"N" * 900_000 + b"e")),
        "more than it holds",
    ),
    "a text encoded again and again": (
        _torch_zip(
            _repeated("_codecs.encode", _length(b"X", b"a" * 2**22), _length(b"X", b"latin1"))
        ),
        "more than it holds",
    ),
    "a file inside that is no tensor": (
        _repeated(
            "torch.storage._load_from_bytes",
            _length(b"B", _legacy(b"\x80\x02](" + b"]" * 900_000 + b"e.", b"\x80\x02].")),
        ),
        "other than a tensor",
    ),
    "a number of 2 MB": (
        _torch_zip(b"\x80\x04" + _LONG_INTEGER + b"\x940}(" + b"h\x00N" * 200_000 + b"u."),
        "long",
    ),
    "keys that collide": (
        _torch_zip(pickle.dumps(dict.fromkeys((2**61 - 1) * k for k in range(1, 5000)), 4)),
        "key",
    ),
    "a million sets": (_torch_zip(b"\x80\x04](" + b"\x8f" * 1_000_000 + b"e."), "entries"),
    "a big-endian number": (
        _torch_zip(pickle.dumps(np.array([1.0], ">f8")[0:1].dtype, 4)),
        "big-endian",
    ),
    "a record outside of the file": (_zip64(2**64 - 1), "points to nothing"),
    "a directory of 400 000 entries": (_crowded(400_000), "zip directory"),
    "a directory of other names": (_renamed_directory(), "other records"),
    "a record twice": (_shared_by_two_records(), "twice"),
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
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
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


def test_what_a_sparse_file_claims_is_not_reserved(tmp_path: Path) -> None:
    """Three gigabytes that are really there, in a file that takes no space."""
    path = tmp_path / "sparse"
    size = 3 * 2**30
    for start, reason in (
        (b"\x80\x04\x8e" + struct.pack("<Q", size - 100), "longer"),
        (b"\x80\x04\x8d" + struct.pack("<Q", size - 100), "longer"),
        (b"\x80\x04c", "newline"),
        (b"\x80\x04V", "newline"),
    ):
        with open(path, "wb") as stream:
            stream.write(start)
            stream.truncate(size)
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError, match=reason):
                open_checkpoint(path)
            assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_short_is_refused_wherever_it_was_cut(tmp_path: Path, legacy: bool) -> None:
    torch.save(
        {"a": torch.ones(100)}, tmp_path / "whole", _use_new_zipfile_serialization=not legacy
    )
    content = (tmp_path / "whole").read_bytes()
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
    torch.save({"a": torch.ones(100)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="max_bytes"):
        open_checkpoint(tmp_path / "a.pt", max_bytes=100)
