"""What JSON gives back, as frozen data holds it."""

from __future__ import annotations

from typing import Any


def tuples(value: Any) -> Any:
    """JSON's lists as tuples, at any depth."""
    if isinstance(value, list):
        return tuple(map(tuples, value))
    if isinstance(value, dict):
        return {name: tuples(part) for name, part in value.items()}
    return value
