"""A person's own pictures: a folder with a folder for each class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.data.dataset import PictureSet, Split
from convatlas.errors import UserError
from convatlas.pictures import PictureError, decode_all, files_below, fit

TEST_PART = 0.2
"""Of each class, where the folder has no split of its own."""


@dataclass(frozen=True)
class Folder:
    """`<class>/*` with a seeded split, or `train/<class>/*` beside `test/` or `val/`.

    `val/` is the test set unless there is a `test/`.
    """

    path: Path
    side: None = None

    @property
    def name(self) -> str:
        # Whole, so that it is found again from another folder, and never taken for a standard set.
        return str(self.path.resolve())

    def load(self, resolution: int, *, seed: int = 0, skip_bad: bool = False) -> PictureSet:
        """Decode every picture at that size, grey if all of them are grey.

        Raises:
            UserError: no classes, an empty class, classes that differ between the splits, or pictures that
                cannot be used while `skip_bad` is off.
        """
        train_root = self.path / "train"
        test_root = next((self.path / name for name in ("test", "val") if (self.path / name).is_dir()), None)
        if train_root.is_dir() and test_root is None:
            raise UserError(f"{self.path} has a train folder; it needs a test or val folder beside it")
        split_given = train_root.is_dir() and test_root is not None
        roots = [train_root, test_root] if split_given and test_root else [self.path]
        listings = [list_classes(root) for root in roots]
        classes = tuple(listings[0])
        for root, listing in zip(roots[1:], listings[1:], strict=True):
            if tuple(listing) != classes:
                odd = sorted(set(listing) ^ set(classes))
                raise UserError(f"{roots[0]} and {root} have different classes: {', '.join(odd)}")
        splits, errors = decode_splits(listings, classes, resolution, skip_bad)
        if split_given:
            train, test = splits
        else:
            train, test = split_by_class(splits[0], classes, self.path, seed)
        return PictureSet(name=self.name, classes=classes, train=train, test=test, left_out=tuple(errors))


def list_classes(root: Path) -> dict[str, list[Path]]:
    """The picture files of each class folder below `root`, both in the order of their names."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UserError(f"{root} has no folders in it; make one for each class and put its pictures there")
    listing = {folder.name: sorted(files_below(folder)) for folder in folders}
    for name, paths in listing.items():
        if not paths:
            raise UserError(f"the class folder {root / name} has no pictures in it; add some or remove it")
    return listing


def decode_splits(
    listings: list[dict[str, list[Path]]], classes: tuple[str, ...], resolution: int, skip_bad: bool
) -> tuple[list[Split], list[PictureError]]:
    """A split for each listing, all with the same number of channels, and the files that were left out."""

    def prepare(picture: Image.Image) -> npt.NDArray[np.uint8]:
        return fit(picture, resolution, 1 if picture.mode == "L" else 3)

    loaded = [
        [(label, picture) for label, name in enumerate(classes) for picture in decode_all(listing[name], prepare)]
        for listing in listings
    ]
    errors = [picture for rows in loaded for _, picture in rows if isinstance(picture, PictureError)]
    if errors and not skip_bad:
        num = sum(map(len, loaded))
        raise UserError(
            f"{len(errors)} of {num} pictures cannot be used, the first is {errors[0]}; "
            "mend it or leave such files out with --skip-bad"
        )
    good = [[(label, picture) for label, picture in rows if isinstance(picture, np.ndarray)] for rows in loaded]
    channels = max((picture.shape[0] for rows in good for _, picture in rows), default=1)
    splits = []
    for rows in good:
        labels = np.array([label for label, _ in rows], np.int64)
        for label, name in enumerate(classes):
            if label not in labels:
                raise UserError(f"no picture of the class {name} can be used; add good ones or remove its folder")
        pictures = np.empty((len(rows), channels, resolution, resolution), np.uint8)
        for i, (_, picture) in enumerate(rows):
            pictures[i] = picture  # grey pictures spread over three channels
        splits.append(Split(pictures, labels))
    return splits, errors


def split_by_class(split: Split, classes: tuple[str, ...], path: Path, seed: int) -> tuple[Split, Split]:
    """A seeded fifth of each class for the test, at least one."""
    generator = np.random.default_rng(seed)
    test = np.zeros(len(split), bool)
    for label, name in enumerate(classes):
        members = np.flatnonzero(split.labels == label)
        if len(members) < 2:
            raise UserError(f"the class {name} of {path} has one usable picture; it needs two, to train and to test")
        num_test = max(1, round(TEST_PART * len(members)))
        test[generator.permutation(members)[:num_test]] = True
    return (
        Split(split.pictures[~test], split.labels[~test]),
        Split(split.pictures[test], split.labels[test]),
    )
