"""A museum's folder: it appears whole or not at all, and in place of an earlier museum alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files import read, write
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import as_file_error, parsed_object
from convatlas.models.card import installed_versions

MARK = "museum.json"
"""By this file a folder is known as a museum. It names all others: nothing else is removed with an earlier one."""
FORMAT = 1
MAX_BYTES = 1_000_000
"""Of that file."""


def is_museum(folder: Path) -> bool:
    """Whether a museum was built there."""
    return (folder / MARK).is_file()


def check_free(folder: Path) -> None:
    """
    Raises:
        UserError: the folder holds something else than a museum, or a museum and something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give the museum a folder that is new or empty")
    ours = files_of_museum(folder) if is_museum(folder) else set()
    found = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    others = sorted(found - ours)
    if others:
        raise UserError(
            f"{folder} holds something else than a museum, as {others[0]}; choose a folder that is new or empty"
        )


def files_of_museum(folder: Path) -> set[str]:
    """The paths of the files that were written there.

    Raises:
        UserError: the file that says so is damaged, or a newer version wrote it.
    """
    with as_file_error(str(folder / MARK)):
        values = parsed_object(read(folder / MARK, MAX_BYTES), FORMAT)
    return {MARK, *map(str, values.get("files", ()))}


def put(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Put a museum's files into a folder, in place of an earlier museum: readers see the old one or the new one."""
    # Where it is a link, what it leads to.
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{part}") for part in ("new", "old"))
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    mark = {"format": FORMAT, "convatlas": installed_versions()["convatlas"], "files": sorted(contents)}
    try:
        for name, content in {**contents, MARK: sealed_json(mark)}.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            write(new / name, content)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        # Between the two moves: what was there comes back.
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
