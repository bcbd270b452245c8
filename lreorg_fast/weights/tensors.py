"""Safetensors files, read by someone who does not trust them.

The header of a file is checked in full before memory is reserved for a single tensor: a file of
1.5 kB can claim 40 GB, overlap its tensors or point outside itself. The layout is that of
https://huggingface.co/docs/safetensors (8 bytes little-endian header length, JSON header, data).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import torch

from lreorg_fast.errors import CheckpointError
from lreorg_fast.files import atomic_file, parse_json

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 8 * 2**30
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_TENSORS = 100_000
_MAX_RANK = 16
_NAMES_IN_MESSAGES = 5

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

Expected = Mapping[str, tuple[tuple[int, ...], "torch.dtype | None"]]


@dataclass(frozen=True)
class TensorEntry:
    """One line of a header: where a tensor lies in the data, and as what."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def read_tensors(
    path: str | os.PathLike[str],
    expected: Expected | None = None,
    max_bytes: int = MAX_BYTES,
    sha256: str | None = None,
) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: the file.
        expected: name -> (shape, dtype), exactly what must be in the file; dtype None means any.
            Without it, anything well-formed is read.
        max_bytes: largest file size.
        sha256: lower-case hex digest that the bytes read here must have.

    Returns:
        name -> tensor on the CPU, each with memory of its own, in the order of the file.

    Raises:
        CheckpointError: unreadable, malformed, too large, not what was expected, or of another
            digest. The message names the file and what is missing, extra or of another shape.
    """
    source = Path(path)
    with open_weights(source, follow_links=True) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > max_bytes:
            raise CheckpointError(
                f"'{source}' has {size} bytes and at most {max_bytes} are read; raise max_bytes "
                "if it is trusted"
            )
        digest = hashlib.sha256()
        entries, _ = read_header(stream, size, source, digest)
        if expected is not None:
            _check_expected(entries, expected, source)
        tensors = {entry.name: _read_tensor(stream, entry, source, digest) for entry in entries}
    if sha256 is not None and digest.hexdigest() != sha256:
        raise CheckpointError(
            f"'{source}' was changed or damaged: its SHA-256 is {digest.hexdigest()} and not "
            f"{sha256}; fetch it again"
        )
    return tensors


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a safetensors file that appears whole or not at all.

    Args:
        path: target.
        tensors: name -> tensor, any device; views and shared memory are written out in full.
        metadata: strings for the header; no more than provenance belongs there.
        overwrite: replace an existing file.

    Raises:
        CheckpointError: a dtype that :func:`read_tensors` would refuse.
        OutputError: the file cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise CheckpointError(
                f"cannot write '{name}' of type {tensor.dtype}; convert it to one of "
                f"{', '.join(str(dtype) for dtype in DTYPES.values())}"
            )
    # Largest alignment first, then by name, as the safetensors library does.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    with atomic_file(path, overwrite) as stream:
        stream.write(_header(ordered, metadata or {}))
        for _, tensor in ordered:
            # One tensor at a time: a part of a bundle can be as large as half of the memory.
            owned = tensor.detach().cpu().contiguous()
            stream.write(owned.reshape(-1).view(torch.uint8).numpy().data)


def _header(ordered: list[tuple[str, Tensor]], metadata: Mapping[str, str]) -> bytes:
    """The bytes before the data.

    The library's own writer puts metadata in another order each time, and then files that hold the
    same have different digests.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    fields: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    begin = 0
    for name, tensor in ordered:
        end = begin + tensor.numel() * tensor.element_size()
        fields[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    header = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def load_into(
    module: torch.nn.Module, tensors: Mapping[str, Tensor], file: str | os.PathLike[str]
) -> None:
    """Copy ``tensors`` into ``module``: every entry of its state dict, and nothing else.

    Floating-point types are converted to the module's own (weights may be stored in half
    precision); any other change of type is refused, and so are NaN and infinity.

    Args:
        module: receives the values; unchanged if anything does not fit.
        tensors: name -> tensor, as from :func:`read_tensors`.
        file: named in messages only.

    Raises:
        CheckpointError: names the file and what is missing, extra, of another shape or type.
    """
    check_fit(module, tensors, file)
    for name, value in tensors.items():
        check_finite(name, value, file)
    module.load_state_dict(dict(tensors), strict=True)


class Described(Protocol):
    """What is known of a tensor before it is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...


def check_fit(
    module: torch.nn.Module, given: Mapping[str, Described], file: str | os.PathLike[str]
) -> None:
    """Compare names, shapes and types with a module's state dict, which may lie on "meta".

    Raises:
        CheckpointError: as of :func:`load_into`, except for values.
    """
    wanted = {
        name: (tuple(value.shape), value.dtype) for name, value in module.state_dict().items()
    }

    def stored(name: str, value: Described) -> tuple[tuple[int, ...], torch.dtype]:
        dtype = wanted[name][1] if name in wanted else value.dtype
        convertible = value.dtype.is_floating_point and dtype.is_floating_point
        return tuple(value.shape), dtype if convertible else value.dtype

    _compare({name: stored(name, value) for name, value in given.items()}, wanted, Path(file))


def check_finite(name: str, value: Tensor, file: str | os.PathLike[str]) -> None:
    """CheckpointError if a tensor holds NaN or infinity."""
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise CheckpointError(
            f"'{file}' holds NaN or infinity in '{name}'; it comes from a failed training run, "
            "use an earlier checkpoint"
        )


def open_weights(source: Path, follow_links: bool = False) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        CheckpointError: missing, unreadable, a folder or a device, or a symbolic link where those
            are not followed.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(source, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.ELOOP:
            reason = "it is a symbolic link"
        raise CheckpointError(f"cannot read '{source}': {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"cannot read '{source}': it is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_header(
    stream: BinaryIO, size: int, source: Path, digest: hashlib._Hash
) -> tuple[list[TensorEntry], dict[str, str]]:
    """The header of a safetensors file, checked in full: entries by position, and metadata.

    Args:
        stream: at its start; left where the data begin.
        size: of the file, in bytes.
        source: named in messages.
        digest: fed with what is read.

    Raises:
        CheckpointError: not a header, or one that its file does not bear out.
    """

    def malformed(reason: str) -> CheckpointError:
        return CheckpointError(
            f"'{source}' is not a usable safetensors file: {reason}; fetch or export it again"
        )

    prefix = stream.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length < 2 or length > size - 8:
        raise malformed(f"its header would not fit into its {size} bytes")
    if length > _MAX_HEADER_BYTES:
        raise malformed(f"its header has {length} bytes, more than {_MAX_HEADER_BYTES}")
    header = stream.read(length)
    digest.update(prefix)
    digest.update(header)
    try:
        fields = parse_json(header)
        if not isinstance(fields, dict):
            raise ValueError("its header is not an object")
        metadata = fields.pop("__metadata__", {})
        if not _is_strings(metadata):
            raise ValueError("its metadata are not strings")
        if len(fields) > _MAX_TENSORS:
            raise ValueError(f"it lists {len(fields)} tensors, more than {_MAX_TENSORS}")
        entries = [_parse_entry(name, value) for name, value in fields.items()]
        return _check_layout(entries, size - 8 - length), metadata
    except ValueError as error:
        raise malformed(str(error)) from error


def _is_strings(metadata: object) -> bool:
    return isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())


def _parse_entry(name: str, value: object) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name!r} does not have dtype, shape and data_offsets")
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise ValueError(
            f"{name!r} has the type {value['dtype']!r}; allowed are {', '.join(DTYPES)}"
        )
    shape, offsets = value["shape"], value["data_offsets"]
    if not _is_counts(shape) or len(shape) > _MAX_RANK:
        raise ValueError(f"{name!r} has the shape {shape!r}")
    if not _is_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has the offsets {offsets!r}")
    begin, end = offsets
    # Python's integers do not overflow, which is the classic way around this check.
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} of shape {shape} and type {dtype} has {end - begin} bytes")
    return TensorEntry(name, dtype, tuple(shape), begin, end)


def _is_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_layout(entries: list[TensorEntry], data_bytes: int) -> list[TensorEntry]:
    """The tensors must cover the data exactly: nothing outside, no overlap, no hidden bytes."""
    ordered = sorted(entries, key=lambda entry: (entry.begin, entry.end))
    position = 0
    for entry in ordered:
        if entry.begin != position:
            raise ValueError(
                f"{entry.name!r} begins at byte {entry.begin} of the data and not at {position}"
            )
        position = entry.end
    if position != data_bytes:
        raise ValueError(f"its tensors need {position} bytes and the file holds {data_bytes}")
    return ordered


def _read_tensor(
    stream: BinaryIO, entry: TensorEntry, source: Path, digest: hashlib._Hash
) -> Tensor:
    data = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
    memory = data.numpy().data
    position = 0
    while position < len(memory):
        count = stream.readinto(memory[position:])  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(f"'{source}' became shorter while it was read; try again")
        position += count
    digest.update(memory)
    if entry.dtype is torch.bool and bool((data > 1).any()):
        raise CheckpointError(f"'{source}' holds a bool other than 0 and 1 in '{entry.name}'")
    return data.view(entry.dtype).reshape(entry.shape)


def _check_expected(entries: Iterable[TensorEntry], expected: Expected, source: Path) -> None:
    given = {entry.name: (entry.shape, entry.dtype) for entry in entries}
    wanted = {
        name: (tuple(shape), dtype or given.get(name, (shape, torch.float32))[1])
        for name, (shape, dtype) in expected.items()
    }
    _compare(given, wanted, source)


_Specification = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def _compare(given: _Specification, wanted: _Specification, source: Path) -> None:
    problems = {
        "missing": [name for name in wanted if name not in given],
        "extra": [name for name in given if name not in wanted],
        "different": [
            f"{name} is {_describe(given[name])} and must be {_describe(wanted[name])}"
            for name in wanted
            if name in given and given[name] != wanted[name]
        ],
    }
    if any(problems.values()):
        text = "; ".join(f"{kind}: {_first(names)}" for kind, names in problems.items() if names)
        raise CheckpointError(f"'{source}' does not fit the architecture: {text}")


def _describe(specification: tuple[tuple[int, ...], torch.dtype]) -> str:
    shape, dtype = specification
    return f"{list(shape)} {str(dtype).removeprefix('torch.')}"


def _first(names: list[str]) -> str:
    more = len(names) - _NAMES_IN_MESSAGES
    return ", ".join(names[:_NAMES_IN_MESSAGES]) + (f" and {more} more" if more > 0 else "")
