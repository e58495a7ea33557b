"""From the name or the path of a data set to its source."""

import os
from pathlib import Path

from convatlas.data.dataset import Source
from convatlas.data.digits import Digits
from convatlas.data.folder import Folder
from convatlas.data.hub import PREFIX, Hub
from convatlas.data.standard import CIFAR10, FASHION_MNIST, MNIST, USPS
from convatlas.errors import UserError, unknown

NAMED: tuple[Source, ...] = (Digits(), MNIST, USPS, FASHION_MNIST, CIFAR10)


def find(name: str | Path) -> Source:
    """A standard set by its name, a folder of images by its path, or a streamed set by `hf:` and its name.

    Raises:
        UserError: there is no such set or folder; the message gives similar names.
    """
    named = {source.name: source for source in NAMED}
    if str(name) in named:
        return named[str(name)]
    if str(name).startswith(PREFIX):
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


def portable_name(name: str) -> str:
    """A data set's name without where it lies on this machine: of a folder's path the last part."""
    return name if name in {source.name for source in NAMED} or is_hub_name(name) else Path(name).name


def is_found_by_name(name: str) -> bool:
    """Whether `find` finds a set of that name wherever it is called: not that of a folder without its path."""
    return name != portable_name(name) or name in {source.name for source in NAMED} or is_hub_name(name)


def is_hub_name(name: str) -> bool:
    return name.startswith(PREFIX) and not Path(name.removeprefix(PREFIX)).is_absolute()
