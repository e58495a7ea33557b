"""Every file below a folder: the images, and whatever else lies there with the reason why it is not used."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from convatlas.errors import UserError
from convatlas.files.names import CARD, RECORD
from convatlas.formatting import count
from convatlas.images.files import ImageError, ReadError
from convatlas.images.sniff import identify, why_not

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".heic", ".heif"}
)
"""Files with these suffixes are meant to be images; of others, the content is asked."""
DOCUMENTS = frozenset({"PDF", "EPS", "DjVu"})
"""Formats that hold texts rather than images: a license or a data sheet beside the images is no damaged image."""
HIDDEN, NO_IMAGE, LINK = "hidden", "no image", "a link to a folder, which is not followed"
OUTPUT = "a run or a model of convatlas"
NUM_REASONS = 5
"""Reasons that a line gives, each with the first file of it."""


class Unused(NamedTuple):
    """A file that is not used, or a folder that is not entered."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Listing:
    """All that lies below a folder, each file once."""

    images: tuple[Path, ...]
    """In the order of their paths. Those that cannot be used are among them; decoding says why."""
    unused: tuple[Unused, ...]
    """The rest."""

    @property
    def outputs(self) -> list[Path]:
        """The folders of runs and models."""
        return [path for path, reason in self.unused if reason == OUTPUT]


def list_files(folder: Path) -> Listing:
    """The files at any depth. Hidden folders, links to folders, and folders of runs or models are not entered.

    A file is an image if its suffix says so, or its content.

    Raises:
        UserError: a folder among them cannot be read.
    """
    images: list[Path] = []
    unused: list[Unused] = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        here = Path(parent)
        if is_output(files):
            unused.append(Unused(here, OUTPUT))
            folders.clear()
            continue
        # What is taken out of this list is not entered.
        for name in [*folders]:
            if reason := HIDDEN if is_hidden(name) else LINK if (here / name).is_symlink() else None:
                folders.remove(name)
                unused.append(Unused(here / name, reason))
        for name in files:
            if reason := why_unused(here / name):
                unused.append(Unused(here / name, reason))
            else:
                images.append(here / name)
    return Listing(tuple(sorted(images)), tuple(sorted(unused)))


def why_unused(path: Path) -> str | None:
    """Why a file is not taken for an image; None if it is."""
    if is_hidden(path.name):
        return HIDDEN
    if path.suffix.lower() in SUFFIXES:
        return None
    try:
        found = identify(path)
    except ReadError as error:
        return error.reason
    if found is None:
        return NO_IMAGE
    return why_not(found) if found in DOCUMENTS else None


def is_hidden(name: str) -> bool:
    # The second is what macOS adds to archives: a hidden file for each that is there.
    return name.startswith(".") or name == "__MACOSX"


def is_output(names: Collection[str]) -> bool:
    """Whether a folder of these files is a run's or a model's; other programs write a model.json too."""
    found = {CARD, RECORD} & set(names)
    return len(found) == 2 or (bool(found) and any(name.endswith(".safetensors") for name in names))


def refuse(error: OSError) -> NoReturn:
    """
    Raises:
        UserError: always, and names the folder.
    """
    raise UserError(f"the folder {error.filename} cannot be read ({error.strerror})") from error


def summary(files: Sequence[Unused | ImageError], root: Path | None = None) -> str:
    """In one line, `cat/a.txt and 11 more (no image), .git (hidden)`: the first file of each reason, and how many.

    Args:
        root: the folder from which the files are named; None: by their whole paths.
    """
    of_reason: dict[str, list[Path]] = {}
    for file in files:
        of_reason.setdefault(file.reason, []).append(file.path)
    groups = sorted(of_reason.items(), key=lambda group: -len(group[1]))
    parts = []
    for reason, paths in groups[:NUM_REASONS]:
        first = paths[0] if root is None else paths[0].relative_to(root)
        more = f" and {count(len(paths) - 1)} more" if len(paths) > 1 else ""
        parts.append(f"{first}{more} ({reason})")
    if rest := sum(len(paths) for _, paths in groups[NUM_REASONS:]):
        parts.append(f"and {count(rest)} for other reasons")
    return ", ".join(parts)
