"""The error for mistakes that the user can fix.

A `UserError` is one line that says what was wrong and what to do. The command prints it and exits with status 2. Any
other exception is a bug in this package and keeps its traceback.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake of the user's. The message is one line, and complete without the traceback."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among `known`; it suggests the nearest ones.

    Args:
        kind: what is named, as "network".
    """
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    some = f"{', '.join(known[:10])}{' and more' if len(known) > 10 else ''}"
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {some}"
    return UserError(f"there is no {kind} {name!r}; {hint}")


def check_same(place: Path, recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Check that what is asked for is what was begun there.

    Raises:
        UserError: it is not; the message names what differs.
    """
    differences = [
        f"{name} {recorded.get(name)}, not {value}" for name, value in asked.items() if recorded.get(name) != value
    ]
    if differences:
        raise UserError(f"{place} was started with {'; '.join(differences)}; choose a new place with `out`")


def check_within(values: object, **limits: tuple[float, float]) -> None:
    """Check numbers that an object has by these names against their lowest and highest values; None has none.

    Raises:
        UserError: one is beyond, or no number.
    """
    for name, (low, high) in limits.items():
        value = getattr(values, name)
        if value is not None and not low <= value <= high:
            shown, least, most = (f"{part:,}" if isinstance(part, int) else f"{part:g}" for part in (value, low, high))
            raise UserError(f"`{name}` {shown} does not work; it must be {least} to {most}")
