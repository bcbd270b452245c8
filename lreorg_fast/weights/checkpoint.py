"""Open a file of weights, whatever it is: structure first, tensors when they are asked for.

What a file is, is decided by its content and never by its name. Nothing of it is executed, and no
memory is reserved that the file does not fill: an e4e checkpoint of 1.2 GB whose encoder alone is
wanted costs the encoder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from torch import Tensor

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights.pickles import Inert, PickleRefused, Vocabulary, read_pickle
from lreorg_fast.weights.plain_values import INERT_PREFIXES, mapping
from lreorg_fast.weights.records import FileBytes
from lreorg_fast.weights.tensors import MAX_BYTES, open_weights, read_header
from lreorg_fast.weights.torch_files import (
    HINTS,
    LEGACY_MAGIC,
    TORCH,
    Storage,
    TensorRef,
    read_archive,
    read_embedded,
    read_legacy,
)

__all__ = [
    "Checkpoint",
    "Inert",
    "PersistentObject",
    "TensorRef",
    "open_checkpoint",
    "read_all",
    "tensor_refs",
]

_MOST_VALUES = 5_000_000
_DEEPEST = 100
_SNIFFED_BYTES = 512
_PICKLE = b"\x80"
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class PersistentObject:
    """A network of NVlabs: the ``__dict__`` of its module. The source beside it is not looked at.

    Attributes:
        class_name: such as ``Generator``.
        state: ``_parameters``, ``_buffers``, ``_modules``, ``_init_kwargs`` and plain attributes.
    """

    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """An opened file; use it as a context manager.

    Attributes:
        path: of the file.
        kind: ``safetensors``, ``torch zip``, ``TorchScript``, ``torch legacy`` or
            ``NVlabs pickle``.
        content: dict, list, tuple and plain values, with :class:`TensorRef` for every tensor,
            :class:`Inert` for settings objects and :class:`PersistentObject` for networks; classes
            that are only named stay references by name.
        metadata: strings in the header of a safetensors file.
    """

    path: Path
    kind: str
    content: Any
    stream: BinaryIO = field(repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stream.close()


def open_checkpoint(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> Checkpoint:
    """Open a file of weights and read its structure.

    Args:
        path: safetensors, a file of ``torch.save`` of any version, a TorchScript archive, or a
            network pickle of NVlabs.
        max_bytes: largest file size.

    Raises:
        CheckpointError: unreadable, too large, damaged, not a file of weights, or one that asks
            for something else than data. One sentence that names the file.
    """
    source = Path(path)
    stream = open_weights(source, follow_links=True)
    try:
        size = os.fstat(stream.fileno()).st_size
        if size > max_bytes:
            raise CheckpointError(
                f"'{source}' has {size} bytes and at most {max_bytes} are read; raise max_bytes if "
                "it is trusted"
            )
        kind, content, metadata = _read(stream, size, source)
        _check_tree(content)
    except PickleRefused as error:
        stream.close()
        raise CheckpointError(f"'{source}' cannot be used: {error}") from error
    except OSError as error:
        stream.close()
        raise CheckpointError(f"cannot read '{source}': {error.strerror or error}") from error
    except BaseException:
        stream.close()
        raise
    return Checkpoint(source, kind, content, stream, metadata)


def read_all(refs: Mapping[str, TensorRef]) -> dict[str, Tensor]:
    """Read several tensors, in their order."""
    return {name: ref.read() for name, ref in refs.items()}


def tensor_refs(tree: Any, prefix: str = "") -> dict[str, TensorRef]:
    """The tensors directly in a mapping whose names begin with ``prefix``, without it."""
    if not isinstance(tree, Mapping):
        return {}
    return {
        name[len(prefix) :]: value
        for name, value in tree.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(value, TensorRef)
    }


_Structure = tuple[str, Any, Mapping[str, str]]


def _read(stream: BinaryIO, size: int, source: Path) -> _Structure:
    start = stream.read(_SNIFFED_BYTES)
    stream.seek(0)
    if start.startswith(_ZIP):
        archive = read_archive(stream, size)
        return "TorchScript" if archive.script else "torch zip", archive.content, {}
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size:
        return _read_safetensors(stream, size, source)
    if start.startswith(_PICKLE):
        return _read_pickled(stream, size)
    raise CheckpointError(f"'{source}' is not a file of weights: {_looks_like(start)}")


def _read_safetensors(stream: BinaryIO, size: int, source: Path) -> _Structure:
    entries, metadata = read_header(stream, size, source, hashlib.sha256())
    begin = stream.tell()
    refs: dict[str, TensorRef] = {}
    for entry in entries:
        count = (entry.end - entry.begin) // entry.dtype.itemsize
        place = FileBytes(stream, begin + entry.begin, entry.end - entry.begin)
        stride, step = [], 1
        for length in reversed(entry.shape):
            stride.append(step)
            step *= max(length, 1)
        storage = Storage(entry.dtype, count, place)
        refs[entry.name] = TensorRef(entry.shape, entry.dtype, storage, tuple(stride[::-1]))
    return "safetensors", refs, metadata


def _persistent_object(description: Any) -> PersistentObject:
    """``torch_utils.persistence._reconstruct_persistent_obj``, without its ``module_src``."""
    fields = getattr(description, "attributes", description)
    name, state = fields.get("class_name"), fields.get("state")
    state = getattr(state, "attributes", state)
    if fields.get("type") != "class" or not isinstance(name, str) or not isinstance(state, dict):
        raise PickleRefused("a network in it has no name or no state")
    return PersistentObject(name, state)


_NVLABS = Vocabulary(
    {
        **TORCH,
        "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
        "torch.storage._load_from_bytes": read_embedded,
        "dnnlib.util.EasyDict": mapping,
    },
    INERT_PREFIXES,
    HINTS,
)


def _read_pickled(stream: BinaryIO, size: int) -> _Structure:
    first = read_pickle(stream, _NVLABS)
    if first == LEGACY_MAGIC:
        return "torch legacy", read_legacy(stream, size), {}
    networks = first.values() if isinstance(first, dict) else ()
    if not any(isinstance(value, PersistentObject) for value in networks):
        raise PickleRefused(
            "it is a plain pickle that neither torch nor NVlabs wrote; save it with torch.save or "
            "as safetensors"
        )
    return "NVlabs pickle", first, {}


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Inert):
        return list(value.attributes.values())
    if isinstance(value, PersistentObject):
        return list(value.state.values())
    return []


def _check_tree(content: Any) -> None:
    """Refuse a structure that would be endless or huge when walked: parts may be shared."""
    sizes: dict[int, int] = {}
    open_parts: set[int] = set()

    def measure(value: Any, depth: int) -> int:
        children = _children(value)
        if not children:
            return 1
        key = id(value)
        if key in sizes:
            return sizes[key]
        if key in open_parts:
            raise PickleRefused("a part of it contains itself")
        if depth == _DEEPEST:
            raise PickleRefused("it is nested too deeply")
        open_parts.add(key)
        total = 1 + sum(measure(child, depth + 1) for child in children)
        open_parts.discard(key)
        if total > _MOST_VALUES:
            raise PickleRefused("it has more entries than any file of weights")
        sizes[key] = total
        return total

    measure(content, 0)


_LOOKS: tuple[tuple[bytes, str], ...] = (
    (b"<", "it is a web page, probably the one that links to the download; fetch the file itself"),
    (b"version https://git-lfs", "it is a pointer of git-lfs; run git lfs pull"),
    (b"{", "it is JSON"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (b"BZh", "it is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "it is compressed with xz; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"),
    (b"Rar!", "it is a RAR archive; unpack it first"),
    (b"\x93NUMPY", "it is a numpy array"),
    (b"\x89HDF", "it is an HDF5 file (Keras, TensorFlow); take the PyTorch weights"),
    (b"\x89PNG", "it is a picture"),
    (b"\xff\xd8\xff", "it is a picture"),
    (b"\x08", "it may be an ONNX or TensorFlow graph; take the PyTorch weights"),
)
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257


def _looks_like(start: bytes) -> str:
    if not start:
        return "it is empty; fetch it again"
    if start[_TAR_OFFSET:].startswith(_TAR_MAGIC):
        return "it is a tar archive; unpack it, or save it anew if torch before 0.1.10 wrote it"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for beginning, meaning in _LOOKS:
        if text.startswith(beginning):
            return meaning
    return "its first bytes are of no known format; the download may be damaged"
