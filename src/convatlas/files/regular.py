"""Reading files of anybody: regular ones only, since to open a pipe is to wait, and no more of them than expected."""

from __future__ import annotations

import stat
from pathlib import Path

from convatlas.errors import UserError
from convatlas.formatting import size


def read(path: Path, most: int | None = None) -> bytes:
    """The content of a file.

    Args:
        most: bytes that it may have; None: any number.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is a folder, a device or a pipe, cannot be read, or is larger than that.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            # A file may grow after it was asked for its size.
            content = file.read(-1 if most is None else most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        # As with a null in its name.
        raise FileNotFoundError(path) from error
    if most is not None and len(content) > most:
        raise UserError(f"{path} is larger than {size(most)}, so convatlas did not write it")
    return content


def check_regular(path: Path) -> None:
    """
    Raises:
        OSError: there is none.
        UserError: it is a folder, a device or a pipe.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{path} is a folder, a device or a pipe, not a file")


def num_bytes(path: Path) -> int | None:
    """The size of a regular file; None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
