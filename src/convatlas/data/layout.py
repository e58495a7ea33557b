"""How a folder of images is laid out: a folder for each class, or such folders in a folder for each split."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convatlas.data.splits import DRAWN, NO_CLASSES, SplitKind, notes_on_splits, resembled, split_kind
from convatlas.errors import UserError
from convatlas.files.names import composed
from convatlas.images.listing import HIDDEN, Listing, Unused, is_hidden, list_files, refuse, summary

BESIDE = "beside the class folders"
TWICE = "a link to a folder that is read where it lies"
NO_SPLIT = "of a split that is not used"


@dataclass(frozen=True)
class Layout:
    splits: tuple[dict[str, list[Path]], ...]
    """The images of each class: of the training and the test split, or of one that is still to be split."""
    unused: tuple[Unused, ...]
    """All other files."""
    notes: tuple[str, ...]
    """Lines for people about what is used for what."""
    groups: Mapping[Path, str] = field(default_factory=dict)
    """Of each image, what must not stand on both sides of a split; empty: there are no groups."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the training folders' names."""
        return tuple(self.splits[0])

    @property
    def images(self) -> Iterator[Path]:
        return (path for split in self.splits for paths in split.values() for path in paths)


def read_layout(root: Path) -> Layout:
    """What each file below a folder is.

    A folder that is called like a split is one if it holds folders of images, or if another such lies beside it. One
    that holds images itself, among other classes, is a class.

    Raises:
        UserError: there are no classes, one has no images, they differ between the splits, it is not clear which
            folder is a split and which a class, or runs or models lie there.
    """
    folders, beside = folders_in(root, root)
    if not folders:
        raise UserError(f"{root} has no folders in it; make one for each class and put its images there")
    splits = [ClassFolders.of(folder, root) for folder in folders if split_kind(folder.name)]
    if len(splits) > 1 or (splits and (splits[0].with_images or len(folders) == 1)):
        others = {folder: listed(folder, root) for folder in folders if not split_kind(folder.name)}
        return layout_of_splits(root, splits, ClassFolders(root, others, beside))
    whole = ClassFolders(root, {folder: listed(folder, root) for folder in folders}, beside)
    check_no_splits(whole)
    return Layout((whole.classes(),), whole.unused, whole.notes)


@dataclass(frozen=True)
class ClassFolders:
    """The folders in a folder, each with the files below it."""

    root: Path
    listings: dict[Path, Listing]
    """In the order of their names."""
    beside: tuple[Unused, ...]

    @classmethod
    def of(cls, root: Path, data: Path) -> ClassFolders:
        """
        Args:
            data: the folder of the whole data set.
        """
        folders, beside = folders_in(root, data)
        return cls(root, {folder: listed(folder, data) for folder in folders}, beside)

    @property
    def with_images(self) -> list[Path]:
        return [folder for folder, listing in self.listings.items() if listing.images]

    @property
    def unused(self) -> tuple[Unused, ...]:
        return (*self.beside, *(one for listing in self.listings.values() for one in listing.unused))

    @property
    def of_class(self) -> dict[str, list[Path]]:
        """The folders of each class: one, or those whose names Unicode writes in several ways."""
        folders: dict[str, list[Path]] = {}
        for folder in self.listings:
            folders.setdefault(composed(folder.name), []).append(folder)
        return folders

    def classes(self) -> dict[str, list[Path]]:
        """The images of each class.

        Raises:
            UserError: one has none.
        """
        classes: dict[str, list[Path]] = {}
        for name, folders in self.of_class.items():
            classes[name] = [path for folder in folders for path in self.listings[folder].images]
            if not classes[name]:
                others = [one for folder in folders for one in self.listings[folder].unused]
                why = f", only {summary(others, folders[0])}" if others else ""
                raise UserError(f"the class folder {folders[0]} has no images in it{why}; add some or remove it")
        return classes

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"{len(folders)} folders of {self.root} are the class {name}: Unicode writes their names in several ways"
            for name, folders in self.of_class.items()
            if len(folders) > 1
        )


