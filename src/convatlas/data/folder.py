"""A person's own images: a folder with a folder for each class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from convatlas.data import cache
from convatlas.data.dataset import Dataset, Split, UnusableImagesError
from convatlas.data.folder_images import FileImages, FolderImages
from convatlas.data.layout import Layout, folders_in, lies_in, notes_on_unused, read_layout
from convatlas.data.source_files import Scan, SourceFile, scan, sorting_key
from convatlas.data.splits import split_kind
from convatlas.data.table import Table
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, decoded_folder
from convatlas.files.names import composed
from convatlas.images import NUM_SIZES, ImageError, Resize, median_sides, size_of
from convatlas.images.listing import summary

TEST_FRACTION = 0.2
"""Of each class, if the folder has no split of its own."""


@dataclass(frozen=True)
class Folder:
    """`<class>/*` with a seeded split, or `train/<class>/*` beside `test/` or `val/`; see `layout`."""

    path: Path
    table: Table | None = None
    """What says the classes of the images, in place of their folders."""
    native_side: None = None
    sorted_as_earlier: bool = False
    """Whether classes and images are in the order in which earlier versions split them: as this system sorts names."""

    @property
    def name(self) -> str:
        # Absolute, so that it is found again from another folder, and never taken for a standard set.
        return str(self.path.resolve())

    @cached_property
    def layout(self) -> Layout:
        """What lies in the folder, as it was when this was first asked for.

        Raises:
            UserError: see `read_layout`.
        """
        return read_layout(self.path) if self.table is None else self.table.layout(self.path)

    @property
    def typical_size(self) -> tuple[int, int] | None:
        """The medians over some of the images, from their headers."""
        paths = sorted(self.layout.images, key=sorting_key)
        return median_sides(map(size_of, paths[:: max(1, len(paths) // NUM_SIZES)]))

    def load(
        self, resize: Resize | int, *, seed: int = 0, skip_bad: bool = False, progress: ProgressCallback = SILENT
    ) -> Dataset:
        """Every image, resized, gray if all of them are gray; what was decoded before comes from the cache.

        Training images may be decoded approximately, test images never; see `Source.load`.

        Raises:
            UserError: see `read_layout`; or a class has no image that can be used, or too few to split; or the cache
                lies in the folder, or cannot hold the images.
            UnusableImagesError: images cannot be used while `skip_bad` is off.
        """
        layout = self.layout
        if lies_in(decoded_folder(), self.path):
            raise UserError(
                f"the cache {decoded_folder()} lies in the data {self.path}; set CONVATLAS_CACHE to a folder elsewhere"
            )
        listings = [self._in_order(split) for split in layout.splits]
        classes = tuple(listings[0])
        splits, skipped = self._splits(listings, Resize.to(resize), progress)
        if skipped and not skip_bad:
            num = len(skipped) + sum(map(len, splits))
            others = [error for error in skipped if error.reason != skipped[0].reason]
            raise UnusableImagesError(
                f"{len(skipped)} of {num} images cannot be used, the first is {skipped[0]}"
                + (f"; others are {summary(others, self.path)}" if others else "")
            )
        for split, of_class in zip(splits, layout.splits, strict=True):
            for label in set(range(len(classes))) - set(split.labels.tolist()):
                of_label = set(of_class[classes[label]])
                lost = [error for error in skipped if error.path in of_label]
                raise UserError(
                    f"no image of the class {classes[label]} can be used: {summary(lost, self.path)}; add good ones or "
                    "remove its folder"
                )
        if len(splits) == 2:
            train, test = splits
        else:
            train, test = split_by_class(splits[0], classes, self.path, seed)
        return Dataset(
            name=self.name,
            classes=classes,
            train=train,
            test=test.exact(progress),
            skipped=tuple(skipped),
            unused=layout.unused,
            notes=(*layout.notes, *notes_on_unused(layout.unused, self.path)),
        )

    def test_images(self, resize: Resize, channels: int) -> tuple[tuple[str, ...], Split]:
        """The classes and the images to test a model on that was not trained on this folder: those of the test split,
        or all if there are no splits. They are decoded, exactly, when they are asked for.

        Args:
            channels: that the images are to have.

        Raises:
            UserError: see `read_layout`; or files cannot be used as images.
        """
        listing = self._in_order(self.layout.splits[-1])
        rows = labeled(listing)
        scanned = scan(self.path, [path for path, _ in rows], decoded_folder()).found
        sources = [source for source in scanned if isinstance(source, SourceFile)]
        if bad := [source for source in scanned if isinstance(source, ImageError)]:
            raise UnusableImagesError(f"{len(bad)} of {len(rows)} images cannot be used, the first is {bad[0]}")
        return tuple(listing), FileImages(tuple(sources), resize, channels).split([label for _, label in rows])

    @property
    def class_names(self) -> list[set[str]]:
        """Some of these are the classes: the folders in this one, and in each that is called like a split."""
        if self.table is not None:
            return [set(self.layout.classes)]
        roots, _ = folders_in(self.path, self.path)
        splits = [root for root in roots if split_kind(root.name)]
        folders = [roots, *(folders_in(split, self.path)[0] for split in splits)]
        return [{composed(path.name) for path in found} for found in folders]

    def undecoded(self, resize: Resize, channels: int, *, seed: int, skip_bad: bool) -> tuple[Dataset, Scan]:
        """The same data set, of which no image is decoded before it is asked for, and nothing is kept in the cache;
        and how its files were read.

        Args:
            channels: that the images are to have.
            skip_bad: decode all images once, to leave out those that cannot be used.

        Raises:
            UserError: see `read_layout`; or a class has too few images to split.
        """
        listings = [self._in_order(split) for split in self.layout.splits]
        classes, rows = tuple(listings[0]), [labeled(listing) for listing in listings]
        scanned = scan(self.path, [path for row in rows for path, _ in row], decoded_folder())
        sources = [source for source in scanned.found if isinstance(source, SourceFile)]
        bad = cache.unusable(self.path, sources, resize, decoded_folder()) if skip_bad else set()
        good = {source.path: source for source in sources if source.content not in bad}
        splits = []
        for row in rows:
            kept = [(good[path], label) for path, label in row if path in good]
            images = FileImages(tuple(source for source, _ in kept), resize, channels)
            splits.append(self._grouped(images.split([label for _, label in kept])))
        train, test = splits if len(splits) == 2 else split_by_class(splits[0], classes, self.path, seed)
        return Dataset(name=self.name, classes=classes, train=train, test=test), scanned

    def _in_order(self, listing: dict[str, list[Path]]) -> dict[str, list[Path]]:
        """The images of each class in the order that the split is drawn from."""
        if self.sorted_as_earlier:
            return listing
        names = sorted(listing, key=lambda name: sorting_key(Path(name)))
        return {name: sorted(listing[name], key=sorting_key) for name in names}

    def _splits(
        self, listings: list[dict[str, list[Path]]], resize: Resize, progress: ProgressCallback
    ) -> tuple[list[Split], list[ImageError]]:
        """A split for each listing, all in the same entry of the cache, and the files that cannot be used."""
        cache_folder = decoded_folder()
        files = list(map(labeled, listings))
        scan_of_all = scan(self.path, [path for rows in files for path, _ in rows], cache_folder)
        scan_of_all.keep()
        scanned = iter(scan_of_all.found)
        found = [[(next(scanned), label) for _, label in rows] for rows in files]
        sources = [source for rows in found for source, _ in rows if isinstance(source, SourceFile)]
        entry = cache.for_training(self.path, sources, resize, cache_folder, progress)
        splits: list[Split] = []
        errors: list[ImageError] = []
        for rows in found:
            good: list[tuple[SourceFile, int]] = []
            for source, label in rows:
                if not isinstance(source, SourceFile):
                    errors.append(source)
                elif source.content in entry.unusable:
                    errors.append(ImageError(source.path, entry.unusable[source.content]))
                else:
                    good.append((source, label))
            images = FolderImages.of(self.path, cache_folder, resize, entry, tuple(source for source, _ in good))
            splits.append(self._grouped(images.split([label for _, label in good])))
        return splits, errors

    def _grouped(self, split: Split) -> Split:
        """The split with the groups of its images, if there are any."""
        if not self.layout.groups:
            return split
        of_image = [self.layout.groups[self.path / name] for name in split.names]
        return replace(split, groups=np.unique(of_image, return_inverse=True)[1])


def labeled(listing: dict[str, list[Path]]) -> list[tuple[Path, int]]:
    """Each image of the classes with its label."""
    return [(path, label) for label, paths in enumerate(listing.values()) for path in paths]


def split_by_class(split: Split, classes: tuple[str, ...], path: Path, seed: int) -> tuple[Split, Split]:
    """A seeded fifth of each class for the test, at least one image.

    Raises:
        UserError: a class has one image only.
    """
    for label, name in enumerate(classes):
        if np.count_nonzero(split.labels == label) < 2:
            raise UserError(f"the class {name} of {path} has one usable image; it needs two, to train and to test")
    return split.stratified_split(TEST_FRACTION, np.random.default_rng(seed))
