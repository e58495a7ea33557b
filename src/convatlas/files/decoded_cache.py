"""The folder of the cache of decoded images: its entries, its size limit, and making room.

Each entry is a folder with an index and a file of pixels, which `data.cache` writes and reads. Here no pixel is read,
so that listing is quick.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files.lock import LOCK, lock
from convatlas.files.sealed_json import unsealed
from convatlas.formatting import parse_size

LIMIT = "CONVATLAS_CACHE_LIMIT"
DEFAULT_LIMIT = 50 * 2**30
OF_FREE = 0.9
"""The part of the free disk space that the cache may take: the runs need some."""

INDEX = "index.json"
IMAGES = "images"
ENTRY = ".decoded"
"""Suffix of an entry's folder: nothing else in the cache is ever removed to make room."""
DIGESTS = ".sources.json"
"""Suffix of a file that remembers the digests of a folder's images."""


class EntryKind(StrEnum):
    """What an entry holds."""

    RAW = "raw"
    """Pixels for training; large images may be decoded approximately."""
    JPEG = "jpeg"
    """Images for training whose pixels would be too many. A little is lost; evaluation reads the files instead."""
    EXACT = "exact"
    """Exact pixels for evaluation."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished entry: a folder with an index and a file of pixels."""

    folder: Path
    source: str
    """The folder of images that it was made from."""
    num_images: int
    side: int
    """Of the images, in pixels."""
    kind: EntryKind
    num_bytes: int
    used: float
    """When it was last used, in seconds since 1970."""


def entries(cache: Path) -> list[Entry]:
    """The finished entries, the last used first; damaged ones are left out."""
    found = []
    for folder in _folders(cache):
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            index = unsealed(json.loads((folder / INDEX).read_bytes()))
            found.append(
                Entry(
                    folder=folder,
                    source=str(index["source"]),
                    num_images=len(index["contents"]),
                    side=int(index["side"]),
                    kind=EntryKind(index["kind"]),
                    num_bytes=num_bytes_of(folder),
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
    """Bytes that the cache may take, from the environment variable `CONVATLAS_CACHE_LIMIT`, as 500MB or 20GiB.

    Raises:
        UserError: the variable is not a size.
    """
    text = os.environ.get(LIMIT)
    if not text:
        return DEFAULT_LIMIT
    num_bytes = parse_size(text)
    if num_bytes is None:
        raise UserError(f"{LIMIT} is {text!r}, which is not a size; it must be a number of bytes, as 500MB or 20GiB")
    return num_bytes


def allowance(cache: Path) -> int:
    """Bytes that all entries together may take: the limit, or less if the disk has less."""
    free = shutil.disk_usage(cache).free
    return min(limit(), footprint(cache) + int(OF_FREE * free))


def footprint(cache: Path) -> int:
    """Bytes that all entries take, also those that are being written."""
    return sum(map(num_bytes_of, _folders(cache)))


def make_room(cache: Path, num_bytes: int, *, keep: Collection[Path]) -> None:
    """Remove unfinished entries, and then those used longest ago, until so many bytes more are allowed.

    A process that reads a removed entry is not disturbed: its memory map keeps the file alive until it ends.

    Args:
        keep: entries that stay: the one that room is made for, and what it belongs to.
    """
    others = [folder for folder in _folders(cache) if folder not in keep]
    excess = footprint(cache) + num_bytes - allowance(cache)
    for folder in sorted(others, key=_used):
        if excess <= 0 and (folder / INDEX).exists():
            break
        size = num_bytes_of(folder)
        if remove(folder):
            excess -= size


def clear(cache: Path) -> tuple[int, list[Path]]:
    """Remove all entries, and the remembered digests of their sources.

    Returns:
        How many bytes that freed, and the entries that stay because a process writes them now.
    """
    freed, busy = 0, []
    for folder in _folders(cache):
        size = num_bytes_of(folder)
        if remove(folder):
            freed += size
        else:
            busy.append(folder)
    for digests in cache.glob(f"*{DIGESTS}"):
        freed += digests.stat().st_size
        digests.unlink(missing_ok=True)
    return freed, busy


def remove(folder: Path) -> bool:
    """Remove an entry; False if a process writes it now, or has it open on a system that keeps open files."""
    try:
        with lock(folder):
            for path in sorted(folder.iterdir()):
                if path.name == LOCK:
                    # It is open, and removed when it is given back.
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    except UserError:
        return False
    except PermissionError:
        if os.name == "nt":
            return False
        raise
    with suppress(OSError):
        # Unless another process writes it anew by now.
        folder.rmdir()
    return True


def num_bytes_of(folder: Path) -> int:
    """Bytes that an entry takes; 0 if there is none."""
    total = 0
    # Others may remove it meanwhile.
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            total += path.stat().st_size
    return total


def _folders(cache: Path) -> list[Path]:
    return sorted(cache.glob(f"*{ENTRY}"))


def _used(folder: Path) -> float:
    """When an entry was last used; 0 if it is unfinished."""
    try:
        return (folder / INDEX).stat().st_mtime
    except FileNotFoundError:
        return 0
