"""Frozen data from JSON and back, held to its types: whoever uses it later need not check again."""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from convatlas.errors import UserError
from convatlas.files.sealed_json import unsealed

T = TypeVar("T")

KIND = "kind"
"""The key that tells the classes of a union apart."""
MAX_INTEGER = 2**63 - 1
MAX_SHOWN = 40
"""Characters of a value in a message."""
MAX_TEXT = 4096
"""Characters of a name or a path: what Linux allows a path."""
MAX_BYTES = 2**23
"""Of a file of ours in JSON, which takes some 200 MiB at most to parse."""


class NewerFormatError(UserError):
    """A newer version wrote the file."""


class MalformedJsonError(ValueError):
    """A value that does not fit its type; the message names the field."""


def decoded(hint: type[T], value: Any, where: str = "") -> T:
    """An instance of a type, from what `json.loads` gives.

    Dataclasses come from objects (fields without a default must be there, unknown fields must not), tuples and named
    tuples from lists, enumerations from their values. A union of dataclasses is told apart by the key "kind", the name
    of the class. Numbers are finite, integers from 0 to 2^63 - 1, and texts of `MAX_TEXT` characters at most.

    Args:
        where: the field, for messages.

    Raises:
        MalformedJsonError: the value does not fit.
        UserError: a dataclass refuses its values.
    """
    result: T = _decoded(hint, value, where)
    return result


def _decoded(hint: Any, value: Any, where: str) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _member(parts, value, where)
    if origin is tuple:
        return _tuple(parts, value, where)
    if origin is dict:
        _expect(isinstance(value, dict), value, "an object", where)
        return {
            _decoded(parts[0], key, where): _decoded(parts[1], part, f"{where}.{shown(key, quoted=False)}")
            for key, part in value.items()
        }
    if origin is Literal:
        _expect(value in parts, value, f"one of {', '.join(map(repr, parts))}", where)
        return value
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, where)
    if hint is Any:
        return value
    if issubclass(hint, tuple):
        return hint(*_tuple(tuple(get_type_hints(hint).values()), value, where))
    if hint is NoneType:
        _expect(value is None, value, "null", where)
        return None
    if issubclass(hint, Enum):
        values = [member.value for member in hint]
        _expect(isinstance(value, str) and value in values, value, f"one of {', '.join(map(str, values))}", where)
        return hint(value)
    if hint is float:
        holds = (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) <= MAX_INTEGER)
        _expect(holds, value, "a number", where)
        return float(value)
    if hint is int:
        _expect(type(value) is int and 0 <= value <= MAX_INTEGER, value, "a whole number from 0", where)
        return value
    if hint is str and isinstance(value, str) and len(value) > MAX_TEXT:
        raise MalformedJsonError(f"{where or 'it'} has {len(value):,} characters, of {MAX_TEXT:,} at most")
    _expect(type(value) is hint, value, {str: "text", bool: "true or false"}.get(hint, hint.__name__), where)
    return value


def _member(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in parts:
        return None
    others = [part for part in parts if part is not NoneType]
    if len(others) > 1 and all(map(dataclasses.is_dataclass, others)):
        _expect(isinstance(value, dict), value, "an object", where)
        named = {part.__name__: part for part in others}
        kind = value.get(KIND)
        _expect(isinstance(kind, str) and kind in named, kind, f"one of {', '.join(named)}", f"{where}.{KIND}")
        return _dataclass(named[kind], {name: part for name, part in value.items() if name != KIND}, where)
    for part in others[:-1]:
        try:
            return _decoded(part, value, where)
        except MalformedJsonError:
            continue
    return _decoded(others[-1], value, where)


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list | tuple), value, "a list", where)
    hints = parts[:1] * len(value) if parts[1:] == (...,) else parts
    _expect(len(value) == len(hints), value, f"a list of {len(hints)}", where)
    return tuple(_decoded(hint, part, f"{where}[{i}]") for i, (hint, part) in enumerate(zip(hints, value, strict=True)))


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, "an object", where)
    hints = field_types(kind)
    if unknown := sorted(value.keys() - hints.keys()):
        raise MalformedJsonError(f"{where or 'it'} has the unknown field {shown(unknown[0])}")
    # What a default factory makes is of now and here, and not of whoever wrote the file.
    required = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    if missing := sorted(required - value.keys()):
        raise MalformedJsonError(f"{where or 'it'} has no {missing[0]}")
    prefix = f"{where}." if where else ""
    return kind(**{name: _decoded(hints[name], part, f"{prefix}{name}") for name, part in value.items()})


def _expect(holds: bool, value: Any, what: str, where: str) -> None:
    if not holds:
        raise MalformedJsonError(f"{where or 'it'} is {shown(value)}, not {what}")


def shown(value: Any, *, quoted: bool = True) -> str:
    """A value on part of a line, however long or deeply nested it is."""
    shown = reprlib.repr(value)
    if not quoted and isinstance(value, str):
        shown = shown[1:-1]
    return shown if len(shown) < MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."


@cache
def field_types(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, by name."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def encoded(value: Any) -> Any:
    """What `json.dumps` takes, of the same data; of a class of a union, with its name as "kind"."""
    if not dataclasses.is_dataclass(value):
        if isinstance(value, list | tuple):
            return [encoded(part) for part in value]
        return {name: encoded(part) for name, part in value.items()} if isinstance(value, dict) else value
    values = {}
    kind: Any = type(value)
    for name, hint in field_types(kind).items():
        part = getattr(value, name)
        values[name] = encoded(part)
        members = [member for member in get_args(hint) if dataclasses.is_dataclass(member)]
        if get_origin(hint) in (Union, UnionType) and len(members) > 1 and dataclasses.is_dataclass(part):
            values[name][KIND] = type(part).__name__
    return values


def parsed_object(content: bytes, newest_format: int) -> dict[str, Any]:
    """A file's JSON object, of a format that this version knows, without its checksum.

    Raises:
        MalformedJsonError: it is not JSON or not an object, or has no format.
        ChecksumError: its checksum is not its content's.
        NewerFormatError: a newer version wrote it.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MalformedJsonError("it is not JSON") from error
    _expect(isinstance(values, dict), values, "an object", "")
    values = unsealed(values)
    written = decoded(int, values.get("format"), "format")
    if written > newest_format:
        raise NewerFormatError("written by a newer convatlas; update this one to read it")
    if not written:
        raise MalformedJsonError("there is no format 0")
    return values


@contextmanager
def as_file_error(where: str) -> Iterator[None]:
    """While active, what is wrong with a file's content is an error that names the file.

    Raises:
        UserError: a value does not fit its type, or contradicts another.
    """
    try:
        yield
    except MalformedJsonError as error:
        raise UserError(f"{where} is damaged or was not written by convatlas ({error})") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
