"""What is inside a seal: a description in JSON, the numbers as they are, zeros up to a block.

Nothing is compressed, so the length tells shapes and keywords and nothing else.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.files import parse_json

BLOCK = 4096
_LENGTH = struct.Struct("<I")
Spec = tuple[str, Sequence[Any]]  # numpy's name of a type, and a shape


def packed(description: Any, arrays: Iterable[NDArray[Any]]) -> bytes:
    """A body of whole blocks of 4096 bytes.

    Args:
        description: JSON-able, from which the reader knows the types and shapes of the arrays.
        arrays: little-endian, one after another.
    """
    head = json.dumps(description).encode()
    numbers = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    body = _LENGTH.pack(len(head)) + head + numbers
    return body + bytes(-len(body) % BLOCK)


def description_of(body: bytes) -> Any:
    """What :func:`packed` was given first; ValueError for anything odd."""
    return parse_json(body[_LENGTH.size : _end(body)])


def arrays_of(body: bytes, specs: Iterable[Spec]) -> list[NDArray[Any]]:
    """Copies of the arrays of a body.

    Raises:
        ValueError: a shape that is none, fewer numbers than it says, or more.
    """
    start = _end(body)
    arrays = []
    for name, shape in specs:
        item = np.dtype(name)
        count = _count(shape)
        end = start + count * item.itemsize
        if end > len(body):
            raise ValueError("an array without its numbers")
        arrays.append(np.frombuffer(body, item, count, start).reshape(shape).copy())
        start = end
    if len(body) - start >= BLOCK or any(body[start:]):
        raise ValueError("more than it says")
    return arrays


def _end(body: bytes) -> int:
    if len(body) < _LENGTH.size:
        raise ValueError("no body")
    (size,) = _LENGTH.unpack_from(body)
    return _LENGTH.size + int(size)


def _count(shape: Sequence[Any]) -> int:
    if any(type(n) is not int or n < 1 for n in shape):
        raise ValueError("not a shape")
    count = 1
    for n in shape:
        count *= n
    return count
