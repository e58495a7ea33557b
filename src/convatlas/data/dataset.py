"""What a data set is: images of one size with their classes, in a training and a test split."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from convatlas.data.groups import IndivisibleError, draw_groups
from convatlas.data.images import ImageReader, Images, IndexedImages, ResizedImages, pixel_digests
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.names import composed
from convatlas.images import ImageError, Resize
from convatlas.images.listing import Unused

MAX_RESIZED = 2**29
"""Bytes of resized images in memory: MNIST at 86 pixels."""
CONTENTS = "contents:"
"""What a checksum begins with, since earlier versions counted more in: see `data.earlier`."""


@dataclass(frozen=True)
class Split:
    """Labeled images of one size."""

    images: Images
    """(n, channels, height, width), 0 to 255, gray or RGB."""
    labels: npt.NDArray[np.int64]
    """(n,), indices into the set's classes."""
    names: tuple[str, ...] = ()
    """The file of each image; empty if the images are not files."""
    contents: npt.NDArray[np.uint8] | None = None
    """(n, 32), SHA-256 of what each image comes from: its file, or its pixels as published. None: of what it is."""
    groups: npt.NDArray[np.int64] | None = None
    """(n,), numbers of what must not stand on both sides of a split; None: there are no groups."""

    @cached_property
    def reader(self) -> ImageReader:
        """How the images are read best."""
        return self.images if isinstance(self.images, ImageReader) else IndexedImages(self.images)

    def take(self, indices: npt.NDArray[np.int64]) -> Split:
        """Those images, in that order; those that are not in memory are read later."""
        return Split(
            self.reader.take(indices),
            self.labels[indices],
            tuple(self.names[i] for i in indices) if self.names else (),
            None if self.contents is None else self.contents[indices],
            None if self.groups is None else self.groups[indices],
        )

    def exact(self, progress: ProgressCallback = SILENT) -> Split:
        """The same split to evaluate on, decoded exactly (without JPEG draft mode and re-encoding).

        Raises:
            UserError: an image can no longer be read.
        """
        return replace(self, images=self.reader.exact(progress))

    def stratified_split(self, fraction: float, generator: np.random.Generator) -> tuple[Split, Split]:
        """Draw a fraction of each class, at least one image of it, and all if it has only one; with groups, whole ones.

        Returns:
            The rest, and what was drawn.

        Raises:
            UserError: the groups cannot be split so that each class is on both sides.
        """
        drawn = np.zeros(len(self), bool)
        if self.groups is not None:
            try:
                drawn = draw_groups(self.labels, self.groups, fraction, generator)
            except IndivisibleError as error:
                first = self.name_of(int(np.flatnonzero(self.labels == error.label)[0]))
                raise UserError(
                    f"the class of {first} is in too few groups to be split by them; it takes one on each side"
                ) from error
        else:
            for label in np.unique(self.labels):
                members = np.flatnonzero(self.labels == label)
                drawn[generator.permutation(members)[: num_drawn(fraction, len(members))]] = True
        return self.take(np.flatnonzero(~drawn)), self.take(np.flatnonzero(drawn))

    def name_of(self, index: int) -> str:
        """What to call that image."""
        return self.names[index] if self.names else f"image {index}"

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of what the images come from and of the labels; how they are decoded and resized does not count."""
        digest = hashlib.sha256()
        if self.contents is not None:
            digest.update(self.contents.tobytes())
        else:
            self.reader.update(digest)
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def pixel_checksum(self) -> str:
        """SHA-256 of the pixels as they are here and of the labels."""
        digest = hashlib.sha256()
        for chunk in self.reader.chunks():
            digest.update(chunk.tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def resized(self, resize: Resize) -> Split:
        """The same images resized, exactly: in memory, or when they are asked for if they are too many for that."""
        if self.images.shape[2] == self.images.shape[3] == resize.side:
            return self
        lazy = ResizedImages(self.images, resize)
        images = lazy[:] if math.prod(lazy.shape) <= MAX_RESIZED else lazy
        contents = pixel_digests(self.images[:]) if self.contents is None else self.contents
        return replace(self, images=images, contents=contents)


def num_drawn(fraction: float, num: int) -> int:
    """How many of the images of a class `Split.stratified_split` draws."""
    return max(1, round(fraction * num))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A training and a test split.

    Raises:
        UserError: there are fewer than two classes.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    """To learn from; large images may be decoded approximately (`images.decode_draft`)."""
    test: Split
    """To evaluate on, always exact."""
    native_side: int | None = None
    """Side in pixels of the images before resizing, if all had the same."""
    is_light_on_dark: bool = False
    """Whether each image is one light character on black, like MNIST's."""
    skipped: tuple[ImageError, ...] = ()
    """Damaged files that were skipped because of `skip_bad`."""
    unused: tuple[Unused, ...] = ()
    """Files beside the images, and what else of a folder is not read."""
    notes: tuple[str, ...] = ()
    """Lines for people about what is used for what, and what is not."""

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(
                f"{self.name} has only one class ({', '.join(self.classes)}); classification takes at least two"
            )

    @property
    def channels(self) -> int:
        """1 for gray images, 3 for color."""
        return int(self.train.images.shape[1])

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines for people: each image that was skipped, and the notes."""
        return (*(f"left out {error}" for error in self.skipped), *self.notes)

    @property
    def checksum(self) -> str:
        """What the data set is known by, the same on every machine: SHA-256 over both splits and the classes' names."""
        text = json.dumps([self.train.checksum, self.test.checksum, *map(composed, self.classes)])
        return CONTENTS + hashlib.sha256(text.encode()).hexdigest()


class UnusableImagesError(UserError):
    """Images that cannot be used while `skip_bad` is off. What helps against it, whoever asked for them knows."""


@contextmanager
def advice(on_unusable: str) -> Iterator[None]:
    """Say what helps, behind what is wrong with images that cannot be used.

    Raises:
        UserError: in place of `UnusableImagesError`.
    """
    try:
        yield
    except UnusableImagesError as error:
        raise UserError(f"{error}; {on_unusable}") from error


def restore(trained: str | Path) -> str:
    """The advice where a model is trained already: its images could be used then."""
    return f"the images were good when {trained} was trained on them, so put back what was there"


class Source(Protocol):
    """Where a data set comes from, before an image of it is decoded."""

    @property
    def name(self) -> str:
        """The name or path by which `convatlas.data.find` finds it."""
        ...

    @property
    def path(self) -> Path | None:
        """The folder of this machine that is read as it is; None: there is none."""
        ...

    @property
    def native_side(self) -> int | None:
        """Side in pixels of the images, if all have the same."""
        ...

    @property
    def typical_size(self) -> tuple[int, int] | None:
        """About how many pixels the shorter and the longer side of an image have; None: unknown."""
        ...

    def load(
        self, resize: Resize | int, *, seed: int, skip_bad: bool = False, progress: ProgressCallback = SILENT
    ) -> Dataset:
        """All images, resized.

        Args:
            resize: an int is the side: bilinear, then a center crop.
            seed: draws the split if the source has none.
            skip_bad: skip damaged and unsupported images.
            progress: called with the progress of downloads and of decoding.

        Raises:
            UserError: the source cannot be read.
            UnusableImagesError: images cannot be used while `skip_bad` is off.
        """
        ...
