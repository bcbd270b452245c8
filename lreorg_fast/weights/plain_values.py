"""What every pickle of weights may name: containers and numbers, and classes that are only held.

The vocabulary that :mod:`lreorg_fast.weights.torch_files` extends. Stand-ins check the types of
what they are given before they hash, print or compare it: all three recurse, so a value nested a
million times would end the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lreorg_fast.weights.pickles import Allowed, Inert, PickleRefused, checked_key


def mapping(*arguments: Any) -> dict[Any, Any]:
    """Stands for a dictionary class, called empty, with a dictionary or with a list of pairs."""
    given = arguments[-1] if arguments else ()
    if isinstance(given, dict):
        return dict(given)  # its keys were checked when it was filled
    if not isinstance(given, list | tuple):
        raise PickleRefused("its pickle is damaged: a dictionary was expected")
    return {checked_key(key): value for key, value in given}


def _latin(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or not isinstance(encoding, str) or "latin" not in encoding:
        raise PickleRefused("its pickle is damaged: text was expected")
    return text.encode("latin-1")


def _sequence(*arguments: Any) -> list[Any]:
    if arguments and not isinstance(arguments[0], list | tuple | set | frozenset):
        raise PickleRefused("its pickle is damaged: a list was expected")
    return list(arguments[0]) if arguments else []


@dataclass(frozen=True)
class _NumpyType:
    """A type of numbers; ``set_state`` is called with the byte order that follows it."""

    code: str

    def set_state(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if not isinstance(order, str) or order == ">":
            raise PickleRefused("its numbers are big-endian; save it again on an ordinary machine")


_NUMBER_TYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


def _numpy_type(code: Any, *_: Any) -> _NumpyType:
    if not isinstance(code, str):
        raise PickleRefused("its pickle is damaged: the name of a type was expected")
    if code not in _NUMBER_TYPES:
        raise PickleRefused(f"it holds a numpy value of the type '{code:.40}', which is no number")
    return _NumpyType(code)


def _numpy_scalar(dtype: Any, content: Any = b"") -> int | float | bool:
    import numpy as np

    if not isinstance(dtype, _NumpyType) or not isinstance(content, bytes):
        raise PickleRefused("its pickle is damaged: a number was expected")
    value = np.frombuffer(content, dtype=f"<{dtype.code}")
    if len(value) != 1:
        raise PickleRefused("its pickle is damaged: a number was expected")
    number: int | float | bool = value[0].item()
    return number


PLAIN: Allowed = {
    "collections.OrderedDict": mapping,
    "collections.defaultdict": lambda *_: {},
    "collections.Counter": mapping,
    "builtins.dict": mapping,
    "builtins.list": _sequence,
    "builtins.tuple": lambda *a: tuple(_sequence(*a)),
    "builtins.set": lambda *a: set(map(checked_key, _sequence(*a))),
    "__builtin__.set": lambda *a: set(map(checked_key, _sequence(*a))),
    "builtins.frozenset": lambda *a: frozenset(map(checked_key, _sequence(*a))),
    "_codecs.encode": _latin,
    "numpy.dtype": _numpy_type,
    **{
        f"numpy.{core}.multiarray.{name}": construct
        for core in ("core", "_core")
        for name, construct in (
            ("scalar", _numpy_scalar),
            ("_reconstruct", lambda *_: Inert("numpy.ndarray")),
        )
    },
    "numpy.ndarray": lambda *_: Inert("numpy.ndarray"),
}

# Classes that trainers leave in checkpoints beside the weights: settings, paths, callbacks.
INERT_PREFIXES = (
    "argparse.",
    "pathlib.",
    "datetime.",
    "omegaconf.",
    "yacs.",
    "easydict.",
    "pytorch_lightning.",
    "lightning.",
    "lightning_fabric.",
    "torch.optim.",
    "typing.",
)
