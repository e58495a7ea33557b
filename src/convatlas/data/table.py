"""A table beside the images of a folder: the class of each, and what else is known of them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from convatlas.data.layout import Layout, listed
from convatlas.errors import UserError, unknown
from convatlas.files import read
from convatlas.files.names import composed
from convatlas.images.listing import Unused

FILES = ("file", "file_name", "filename", "filepath", "path", "image", "image_name", "image_path")
LABELS = ("label", "class", "class_name", "category", "target")
"""What the columns of image files and of classes are called, whatever their capitals; the first that there is."""
MAX_TABLE_BYTES = 2**28
MAX_NAMED = 3
"""Files that a message names."""


@dataclass(frozen=True)
class Table:
    """A CSV file in the folder of a data set, with a row for each image."""

    path: str
    """Below the data set's folder, with slashes."""
    group_by: str | None = None
    """The column of what must not stand on both sides of a split, such as the patient; None: there is none."""

    @classmethod
    def of(cls, labels: str | Path, group_by: str | None, data: str | Path) -> Self:
        """
        Args:
            labels: from the working folder, or from the data set's.
            data: the folder of the data set.

        Raises:
            UserError: there is no such file, or it is not in the folder.
        """
        root, named = (Path(os.path.realpath(os.path.expanduser(path))) for path in (data, labels))
        # Both are tried: the working folder may have another table of that name.
        found = [path for path in (named, Path(os.path.realpath(root / labels))) if path.is_file()]
        if not found:
            raise UserError(f"there is no table {labels}")
        inside = [path for path in found if path.is_relative_to(root)]
        if not inside:
            raise UserError(f"{labels} is not in {data}; the table is a part of the data set, so put it there")
        return cls(inside[0].relative_to(root).as_posix(), group_by)

    def layout(self, root: Path) -> Layout:
        """The images of each class, the group of each image, and all other files.

        A row names a file below the folder, by its path, or by its name alone, with or without its suffix.

        Raises:
            UserError: the table cannot be read, lacks a column, or names an image that is not there or twice.
        """
        listing = listed(root, root)
        index = Index.of(listing.images, root)
        classes: dict[str, list[Path]] = {}
        of_image: dict[Path, tuple[str, str]] = {}
        unused = [one for one in listing.unused if one.path != root / self.path]
        missing: list[str] = []
        for name, label, group in self._rows(root):
            path = index.find(name, self.path)
            if path is None:
                missing.append(name)
            elif path in of_image:
                if of_image[path] != (label, group):
                    raise UserError(f"{self.path} has two different rows of {name}; keep the right one")
            elif label:
                of_image[path] = label, group
                classes.setdefault(label, []).append(path)
        if missing:
            more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
            raise UserError(
                f"{self.path} names images that are not in {root}: {', '.join(missing[:MAX_NAMED])}{more}; "
                "put them there, or take their rows out"
            )
        if not classes:
            raise UserError(f"{root / self.path} has no row with a class")
        unused += [Unused(path, f"no class in {self.path}") for path in listing.images if path not in of_image]
        groups = {path: group for path, (_, group) in of_image.items()} if self.group_by is not None else {}
        return Layout((classes,), tuple(unused), (), groups)

    def _rows(self, root: Path) -> Iterator[tuple[str, str, str]]:
        """(file, class, group) of each row.

        Raises:
            UserError: see `layout`.
        """
        path = root / self.path
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            raise UserError(f"{self.path} is not in {root}")
        try:
            text = read(path, MAX_TABLE_BYTES).decode("utf-8-sig")
        except FileNotFoundError as error:
            raise UserError(f"there is no {path}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not text in UTF-8; save the table as CSV in that encoding") from error
        rows = csv.reader(io.StringIO(text, newline=""), csv_dialect(text), strict=True)
        try:
            columns = [name.strip() for name in next(rows, [])]
            file, label = self._column(columns, FILES, "image files"), self._column(columns, LABELS, "classes")
            group = None
            if self.group_by is not None:
                if self.group_by not in columns:
                    raise unknown("column", self.group_by, columns)
                group = columns.index(self.group_by)
            for number, row in enumerate(rows, 2):
                if not any(row):
                    continue
                if len(row) != len(columns):
                    raise UserError(
                        f"row {number} of {path} has {len(row)} values, and there are {len(columns)} columns"
                    )
                of_group = "" if group is None else row[group].strip()
                if group is not None and not of_group:
                    raise UserError(f"row {number} of {path} has no {self.group_by}; fill it in, or take the row out")
                yield row[file].strip(), composed(row[label].strip()), of_group
        except csv.Error as error:
            raise UserError(f"{path} is not a table that can be read as CSV: {error}") from error

    def _column(self, columns: Sequence[str], names: Sequence[str], what: str) -> int:
        folded = [column.casefold() for column in columns]
        for name in names:
            if name in folded:
                return folded.index(name)
        raise UserError(
            f"{self.path} has no column of {what}; call one of its columns ({', '.join(columns)}) {names[0]}"
        )


def csv_dialect(text: str) -> type[csv.Dialect]:
    """With semicolons or tabs, as spreadsheets write them where a comma is in numbers, if the first line says so."""
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)

    class Separated(csv.excel):
        delimiter = separator

    return Separated


@dataclass(frozen=True)
class Index:
    """The images below a folder by all that a table may call them."""

    of_name: dict[str, list[Path]]

    @classmethod
    def of(cls, images: Sequence[Path], root: Path) -> Self:
        of_name: dict[str, list[Path]] = {}
        for path in images:
            relative = PurePosixPath(path.relative_to(root).as_posix())
            for name in {relative.as_posix(), relative.with_suffix("").as_posix(), relative.name, relative.stem}:
                of_name.setdefault(composed(name), []).append(path)
        return cls(of_name)

    def find(self, name: str, table: str) -> Path | None:
        """
        Raises:
            UserError: several images are called so.
        """
        asked = composed(PurePosixPath(name.replace("\\", "/")).as_posix())
        found = self.of_name.get(asked, [])
        # Its very path comes first.
        whole = [path for path in found if composed(path.as_posix()).endswith("/" + asked)]
        candidates = whole if len(whole) == 1 else found
        if len(candidates) > 1:
            raise UserError(f"{table} names {name}, and there are {candidates[0]} and {candidates[1]}; give its path")
        return candidates[0] if candidates else None
