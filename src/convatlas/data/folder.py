"""A person's own images: a folder with a folder for each class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convatlas.data.cache import decoded
from convatlas.data.dataset import Dataset, Split, Subset
from convatlas.data.source_files import SourceFile, look
from convatlas.errors import UserError
from convatlas.files import decoded_folder
from convatlas.images import LOOKED_AT, ImageError, files_below, shorter_side, usual_side

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

    @property
    def detail(self) -> int | None:
        """The median shorter side of some of the images, by their headers."""
        paths = sorted(files_below(self.path))
        return usual_side(map(shorter_side, paths[:: max(1, len(paths) // LOOKED_AT)]))

    def load(self, resolution: int, *, seed: int = 0, skip_bad: bool = False) -> Dataset:
        """Every image at that size, gray if all of them are gray; what was decoded before comes from the cache.

        Raises:
            UserError: no classes, an empty class, classes that differ between the splits, or images that
                cannot be used while `skip_bad` is off; or the cache cannot hold them.
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
        splits, skipped = self._splits(listings, resolution)
        if skipped and not skip_bad:
            num = len(skipped) + sum(map(len, splits))
            raise UserError(
                f"{len(skipped)} of {num} images cannot be used, the first is {skipped[0]}; "
                "mend it or leave such files out with --skip-bad"
            )
        for split in splits:
            for label in set(range(len(classes))) - set(split.labels.tolist()):
                raise UserError(
                    f"no image of the class {classes[label]} can be used; add good ones or remove its folder"
                )
        if split_given:
            train, test = splits
        else:
            train, test = split_by_class(splits[0], classes, self.path, seed)
        return Dataset(name=self.name, classes=classes, train=train, test=test, skipped=tuple(skipped))

    def _splits(self, listings: list[dict[str, list[Path]]], resolution: int) -> tuple[list[Split], list[ImageError]]:
        """A split for each listing, all in the same entry of the cache, and the files that cannot be used."""
        folder = decoded_folder()
        files = [
            [(path, label) for label, paths in enumerate(listing.values()) for path in paths] for listing in listings
        ]
        looked = iter(look(self.path, [path for rows in files for path, _ in rows], folder))
        found = [[(next(looked), label) for _, label in rows] for rows in files]
        sources = [source for rows in found for source, _ in rows if isinstance(source, SourceFile)]
        cached = decoded(self.path, sources, resolution, folder)
        splits: list[Split] = []
        errors: list[ImageError] = []
        for rows in found:
            good: list[tuple[SourceFile, int]] = []
            for source, label in rows:
                if not isinstance(source, SourceFile):
                    errors.append(source)
                elif source.content in cached.unusable:
                    errors.append(ImageError(source.path, cached.unusable[source.content]))
                else:
                    good.append((source, label))
            places = np.array([cached.places[source.content] for source, _ in good], np.int64)
            splits.append(
                Split(
                    Subset(cached.images, places),
                    np.array([label for _, label in good], np.int64),
                    tuple(source.name for source, _ in good),
                    cached.contents[places],
                )
            )
        return splits, errors


def list_classes(root: Path) -> dict[str, list[Path]]:
    """The image files of each class folder below `root`, both in the order of their names."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UserError(f"{root} has no folders in it; make one for each class and put its images there")
    listing = {folder.name: sorted(files_below(folder)) for folder in folders}
    for name, paths in listing.items():
        if not paths:
            raise UserError(f"the class folder {root / name} has no images in it; add some or remove it")
    return listing


def split_by_class(split: Split, classes: tuple[str, ...], path: Path, seed: int) -> tuple[Split, Split]:
    """A seeded fifth of each class for the test, at least one."""
    for label, name in enumerate(classes):
        if np.count_nonzero(split.labels == label) < 2:
            raise UserError(f"the class {name} of {path} has one usable image; it needs two, to train and to test")
    return split.parted(TEST_PART, np.random.default_rng(seed))