def folders_in(folder: Path, data: Path) -> tuple[list[Path], tuple[Unused, ...]]:
    """The folders in a folder, in the order of their names, and what else lies there.

    A link to a folder counts as one, unless it leads into the data or to what the data lies in: no file is used twice.

    Raises:
        UserError: it cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        refuse(error)
    folders: list[Path] = []
    beside: list[Unused] = []
    for path in paths:
        reason = HIDDEN if is_hidden(path.name) else None if os.path.isdir(path) else BESIDE
        if reason is None and path.is_symlink() and leads_back(path, data):
            reason = TWICE
        if reason is None:
            folders.append(path)
        else:
            beside.append(Unused(path, reason))
    return folders, tuple(beside)


def leads_back(link: Path, data: Path) -> bool:
    """Whether a link leads to what is read without it, or around in a circle."""
    target, root = Path(os.path.realpath(link)), Path(os.path.realpath(data))
    if target.is_relative_to(root):
        return not any(map(is_hidden, target.relative_to(root).parts))
    return root.is_relative_to(target)


def lies_in(place: Path, data: Path) -> bool:
    """Whether what is written to a place is read as part of a data set's folder, or of one that is linked from it."""
    roots = [data]
    for folder in (data, *(path for path in data.iterdir() if split_kind(path.name) and path.is_dir())):
        with os.scandir(folder) as entries:
            roots += [Path(entry) for entry in entries if entry.is_symlink() and entry.is_dir()]
    # Up to what is hidden, and to a folder in whatever way it is spelled: some file systems know no capitals.
    real = Path(os.path.realpath(place))
    for around in (real, *real.parents):
        if around.exists() and any(around.samefile(root) for root in roots):
            return True
        if is_hidden(around.name):
            return False
    return False


def listed(folder: Path, data: Path) -> Listing:
    """
    Raises:
        UserError: a folder in it cannot be read, or is a run's or a model's.
    """
    listing = list_files(folder)
    for path in listing.outputs:
        raise UserError(f"{path} is a run or a model of convatlas; move it out of the data {data} to keep it")
    return listing


def layout_of_splits(root: Path, splits: list[ClassFolders], others: ClassFolders) -> Layout:
    """
    Args:
        others: the folders that no split is called like.

    Raises:
        UserError: see `read_layout`.
    """
    of_kind: dict[SplitKind, ClassFolders] = {}
    names = " and ".join(split.root.name for split in splits)
    for split in splits:
        kind = split_kind(split.root.name)
        assert kind is not None, "these are called like splits"
        if (twin := of_kind.setdefault(kind, split)) is not split:
            raise UserError(
                f"{root} has both {twin.root.name} and {split.root.name}, two names of one split; keep one of them, or "
                "rename them if they are classes"
            )
    if others.with_images:
        other = others.with_images[0].name
        raise UserError(
            f"{root} is split into {names}, and has images in {other} beside them; move {other} elsewhere, or rename "
            f"{names} if these are classes"
        )
    if SplitKind.TRAIN not in of_kind:
        raise UserError(
            f"{root} is split into {names} without a train folder; add one, or rename {names} if these are classes"
        )
    train = of_kind.pop(SplitKind.TRAIN)
    if not train.with_images:
        raise UserError(f"{train.root} has no folders of images in it; make one for each class")
    test = next((of_kind[kind] for kind in SplitKind if kind in of_kind and of_kind[kind].with_images), None)
    if test is None:
        draw = f"or name {train.root} as the data, to draw the test images from it"
        if of_kind:
            tests = " and ".join(str(split.root) for split in of_kind.values())
            raise UserError(f"{tests} has no folders of images in it; make one for each class, {draw}")
        raise UserError(f"{root} has a {train.root.name} folder; it needs a test or val folder beside it, {draw}")
    rest = [split for split in of_kind.values() if split is not test]
    classes, of_test = train.classes(), test.classes()
    if odd := sorted(set(classes) ^ set(of_test)):
        raise UserError(f"{train.root} and {test.root} have different classes: {', '.join(odd)}")
    unused = [*others.unused, *train.unused, *test.unused]
    for split in rest:
        listing = listed(split.root, root)
        unused += [*listing.unused, *(Unused(path, NO_SPLIT) for path in listing.images)]
    why = {split.root.name: DRAWN if split.with_images else NO_CLASSES for split in rest}
    return Layout(
        (classes, {name: of_test[name] for name in classes}),
        tuple(unused),
        (*train.notes, *test.notes, *notes_on_splits(train.root.name, test.root.name, why)),
    )


def check_no_splits(folders: ClassFolders) -> None:
    """
    Raises:
        UserError: the classes look like splits, as `seg_train` and `seg_test` do.
    """
    similar = {folder: kind for folder in folders.listings if (kind := resembled(folder.name))}
    kinds = set(similar.values())
    holds_folders = any(path.parent != folder for folder in similar for path in folders.listings[folder].images)
    if SplitKind.TRAIN in kinds and len(kinds) > 1 and (holds_folders or len(similar) == len(folders.listings)):
        names = " and ".join(folder.name for folder in similar)
        raise UserError(
            f"{names} in {folders.root} look like splits, not like classes; call them train and test, with a folder "
            "for each class in both"
        )


def notes_on_unused(unused: Iterable[Unused], root: Path) -> tuple[str, ...]:
    """A line about what is not used of a folder, but for splits, of which another says that."""
    beside = [one for one in unused if one.reason != NO_SPLIT]
    return (f"not used: {summary(beside, root)}",) if beside else ()
