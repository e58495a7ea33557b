"""JSON objects that carry their own checksum, so that a flipped byte is noticed where the file is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from convatlas.errors import UserError

SHA256 = "sha256"
"""The member that holds the checksum: of the other members as JSON with sorted names and without spaces, so that only
what an object says counts, and not how it is laid out."""


class ChecksumError(UserError):
    """A file's content is not what was written."""


def sealed_json(values: Mapping[str, Any], *, indent: int | None = 2) -> bytes:
    """The content of a file: the object with its checksum, which comes first, since then its line can be removed.

    Args:
        values: as `json.dumps` takes them; the names of members are text, at any depth.
        indent: None: all on one line.
    """
    return (json.dumps({SHA256: _checksum(values), **values}, indent=indent) + "\n").encode()


def unsealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The object without its checksum. Earlier versions wrote none, and whoever edits a file by hand removes it.

    Args:
        values: what `json.loads` gives of a file's content.

    Raises:
        ChecksumError: its checksum is not its content's.
    """
    rest = {name: value for name, value in values.items() if name != SHA256}
    if SHA256 not in values:
        return rest
    try:
        whole = values[SHA256] == _checksum(rest)
    except RecursionError:
        # So deep that reading it was barely possible: nothing that was written here.
        whole = False
    if not whole:
        raise ChecksumError(
            "its checksum is not its content's, so that it is damaged or was edited by hand; if you edited it, remove "
            f'its line "{SHA256}" too'
        )
    return rest


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
