"""Pickles read as data: a stack machine that runs nothing and builds plain values only.

Python's own unpickler calls whatever a file names, and its compiled form reserves memory for
whatever size a file claims. This one takes the opcodes one by one from ``pickletools`` (which
reads no more than the file holds), looks every global up in a table, and refuses what is not in
it. Objects of known harmless classes become holders of their attributes; they are never built.

What a file costs is bounded by its size: opcodes and text are counted, integers are short, keys
cannot be made to collide, and a value cannot be handed to its constructor again and again.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias, cast

from lreorg_fast.errors import CheckpointError

# A training checkpoint of 3000 tensors has 120 000 opcodes. Each may cost 224 bytes (a set).
_MOST_OPCODES = 1_000_000
_MOST_TEXT_BYTES = 64 * 2**20
_MOST_BYTES = 2 * 2**30  # NVlabs' pickles hold their tensors as byte strings, 380 MB in all
_MOST_LINE_BYTES = 4096
_MOST_INTEGER_BITS = 1024
_MOST_KEY_PARTS = 16
_MOST_KEY_LENGTH = 1_000
# What constructors are handed may exceed what was read by this much: short values are shared.
_FREE_ARGUMENTS = 2**20

Constructor: TypeAlias = Callable[..., Any]
Allowed: TypeAlias = Mapping[str, Constructor]


class PickleRefused(CheckpointError):
    """A pickle that is damaged, oversized, or holds something other than data."""


@dataclass(frozen=True)
class Inert:
    """An object of a harmless class: its name and its attributes or items, nothing built.

    ``class_name`` is dotted, such as ``argparse.Namespace``.
    """

    class_name: str
    attributes: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names, as a reference; ``construct`` stands in for it."""

    name: str
    construct: Constructor


@dataclass(frozen=True)
class Vocabulary:
    """What a pickle may name.

    Args:
        allowed: dotted name -> what is called in its place, with the pickle's arguments.
        inert_prefixes: every other name that starts with one of these becomes an :class:`Inert`.
        hints: dotted name -> what the file is, for the message that refuses it.
    """

    allowed: Allowed
    inert_prefixes: tuple[str, ...] = ()
    hints: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, module: str, name: str) -> Global:
        """What stands for ``module.name``.

        Raises:
            PickleRefused: it is not listed.
        """
        full = f"{module}.{name}"
        if full in self.allowed:
            return Global(full, self.allowed[full])
        if full.startswith(self.inert_prefixes):
            return Global(full, lambda *_: Inert(full))
        if full in self.hints:
            raise PickleRefused(self.hints[full])
        raise PickleRefused(
            f"it asks for '{full:.100}', which is not data, and is not opened; take a file with "
            "tensors and plain values only"
        )


Resolve: TypeAlias = Callable[[Any], Any]

# What a damaged pickle makes the steps below raise.
_DAMAGE = (
    *(ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError),
    RecursionError,
)


def read_pickle(stream: BinaryIO, vocabulary: Vocabulary, persistent: Resolve | None = None) -> Any:
    """One pickle from a stream, which is left behind its last byte.

    Args:
        stream: positioned at the start; read no further than the pickle goes.
        vocabulary: what it may name.
        persistent: turns a persistent id into a value; without it they are refused.

    Returns:
        dict, list, tuple, set, str, bytes, numbers, None, and what ``vocabulary`` builds.

    Raises:
        PickleRefused: with the reason.
    """
    bounded = _Bounded(stream)
    machine = _Machine(vocabulary, persistent, bounded)
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(cast(BinaryIO, bounded)):
            count += 1
            if count > _MOST_OPCODES:
                raise PickleRefused("it has more entries than any file of weights")
            if isinstance(argument, int) and argument.bit_length() > _MOST_INTEGER_BITS:
                raise PickleRefused("its pickle is damaged: a number in it is absurdly long")
            if opcode.name == "STOP":
                return machine.result()
            machine.run(opcode.name, argument)
    except PickleRefused:
        raise
    except _DAMAGE as error:
        raise PickleRefused(f"its pickle is damaged or cut short ({error!s:.100})") from error
    raise PickleRefused("its pickle has no end")


