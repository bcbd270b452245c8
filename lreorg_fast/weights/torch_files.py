"""Files that ``torch.save`` writes, old and new, and TorchScript archives, read as data.

The structure (a pickle) is read first and by :mod:`lreorg_fast.weights.pickles`; tensors stay in
the file as :class:`TensorRef` until they are asked for. Formats: ``torch/serialization.py``. New
files are zip archives with the records ``NAME/data.pkl`` and ``NAME/data/KEY``, not compressed;
old ones are five pickles in a row and then the storages.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights.pickles import (
    Allowed,
    Inert,
    PickleRefused,
    Vocabulary,
    read_pickle,
    read_pickle_bytes,
)
from lreorg_fast.weights.plain_values import INERT_PREFIXES, PLAIN
from lreorg_fast.weights.records import FileBytes, zip_records

_MOST_RANK = 16
_LARGEST_COUNT = 2**63
_MOST_STRUCTURE_BYTES = 64 * 2**20
# A tensor may be larger than what is stored of it (an expanded one), but only a small one.
_FREE_ELEMENTS = 2**16
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LITTLE = b"little"
_SCRIPT_PREFIX = "__torch__."

_STORAGE_TYPES: Mapping[str, torch.dtype | None] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": None,
}
_DTYPES = {str(dtype): dtype for dtype in _STORAGE_TYPES.values() if dtype is not None}


@dataclass
class Storage:
    """The memory that tensors share. In old files its place is known only after the structure."""

    dtype: torch.dtype | None
    elements: int
    place: FileBytes | None = None


@dataclass(frozen=True)
class TensorRef:
    """A tensor that still lies in its file, which must be open to :meth:`read` it.

    Attributes:
        shape: its dimensions.
        dtype: as stored.
        stride, offset: where its elements lie in the storage, in elements.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    storage: Storage = field(repr=False)
    stride: tuple[int, ...] = ()
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor when read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor on the CPU, contiguous, in memory of its own.

        Raises:
            CheckpointError: the file changed, or it holds a bool other than 0 and 1.
        """
        place = self.storage.place
        if place is None:
            raise CheckpointError("a weights file lacks the data of a tensor; fetch it again")
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        size = self.dtype.itemsize
        last = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        data = torch.empty((last + 1) * size, dtype=torch.uint8)
        place.read_into(data.numpy().data, self.offset * size)
        if self.dtype is torch.bool and bool((data > 1).any()):
            raise CheckpointError("a weights file holds a bool other than 0 and 1; fetch it again")
        stored = data.view(self.dtype).as_strided(self.shape, self.stride)
        # A view of more elements than it has would keep all of them alive.
        whole = stored.is_contiguous() and stored.numel() == last + 1
        return stored if whole else stored.clone(memory_format=torch.contiguous_format)


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> TensorRef:
    """What ``torch._utils._rebuild_tensor_v2`` is called with, checked and described.

    Raises:
        PickleRefused: numbers that are not counts, or that reach outside of the storage.
    """
    if not isinstance(storage, Storage):
        raise PickleRefused("its pickle is damaged: a tensor has no storage")
    shape, stride = _counts(shape), _counts(stride)
    (offset,) = _counts((offset,))
    if len(shape) != len(stride) or len(shape) > _MOST_RANK or storage.dtype is None:
        raise PickleRefused("its pickle is damaged: a tensor has no proper shape")
    elements = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if elements and last >= storage.elements:
        raise PickleRefused(f"a tensor of shape {list(shape)!s:.80} reaches outside of its data")
    if elements > max(storage.elements, _FREE_ELEMENTS):
        raise PickleRefused(f"a tensor of shape {list(shape)!s:.80} is larger than its data")
    return TensorRef(shape, storage.dtype, storage, stride, offset)


def _counts(values: Any) -> tuple[int, ...]:
    # Not every number that a file can hold: one of a million digits takes long to multiply.
    if not isinstance(values, tuple | list) or not all(
        type(v) is int and 0 <= v < _LARGEST_COUNT for v in values
    ):
        raise PickleRefused("its pickle is damaged: counts were expected")
    return tuple(values)


def _rebuild_typed(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorRef:
    """``_rebuild_tensor_v3``: a storage of bytes, and the type as the last argument but one."""
    dtype = _DTYPES.get(getattr(rest[2], "name", "")) if len(rest) > 2 else None
    if not isinstance(storage, Storage) or dtype is None:
        raise PickleRefused("its pickle is damaged: a tensor has no type")
    typed = Storage(dtype, storage.elements // dtype.itemsize, storage.place)
    return rebuild_tensor(typed, offset, shape, stride)


def _first(value: Any, *_: Any) -> Any:
    """A parameter is its tensor; gradients and hooks are not kept."""
    return value


def _rebuild_from_type(called: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """A tensor with attributes: the tensor alone."""
    construct: Any = getattr(called, "construct", None)
    if construct not in (rebuild_tensor, _rebuild_typed, _first):
        raise PickleRefused("its pickle is damaged: a tensor was expected")
    return construct(*arguments)


def _device(*parts: Any) -> str:
    # Only plain parts: the text of a nested list can be larger than any memory.
    if not all(isinstance(part, str | int) for part in parts):
        raise PickleRefused("its pickle is damaged: the name of a device was expected")
    return ":".join(map(str, parts))


@dataclass(frozen=True)
class _StorageType:
    dtype: torch.dtype | None


def _never(*_: Any) -> Any:
    raise PickleRefused("its pickle calls a type that is only a name")


# Classes that a persistent id names; they are looked up and never called.
_STORAGE_CLASSES: Mapping[str, _StorageType] = {
    f"{module}.{name}": _StorageType(dtype)
    for module in ("torch", "torch.storage", "torch.cuda")
    for name, dtype in _STORAGE_TYPES.items()
}


TORCH: Allowed = {
    **PLAIN,
    **dict.fromkeys(_STORAGE_CLASSES, _never),
    **dict.fromkeys(_DTYPES, _never),
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch.nn.parameter.Parameter": _never,
    "torch.nn.parameter.Buffer": _never,
    "torch.Tensor": _never,
    "torch.Size": lambda sizes=(): _counts(sizes),
    "torch.device": _device,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}

HINTS: Mapping[str, str] = {
    "dnnlib.tflib.network.Network": (
        "it is a TensorFlow network pickle of the first StyleGAN2; take the PyTorch one (for "
        "example with the legacy.py of stylegan2-ada-pytorch)"
    ),
}
_VOCABULARY = Vocabulary(TORCH, (*INERT_PREFIXES, _SCRIPT_PREFIX), HINTS)


# ---- zip archives


@dataclass(frozen=True)
class Archive:
    """What a zip archive of torch holds: the structure, and whether it is TorchScript."""

    content: Any
    script: bool


def read_archive(stream: BinaryIO, size: int) -> Archive:
    """The structure of a file of ``torch.save`` since 1.6, or of a TorchScript archive.

    Raises:
        PickleRefused: not such an archive, compressed, overlapping, of the other byte order, or
            a structure that :func:`read_pickle` refuses.
    """
    records = zip_records(stream, size)
    roots = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise PickleRefused("it is a zip archive, but not one that torch wrote")
    root = roots[0].removesuffix("data.pkl")
    structure = records[roots[0]]
    if structure.size > _MOST_STRUCTURE_BYTES:
        raise PickleRefused(f"its structure has {structure.size} bytes, more than any weights need")
    order = records.get(f"{root}byteorder")
    if order is not None and (order.size != len(_LITTLE) or order.content() != _LITTLE):
        raise PickleRefused("its numbers are big-endian; save it again on an ordinary machine")

    def persistent(identity: Any) -> Storage:
        storage, key = _storage(identity)
        place = records.get(f"{root}data/{key}")
        if place is None or place.size < _stored_bytes(storage):
            raise PickleRefused(f"it lacks the data of the tensor record '{key!s:.40}'")
        storage.place = place
        return storage

    content = read_pickle_bytes(structure.content(), _VOCABULARY, persistent)
    script = f"{root}constants.pkl" in records
    return Archive(_flattened(content) if script else content, script)


def _storage(identity: Any) -> tuple[Storage, str]:
    """A storage from its persistent id ``("storage", class, key, device, elements, ...)``."""
    fields = identity if isinstance(identity, tuple) else ()
    kind = _STORAGE_CLASSES.get(getattr(fields[1], "name", "")) if len(fields) >= 5 else None
    if kind is None or fields[0] != "storage" or not isinstance(fields[2], str | int):
        raise PickleRefused("its pickle is damaged: a storage was expected")
    (elements,) = _counts((fields[4],))
    return Storage(kind.dtype, elements), str(fields[2])


def _stored_bytes(storage: Storage) -> int:
    return storage.elements * (1 if storage.dtype is None else storage.dtype.itemsize)


def _flattened(module: Any) -> dict[str, Any]:
    """A TorchScript module as a state dict: its tensors and numbers by dotted name."""
    flat: dict[str, Any] = {}
    waiting = [("", module)]
    seen: set[int] = set()
    while waiting:
        prefix, current = waiting.pop()
        if not isinstance(current, Inert) or id(current) in seen:
            continue
        seen.add(id(current))
        for name, value in current.attributes.items():
            full = f"{prefix}{name}"
            if isinstance(value, Inert):
                waiting.append((f"{full}.", value))
            elif value is None or isinstance(value, TensorRef | str | int | float):
                flat[full] = value
    return flat


# ---- the format before 1.6, also inside the pickles of NVlabs


def read_legacy(stream: BinaryIO, size: int) -> Any:
    """The structure of an old file, from behind its magic number.

    Raises:
        PickleRefused: with the reason.
    """
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        storage, key = _storage(identity)
        if len(identity) > 5 and identity[5] is not None:
            raise PickleRefused(
                "its tensors are views of storages (torch before 0.4); save it anew"
            )
        known = storages.setdefault(key, storage)
        if (known.dtype, known.elements) != (storage.dtype, storage.elements):
            raise PickleRefused("its pickle is damaged: a storage changes its size")
        return known

    if read_pickle(stream, _VOCABULARY) != _LEGACY_PROTOCOL:
        raise PickleRefused("it is of an unknown version of torch's old format")
    system = read_pickle(stream, _VOCABULARY)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleRefused("its numbers are big-endian; save it again on an ordinary machine")
    content = read_pickle(stream, _VOCABULARY, persistent)
    keys = read_pickle(stream, _VOCABULARY)
    _place(stream, size, storages, keys)
    return content


def _place(stream: BinaryIO, size: int, storages: Mapping[str, Storage], keys: Any) -> None:
    """Storages follow in the order of ``keys``, each behind its number of elements."""
    known = isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)
    if not known or sorted(map(str, keys)) != sorted(storages):
        raise PickleRefused("its list of tensors does not fit; the download may be cut short")
    position = stream.tell()
    for key in keys:
        storage = storages[str(key)]
        stream.seek(position)
        (elements,) = struct.unpack("<q", stream.read(8).ljust(8, b"\xff"))
        needed = _stored_bytes(storage)
        if elements != storage.elements or position + 8 + needed > size:
            raise PickleRefused("its data end too early; the download may be cut short")
        storage.place = FileBytes(stream, position + 8, needed)
        position += 8 + needed


def read_embedded(content: Any) -> Any:
    """``torch.storage._load_from_bytes``: an old file inside of a pickle, with one storage.

    Raises:
        PickleRefused: with the reason.
    """
    if not isinstance(content, bytes):
        raise PickleRefused("its pickle is damaged: the bytes of a tensor were expected")
    stream = io.BytesIO(content)
    if read_pickle(stream, _VOCABULARY) != LEGACY_MAGIC:
        raise PickleRefused("it holds a tensor that is not in torch's old format")
    made = read_legacy(stream, len(content))
    if not isinstance(made, Storage | TensorRef):
        raise PickleRefused("it holds something other than a tensor in the place of one")
    return made
