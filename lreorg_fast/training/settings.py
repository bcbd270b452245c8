"""JSON data to validated dataclasses, and runs that may only go on with what they began with.

Types are checked, and a misspelt field names the nearest.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lreorg_fast.errors import ConfigError
from lreorg_fast.files import atomic_file, parse_json

T = TypeVar("T")
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def from_json(kind: type[T], data: Any, where: str = "") -> T:
    """Build the dataclass ``kind`` from JSON data; missing fields take their defaults.

    Fields may be bool, int, float, str, tuples and mappings of these, dataclasses of the same,
    and any of them or None. ``where`` is the path of ``data`` in its file, for messages.

    Raises:
        ConfigError: an unknown field, one of another type, or what the dataclass itself refuses;
            one sentence that names the field.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where or 'the configuration'} is {_shown(data)}, but must be an object"
        )
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for name in data:
        if name not in fields:
            raise ConfigError(_unknown(_join(where, name), name, list(fields)))
    hints = typing.get_type_hints(kind)
    values = {name: _value(hints[name], data[name], _join(where, name)) for name in data}
    missing = [name for name, field in fields.items() if _required(field) and name not in values]
    if missing:
        raise ConfigError(f"'{_join(where, missing[0])}' is missing; add it")
    return kind(**values)


def to_json(value: Any) -> Any:
    """A dataclass of :func:`from_json` as JSON data."""
    return dataclasses.asdict(value)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Paths of the fields in which two configurations, as JSON data, differ."""
    found: list[str] = []
    for name in sorted({*old, *new}):
        path, was, now = _join(where, name), old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += differences(was, now, path)
        elif was != now:
            found.append(path)
    return found


def settle(
    path: Path,
    new: Mapping[str, Any],
    decisive: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda record: record,
) -> None:
    """Write what a run is begun with, or compare it with what it was begun with.

    Args:
        path: of the record, in the folder of the run.
        new: JSON data.
        decisive: the part of a record that must be the same for the run to go on.

    Raises:
        ConfigError: it was begun with something else, or what is there cannot be read.
    """
    if path.exists():
        try:
            changed = differences(decisive(parse_json(path.read_bytes())), decisive(new))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"'{path}' cannot be read ({error}); name another folder for a new run"
            ) from error
        if changed:
            raise ConfigError(
                f"'{path.parent}' was begun with other settings ({', '.join(changed)}); name "
                "another folder, or restore them to go on"
            )
    with atomic_file(path, overwrite=True) as stream:
        stream.write(json.dumps(new, indent=1).encode())


def _value(hint: Any, data: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _value(hint, data, where)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(Any, hint), data, where)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise ConfigError(f"'{where}' is {_shown(data)}, but must be a list")
        return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise ConfigError(f"'{where}' is {_shown(data)}, but must be an object")
        return {key: _value(arguments[1], item, _join(where, key)) for key, item in data.items()}
    return _plain(hint, data, where)


def _plain(hint: type, data: Any, where: str) -> Any:
    number = isinstance(data, int | float) and not isinstance(data, bool)
    if hint is float and number:
        if not math.isfinite(data):
            raise ConfigError(f"'{where}' is {data}, but must be finite")
        return float(data)
    if isinstance(data, hint) and (hint is bool or not isinstance(data, bool)):
        return data
    raise ConfigError(f"'{where}' is {_shown(data)}, but must be {_WORDS[hint]}")


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _unknown(path: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
    return f"'{path!s:.80}' is no setting; {hint}"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _shown(data: Any) -> str:
    return f"{data!r:.60}"