def read_pickle_bytes(
    content: bytes, vocabulary: Vocabulary, persistent: Resolve | None = None
) -> Any:
    """As :func:`read_pickle`, from memory."""
    return read_pickle(io.BytesIO(content), vocabulary, persistent)


class _Bounded:
    """A stream that never asks for more than it holds, nor for more than weights need.

    A read reserves what it is asked for, so both are checked before it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._begin = stream.tell()
        self._end = stream.seek(0, io.SEEK_END)
        stream.seek(self._begin)
        self._text_left = _MOST_TEXT_BYTES
        self._bytes_left = _MOST_BYTES
        self._opcode = b""

    @property
    def consumed(self) -> int:
        """Bytes read so far."""
        return self._stream.tell() - self._begin

    def read(self, count: int) -> bytes:
        if count == 1:
            # Of the opcodes with a length of 4 or 8 bytes, this is the opcode itself.
            self._opcode = self._stream.read(1)
            return self._opcode
        count = min(count, self._end - self._stream.tell())
        if self._opcode in _BYTES_OPCODES:
            self._bytes_left -= count
        else:
            self._text_left -= count
        if min(self._bytes_left, self._text_left) < 0:
            raise PickleRefused("it has longer texts or values than any file of weights")
        return self._stream.read(count)

    def readline(self) -> bytes:
        return self._stream.readline(_MOST_LINE_BYTES)

    def tell(self) -> int:
        return self._stream.tell()


class _Machine:
    """The stack and the memo; one method or table entry per opcode."""

    def __init__(
        self, vocabulary: Vocabulary, persistent: Resolve | None, stream: _Bounded
    ) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._vocabulary = vocabulary
        self._persistent = persistent
        self._stream = stream
        self._handed = 0

    def result(self) -> Any:
        if len(self.stack) != 1 or self._marks:
            raise PickleRefused("its pickle is damaged: it does not end in one value")
        return self.stack[0]

    def run(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _FRESH:
            self.stack.append(_FRESH[name]())
        elif name in _GETS:
            self.stack.append(self._memo[int(argument)])
        elif name in _PUTS:
            self._memo[int(argument)] = self.stack[-1]
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise PickleRefused(f"its pickle uses the instruction {name}, which no weights need")

    # ---- steps; each takes the opcode's argument, most ignore it

    def mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def pop_mark(self, _: Any = None) -> list[Any]:
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()
        else:
            self._take()

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def build_tuple(self, count: int | None) -> None:
        items = self.pop_mark() if count is None else [self._take() for _ in range(count)][::-1]
        self.stack.append(tuple(items))

    def build_list(self, _: Any) -> None:
        self.stack.append(self.pop_mark())

    def build_dict(self, _: Any) -> None:
        items = self.pop_mark()
        made: dict[Any, Any] = {}
        _set_items(made, items)
        self.stack.append(made)

    def build_set(self, _: Any) -> None:
        self.stack.append(frozenset(map(checked_key, self.pop_mark())))

    def append(self, _: Any) -> None:
        value = self._take()
        _extend(self.stack[-1], [value])

    def appends(self, _: Any) -> None:
        values = self.pop_mark()
        _extend(self.stack[-1], values)

    def add_items(self, _: Any) -> None:
        values = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise PickleRefused("its pickle is damaged: a set was expected")
        self.stack[-1].update(map(checked_key, values))

    def set_item(self, _: Any) -> None:
        value, key = self._take(), self._take()
        _set_items(self.stack[-1], [key, value])

    def set_items(self, _: Any) -> None:
        items = self.pop_mark()
        _set_items(self.stack[-1], items)

    def find_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self._vocabulary.resolve(module, name))

    def find_stacked_global(self, _: Any) -> None:
        name, module = self._take(), self._take()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleRefused("its pickle is damaged: a name was expected")
        self.stack.append(self._vocabulary.resolve(module, name))

    def reduce(self, _: Any) -> None:
        arguments, called = self._take(), self._take()
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise PickleRefused("its pickle calls something that has no name")
        self._charge(arguments)
        self.stack.append(called.construct(*arguments))

    def _charge(self, arguments: tuple[Any, ...]) -> None:
        """A few bytes can copy or parse one long value again, which no writer does."""
        self._handed += sum(len(part) for part in arguments if isinstance(part, _SIZED))
        if self._handed > self._stream.consumed + _FREE_ARGUMENTS:
            raise PickleRefused("its pickle builds more than it holds")

    def new_object_with_names(self, _: Any) -> None:
        if self._take():
            raise PickleRefused("its pickle builds an object with named arguments")
        self.reduce(None)

    def build(self, _: Any) -> None:
        """State of an object: attributes of a holder; of plain values it is not kept."""
        state = self._take()
        made = self.stack[-1]
        if hasattr(made, "set_state"):
            made.set_state(state)
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if isinstance(made, Inert):
            for part in parts:
                if isinstance(part, dict):
                    made.attributes.update(part)

    def persistent(self, _: Any) -> None:
        if self._persistent is None:
            raise PickleRefused("its pickle refers to data outside of it")
        self.stack.append(self._persistent(self._take()))

    def _take(self) -> Any:
        if self._marks and len(self.stack) <= self._marks[-1]:
            raise PickleRefused("its pickle is damaged: a value is missing")
        return self.stack.pop()


def checked_key(key: Any) -> Any:
    """A key whose hash is cheap and unlike that of other keys, and whose name is short.

    Nested tuples could be as deep as the file is long. Hashes of long integers, and of tuples of
    numbers, can be made equal at will, and then every entry is compared with every other. A long
    name that is shared could be repeated until memory ends by whoever lists names. A class becomes
    its name: Lightning before 1.5 keeps the state of a callback under its class.
    """
    key = key.name if isinstance(key, Global) else key
    if isinstance(key, tuple):
        plain = len(key) <= _MOST_KEY_PARTS and all(isinstance(part, str) for part in key)
    elif isinstance(key, int):
        plain = -(2**63) <= key < 2**64
    else:
        plain = key is None or isinstance(key, str | bytes | float)
    if not plain:
        raise PickleRefused("its pickle uses a key that is neither text nor a number")
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, str | bytes) and len(part) > _MOST_KEY_LENGTH for part in parts):
        raise PickleRefused(f"its pickle uses a key of more than {_MOST_KEY_LENGTH} letters")
    return key


def _set_items(target: Any, items: list[Any]) -> None:
    mapping = target.attributes if isinstance(target, Inert) else target
    if not isinstance(mapping, dict) or len(items) % 2:
        raise PickleRefused("its pickle is damaged: a dictionary was expected")
    for key, value in zip(items[::2], items[1::2], strict=True):
        mapping[checked_key(key)] = value


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Inert):
        return  # the items of a list of another class; nothing here reads them
    if not isinstance(target, list):
        raise PickleRefused("its pickle is damaged: a list was expected")
    target.extend(values)


_SIZED = (str, bytes, list, tuple, dict, set, frozenset)
_BYTES_OPCODES = (b"B", b"\x8e")  # BINBYTES, BINBYTES8
_IGNORED = frozenset({"PROTO", "FRAME"})
_PUSHED = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
        *("BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
_FRESH: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_STEPS: Mapping[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "MEMOIZE": _Machine.memoize,
    "TUPLE": lambda machine, _: machine.build_tuple(None),
    "TUPLE1": lambda machine, _: machine.build_tuple(1),
    "TUPLE2": lambda machine, _: machine.build_tuple(2),
    "TUPLE3": lambda machine, _: machine.build_tuple(3),
    "LIST": _Machine.build_list,
    "DICT": _Machine.build_dict,
    "FROZENSET": _Machine.build_set,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.find_global,
    "STACK_GLOBAL": _Machine.find_stacked_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_object_with_names,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
