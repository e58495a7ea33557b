"""One writer for a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convatlas.errors import UserError

LOCK = ".lock"
PATIENCE_S = 0.1
"""How long a lock that must not wait is tried: another process may be giving it back just now."""


class LockedError(UserError):
    """Another process has the folder now; it gives it back when it is done, or ends."""


@contextmanager
def lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes, and other holders in this one, out of a folder; the lock ends with its process.

    Args:
        folder: made if it is missing.
        wait: until the other process is done.

    Raises:
        LockedError: another process writes to this folder now.
        OSError: the folder cannot be made or written.
    """
    # Loaded here: starting the command must not pay for it.
    from filelock import FileLock, Timeout

    path = folder / LOCK
    held = FileLock(path, timeout=-1 if wait else PATIENCE_S, poll_interval=0.02)
    while not held.is_locked:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire()
        except Timeout as error:
            raise LockedError(f"another process is writing to {folder} now") from error
        except FileNotFoundError:
            # Who held it before has just removed the whole folder.
            continue
    try:
        yield
    finally:
        if os.name == "posix":
            # Before it is given back: whoever waits for a file that was removed starts over. On Windows nobody can
            # remove a file that is open, and the lock removes its own.
            path.unlink(missing_ok=True)
        held.release()


def clear_lock(folder: Path) -> None:
    """Remove the lock of a process that was killed when its work was done; one that is held stays."""
    if (folder / LOCK).exists():
        # Whoever may only read the folder can do without.
        with suppress(UserError, OSError), lock(folder):
            pass


def occupied(folder: Path, *, but: Collection[str] = ()) -> bool:
    """Whether there are files that are not ours. Hidden ones may be ours, left by a process that was killed.

    Args:
        but: names that are ours too.
    """
    return folder.exists() and (
        not folder.is_dir() or any(not path.name.startswith(".") and path.name not in but for path in folder.iterdir())
    )
