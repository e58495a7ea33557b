"""What a data set is: images of one size with their classes, in a training and a test split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.data.stream import Stream
from convatlas.errors import UserError
from convatlas.images import ImageError, fit

Indices = slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]
"""Which images: a part, places in any order, or a mask."""

HASHED_AT_ONCE = 1000


class Images(Protocol):
    """What a split's images lie in: an array in memory, or what reads them from elsewhere as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, height, width)"""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """Those images (m, channels, height, width), 0 to 255, in memory."""
        ...


@dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a larger whole, in an order of their own, of which none is copied before it is asked for."""

    whole: Images
    places: npt.NDArray[np.int64]
    """(n,), in the whole."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.whole.shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        return self.whole[self.places[indices]]


@dataclass(frozen=True)
class Split:
    images: Images
    """(n, channels, height, width), 0 to 255."""
    labels: npt.NDArray[np.int64]
    """(n,), indices into the set's classes."""
    names: tuple[str, ...] = ()
    """Where each image came from; empty where that has no name."""
    contents: npt.NDArray[np.uint8] | None = None
    """(n, 32), a digest of what each image was made from and how, where reading all of them would take too long."""

    def take(self, indices: npt.NDArray[np.int64]) -> Split:
        """Those images, in that order; of those that do not lie in memory none is read."""
        whole = self.images
        images: Images
        if isinstance(whole, Stream):
            images = whole.take(indices)
        else:
            # What numpy maps from a file is an array too, but not of this very type.
            images = whole[indices] if type(whole) is np.ndarray else Subset(whole, indices)
        return Split(
            images,
            self.labels[indices],
            tuple(self.names[i] for i in indices) if self.names else (),
            None if self.contents is None else self.contents[indices],
        )

    def parted(self, part: float, generator: np.random.Generator) -> tuple[Split, Split]:
        """The rest, and a part drawn of each class: at least one image of it, and all if it has one only."""
        drawn = np.zeros(len(self), bool)
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            drawn[generator.permutation(members)[: max(1, round(part * len(members)))]] = True
        return self.take(np.flatnonzero(~drawn)), self.take(np.flatnonzero(drawn))

    def name_of(self, index: int) -> str:
        """What to call that image."""
        return self.names[index] if self.names else f"image {index}"

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of images and labels, or of what the images were made from, or come from, and labels."""
        digest = hashlib.sha256()
        if self.contents is not None:
            digest.update(self.contents.tobytes())
        elif isinstance(self.images, Stream):
            digest.update(self.images.identity)
        else:
            for begin in range(0, len(self.images), HASHED_AT_ONCE):
                digest.update(self.images[begin : begin + HASHED_AT_ONCE].tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def resized(self, resolution: int) -> Split:
        """The same images with sides of `resolution` pixels, all in memory."""
        num, channels, height, width = self.images.shape
        if height == width == resolution:
            return self
        resized = np.empty((num, channels, resolution, resolution), np.uint8)
        for i, image in enumerate(self.images[:]):
            hwc = image[0] if channels == 1 else image.transpose(1, 2, 0)
            resized[i] = fit(Image.fromarray(hwc), resolution, channels)
        return Split(resized, self.labels, self.names)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    side: int | None = None
    """The images' own size in pixels before they were brought to this one, if they all had one."""
    ink: bool = False
    """Whether they show bright ink on black, one character each."""
    skipped: tuple[ImageError, ...] = ()
    """Damaged files that were skipped because the person asked for it."""

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(
                f"{self.name} has one class only ({', '.join(self.classes)}); telling apart takes at least two"
            )

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def checksum(self) -> str:
        """SHA-256 over both splits and the classes' names."""
        text = "\n".join([self.train.checksum, self.test.checksum, *self.classes])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class Source(Protocol):
    """Where a data set comes from, before an image of it is decoded."""

    @property
    def name(self) -> str:
        """What brings it back: the word or the path that a person typed."""
        ...

    @property
    def side(self) -> int | None:
        """The images' own size in pixels, if they have one."""
        ...

    @property
    def detail(self) -> int | None:
        """About how many pixels the shorter side of an image has; None: unknown."""
        ...

    def load(self, resolution: int, *, seed: int, skip_bad: bool = False) -> Dataset:
        """All images at that size. `seed` draws the split where none is given."""
        ...
