"""From the name or the path of a data set to its source."""

import os
from dataclasses import replace
from pathlib import Path

from convatlas.data.dataset import Source
from convatlas.data.digits import Digits
from convatlas.data.folder import Folder
from convatlas.data.hub import PREFIX, Hub
from convatlas.data.layout import lies_in
from convatlas.data.standard import STANDARDS, Standard
from convatlas.data.table import Table
from convatlas.errors import UserError, unknown

NAMED: tuple[Source, ...] = (Digits(), *STANDARDS)


def find(name: str | Path, table: Table | None = None) -> Source:
    """A standard set by its name, a folder of images by its path, or a streamed set by `hf:` and its name.

    Args:
        table: what says the classes of a folder's images; None: their folders do.

    Raises:
        UserError: there is no such set or folder, and then the message gives similar names; or it takes no table.
    """
    found = _find(name)
    if table is None:
        return found
    if not isinstance(found, Folder):
        raise UserError(f"{name} has classes of its own; a table of labels goes with a folder of images")
    return replace(found, table=table)


def _find(name: str | Path) -> Source:
    named = {source.name: source for source in NAMED}
    if str(name) in named:
        return named[str(name)]
    if is_streamed(str(name)):
        return Hub.named(str(name).removeprefix(PREFIX))
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (RuntimeError, OSError) as error:
        # The home of nobody, or too long for a path.
        raise UserError(f"there is no folder {name}: {error}") from error
    if str(name) and is_folder:
        return Folder(path)
    if is_file:
        raise UserError(f"{name} is a file; images are read from a folder with a folder for each class")
    if isinstance(name, Path) or os.sep in name:
        raise UserError(f"there is no folder {name}")
    raise unknown("data set or folder", name, named)


def check_outside(out: str | Path, data: str | Path) -> None:
    """Nothing is written where a data set is read, which would take it for images the next time.

    Args:
        out: a folder or a file that is to be written.
        data: what `find` finds.

    Raises:
        UserError: it lies in the data set's folder, by whatever links; or there is no such data set.
    """
    folder = find(data).path
    if folder is not None and lies_in(Path(out), folder):
        raise UserError(f"{out} lies in the data {folder}, which is read as images; name a place elsewhere with `out`")


def notes_on_name(name: str | Path) -> tuple[str, ...]:
    """A line for people where a name could mean two things."""
    if str(name) not in _names() or not Path(name).is_dir():
        return ()
    return (f"{name} is the standard data set of that name; the folder {name} beside it is ./{name}",)


def portable_name(name: str) -> str:
    """A data set's name without where it lies on this machine: of a folder's path the last part."""
    if name in _names() or is_hub_name(name):
        return name
    folder = Path(name).name
    return f"./{folder}" if folder in _names() else folder


def is_standard(name: str) -> bool:
    """Whether that is the name of a standard set, the same wherever it is called."""
    return name in _names()


def is_streamed(name: str) -> bool:
    """Whether that is read through the library of the Hugging Face hub, which may connect to the network."""
    return name.startswith(PREFIX)


def what_is_read(name: str) -> str:
    """What loading that data set does beyond this package and its caches; "" if nothing.

    Raises:
        UserError: see `find`.
    """
    source = find(name)
    if isinstance(source, Standard):
        return "" if source.is_here else f"downloading {name}"
    if source.path is not None:
        return f"reading the images of {name}"
    return f"connecting to the Hugging Face hub for {name}" if is_streamed(name) else ""


def fetch(name: str | Path) -> None:
    """Download a standard set's files, if they are not here.

    Raises:
        UserError: there is no such set or folder, or it cannot be fetched.
    """
    source = find(name)
    if isinstance(source, Standard):
        source.fetch()


def published_checksum(name: str | Path) -> str:
    """Of the images and labels of a standard set, by which its files are checked; "" for all others."""
    return {source.name: source.checksum for source in NAMED if isinstance(source, Standard)}.get(str(name), "")


def _names() -> set[str]:
    return {source.name for source in NAMED}


def is_hub_name(name: str) -> bool:
    return is_streamed(name) and not Path(name.removeprefix(PREFIX)).is_absolute()
