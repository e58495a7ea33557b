"""The cache of decoded images as files: what lies in it, how much may, and what makes room.

What the files hold is `data.cache`'s; here no image is read, and listing them is quick.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files.lock import lock

LIMIT = "CONVATLAS_CACHE_LIMIT"
DEFAULT_LIMIT = 50 * 2**30
OF_FREE = 0.9
"""Of what is free on the disk: the runs need some."""

INDEX = "index.json"
IMAGES = "images"
ENTRY = ".decoded"
"""What an entry's folder ends in: nothing else in the cache is ever removed to make room."""
MEMORY = ".sources.json"


class Kind(StrEnum):
    RAW = "raw"
    """Pixels."""
    JPEG = "jpeg"
    """For what would be too large. A little is lost, which prediction, that reads a file itself, does not lose."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished entry: a folder with an index and a file of images."""

    folder: Path
    source: str
    """The folder of images that it was made from."""
    num_images: int
    side: int
    kind: Kind
    num_bytes: int
    used: float
    """When last, in seconds since 1970."""


def entries(cache: Path) -> list[Entry]:
    """The finished entries, the last used first; what is damaged is none."""
    found = []
    for folder in _folders(cache):
        with suppress(OSError, ValueError, LookupError, TypeError):
            index = json.loads((folder / INDEX).read_bytes())
            found.append(
                Entry(
                    folder=folder,
                    source=str(index["source"]),
                    num_images=len(index["contents"]),
                    side=int(index["side"]),
                    kind=Kind(index["kind"]),
                    num_bytes=_size(folder),
                    used=_used(folder),
                )
            )
    return sorted(found, key=lambda entry: -entry.used)


def touch(folder: Path) -> None:
    """Note that an entry is used now."""
    # Whoever may only read a cache that others share can do without.
    with suppress(OSError):
        os.utime(folder / INDEX)


def limit() -> int:
    """Bytes that the cache may take, by the environment variable `CONVATLAS_CACHE_LIMIT`, as 500M or 20G.

    Raises:
        UserError: that is no size.
    """
    named = os.environ.get(LIMIT)
    if not named:
        return DEFAULT_LIMIT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", named.strip(), re.IGNORECASE)
    if match is None:
        raise UserError(f"{LIMIT} is {named!r}, which is no size; it must be a number of bytes, as 500M or 20G")
    return int(float(match[1]) * 2 ** (10 * " KMGT".index(match[2].upper() or " ")))


def allowance(cache: Path) -> int:
    """Bytes that all entries together may take: the limit, or less where the disk has not as much."""
    free = shutil.disk_usage(cache).free
    return min(limit(), footprint(cache) + int(OF_FREE * free))


def footprint(cache: Path) -> int:
    """Bytes that the entries take, with those that are being written."""
    return sum(map(_size, _folders(cache)))


def make_room(cache: Path, num_bytes: int, *, apart_from: Path) -> None:
    """Remove what was left unfinished, and then what was used longest ago, until so many bytes more are allowed.

    A process that reads a removed entry is not disturbed: its memory map keeps the file alive until it ends.

    Args:
        apart_from: the entry that room is made for.
    """
    others = [folder for folder in _folders(cache) if folder != apart_from]
    excess = footprint(cache) + num_bytes - allowance(cache)
    for folder in sorted(others, key=_used):
        if excess <= 0 and (folder / INDEX).exists():
            break
        size = _size(folder)
        if remove(folder):
            excess -= size


def clear(cache: Path) -> tuple[int, list[Path]]:
    """Remove all entries, and what is remembered of their sources.

    Returns:
        How many bytes that freed, and the entries that stay because a process writes them now.
    """
    freed, busy = 0, []
    for folder in _folders(cache):
        size = _size(folder)
        if remove(folder):
            freed += size
        else:
            busy.append(folder)
    for memory in cache.glob(f"*{MEMORY}"):
        freed += memory.stat().st_size
        memory.unlink(missing_ok=True)
    return freed, busy


def remove(folder: Path) -> bool:
    """Remove an entry; False where a process writes it now, or it is open on a system that keeps open files."""
    try:
        with lock(folder):
            shutil.rmtree(folder)
    except UserError:
        return False
    except PermissionError:
        if os.name == "nt":
            return False
        raise
    return True


def _folders(cache: Path) -> list[Path]:
    return sorted(cache.glob(f"*{ENTRY}"))


def _size(folder: Path) -> int:
    total = 0
    # Others may remove it meanwhile.
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            total += path.stat().st_size
    return total


def _used(folder: Path) -> float:
    """0 for what was left unfinished."""
    try:
        return (folder / INDEX).stat().st_mtime
    except FileNotFoundError:
        return 0
