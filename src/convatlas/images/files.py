"""Opening image files: what may be read, and what a file that cannot be used is told."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from convatlas.errors import UserError


class ImageError(UserError):
    """A file that cannot be used as an image: names the file and says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ReadError(ImageError):
    """A file that cannot be read: its content is not known."""


def status(path: Path) -> os.stat_result:
    """`Path.stat` of a regular file.

    Raises:
        ReadError: there is no such file, or it is a folder, a device or a pipe.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, ValueError) as error:
        raise ReadError(path, "there is no such file") from error
    except OSError as error:
        raise read_error(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise ReadError(path, "a folder, not an image")
    if not stat.S_ISREG(found.st_mode):
        # To open a pipe would be to wait for whoever writes to it.
        raise ReadError(path, "a device or a pipe, not an image")
    return found


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading.

    Raises:
        ReadError: it is not a regular file, or may not be read.
    """
    status(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise read_error(path, error) from error
    with file:
        yield file


def read_error(path: Path, error: OSError) -> ReadError:
    """What the operating system says of a file that it cannot read."""
    if error.errno == errno.ELOOP:
        return ReadError(path, "a symbolic link that leads back to itself")
    return ReadError(path, f"cannot be read ({error.strerror})")


def path_of(image: object) -> Path:
    """The file of an image in messages: its path, or the one that Pillow opened it from, if any."""
    return Path(image if isinstance(image, str | Path) else getattr(image, "filename", "") or "image")
