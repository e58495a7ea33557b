"""One writer a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convatlas.errors import UserError


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """While active, no other process gets this lock; it ends with its process, however that ends.

    On systems without `flock` it does nothing.

    Raises:
        UserError: another process writes to this folder now.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path = folder / ".lock"
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is writing to {folder} now") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
