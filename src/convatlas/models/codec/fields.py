"""Whether plain data holds what its types say, so that whoever reads it later need not ask again."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Iterable
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

UNSHOWN = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, halves of characters, and breaks of lines: a terminal obeys them or fails."""


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, down to the last part of it.

    What was read from JSON has plain tuples and words where its types say named tuples and enumerations. Numbers are
    finite, whole ones count something, and text can be shown.
    """
    origin, parts = get_origin(hint), get_args(hint)
    kind: Any = type(value)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is dict:
        return isinstance(value, dict) and fit(
            (*value, *value.values()), parts[:1] * len(value) + parts[1:] * len(value)
        )
    if origin is tuple:
        return isinstance(value, tuple) and fit(value, parts[:1] * len(value) if parts[1:] == (...,) else parts)
    if issubclass(hint, tuple):
        return isinstance(value, tuple) and fit(value, fields(hint).values())
    if dataclasses.is_dataclass(value):
        # A spec is of its own family's class.
        hints = fields(kind)
        return isinstance(value, hint) and fit((getattr(value, name) for name in hints), hints.values())
    if issubclass(hint, Enum):
        return any(value == member for member in hint)
    if hint is float:
        return kind in (int, float) and math.isfinite(value)
    if hint is int:
        return kind is int and 0 <= value < 2**63
    if hint is str:
        return isinstance(value, str) and UNSHOWN.isdisjoint(map(unicodedata.category, value))
    return kind is hint


def fit(values: Iterable[Any], hints: Iterable[Any]) -> bool:
    """Whether there are as many values as types, and each fits."""
    values, hints = tuple(values), tuple(hints)
    return len(values) == len(hints) and all(map(fits, values, hints))


@cache
def fields(kind: type) -> dict[str, Any]:
    """The types of the fields of a dataclass or a named tuple, by name."""
    hints = get_type_hints(kind)
    names = [part.name for part in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else hints
    return {name: hints[name] for name in names}
