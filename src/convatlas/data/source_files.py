"""The image files of a folder, each known by a digest of its content; unchanged files are not read again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from convatlas.errors import UserError
from convatlas.files import clear_lock, lock, write
from convatlas.files.decoded_cache import DIGESTS
from convatlas.files.names import composed
from convatlas.files.sealed_json import sealed_json, unsealed
from convatlas.images import ReadError, opened, parallel_map, status

FORMAT = 2
"""Format 1 had no checksum."""
SETTLED_NS = 2 * 10**9
"""Nanoseconds after which another change shows in a file's time, on every file system."""


def sorting_key(path: PurePath) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sorts paths in the same order on every system, whether it tells cases apart and however it spells accents."""
    return tuple(map(composed, path.parts)), path.parts


class Stamp(NamedTuple):
    """What cannot stay the same when a file's content changes, unless a clock is turned back."""

    size: int
    modified: int
    """Nanoseconds, of the content."""
    changed: int
    """Nanoseconds, of anything, also of setting the other time back."""

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """
        Raises:
            ReadError: it is not a file that can be read.
        """
        found = status(path)
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when its content was read."""

    path: Path
    name: str
    """Its path below the folder."""
    stamp: Stamp
    content: bytes
    """SHA-256 of its content."""

    def check_unchanged(self) -> None:
        """
        Raises:
            UserError: the file is not as it was when its content was read.
        """
        try:
            same = Stamp.of(self.path) == self.stamp
        except ReadError:
            same = False
        if not same:
            raise UserError(f"{self.path} changed while it was decoded; start again when nothing writes there")


@dataclass(frozen=True)
class Scan:
    """Files below a folder, as they were when they were read."""

    found: list[SourceFile | ReadError]
    """Each with a digest of its content, or why it cannot be read."""
    digests: _Digests
    began: int

    def keep(self) -> None:
        """Remember the digests for the next time."""
        # A file that was written just now may be written again in the same tick of the clock.
        settled = self.began - SETTLED_NS
        self.digests.keep([one for one in self.found if isinstance(one, SourceFile) and one.stamp.modified < settled])


def scan(root: Path, paths: Sequence[Path], cache: Path) -> Scan:
    """Each file below `root` with a digest of its content, or why it cannot be read; nothing is written.

    As git does, `cache` remembers digests: a file whose size and times are as they were is not read again.
    """
    remembered = _Digests(cache, root)
    began = time.time_ns()

    def one(path: Path) -> SourceFile | ReadError:
        name = path.relative_to(root).as_posix()
        try:
            stamp = Stamp.of(path)
            if (content := remembered.get(name, stamp)) is None:
                with opened(path) as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            return SourceFile(path, name, stamp, content)
        except ReadError as error:
            return error
        except OSError as error:
            return ReadError(path, f"cannot be read ({error.strerror})")

    return Scan(list(parallel_map(one, paths)), remembered, began)


class _Digests:
    """Digests of the files below a folder, as they were when last read."""

    def __init__(self, cache: Path, root: Path) -> None:
        self._root = str(root.resolve())
        name = hashlib.sha256(self._root.encode(errors="surrogateescape")).hexdigest()[:32]
        self._path = cache / f"{name}{DIGESTS}"
        self._known: dict[str, tuple[Stamp, bytes]] = {}
        # If the file is damaged, all is read anew.
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            values = unsealed(json.loads(self._path.read_bytes()))
            if values["format"] == FORMAT and values["root"] == self._root:
                self._known = {
                    name: (Stamp(*stamp), bytes.fromhex(content)) for name, (stamp, content) in values["files"].items()
                }

    def get(self, name: str, stamp: Stamp) -> bytes | None:
        """The digest of a file that has not changed."""
        known = self._known.get(name)
        return known[1] if known is not None and known[0] == stamp else None

    def keep(self, sources: Sequence[SourceFile]) -> None:
        """Write these, and only these, for the next time."""
        now = {source.name: (source.stamp, source.content) for source in sources}
        if now == self._known:
            clear_lock(self._path.parent)
            return
        files = {name: (stamp, content.hex()) for name, (stamp, content) in now.items()}
        content = sealed_json({"format": FORMAT, "root": self._root, "files": files}, indent=None)
        # If they cannot be kept, or another process keeps its own now, the next run reads the files again.
        with suppress(OSError, UserError), lock(self._path.parent):
            write(self._path, content)
