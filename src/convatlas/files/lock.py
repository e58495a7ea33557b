"""One writer a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from convatlas.errors import UserError


@contextmanager
def lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """While active, no other process gets this lock; it ends with its process, however that ends.

    On systems without `flock` it does nothing.

    Args:
        folder: made where it is missing.
        wait: until the other process is done.

    Raises:
        UserError: another process writes to this folder now.
    """
    if sys.platform == "win32":
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    import fcntl

    path = folder / ".lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("w")
        except FileNotFoundError:
            # Who held it before has just removed the whole folder.
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"another process is writing to {folder} now") from error
            # Who held it before has removed this file; the next one's may be locked by somebody else.
            if not _lies_at(file, path):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def occupied(folder: Path) -> bool:
    """Whether somebody's files lie there. Hidden ones may be ours, of a process that was killed."""
    return folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir()))


def _lies_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
