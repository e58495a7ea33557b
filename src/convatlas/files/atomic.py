"""A file, or a folder of files, is written whole or not at all."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`: readers see the old file or the new one, never a part, also after a power cut.

    Raises:
        OSError: the disk is full or the folder may not be written; what was at `path` is still there.
    """
    # A folder has one writer at a time (`files.lock`), so a fixed name is safe, and what a killed writer left
    # behind is overwritten by the next instead of piling up.
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        # A full disk names no file; the person should know which.
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def put_folder(folder: Path, place: Path) -> None:
    """Move a finished folder of files to `place`, where nothing or an empty folder is, as `write` does with a file.

    Raises:
        OSError: the disk is full or something lies there; the folder is still where it was.
    """
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)
    os.replace(folder, place)
    _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; systems that cannot open a folder do this by themselves."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
