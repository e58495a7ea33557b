"""What a data set is: pictures of one size with their classes, in a training and a test split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.errors import UserError
from convatlas.pictures import PictureError, fit


@dataclass(frozen=True)
class Split:
    pictures: npt.NDArray[np.uint8]
    """(n, channels, height, width), 0 to 255."""
    labels: npt.NDArray[np.int64]
    """(n,), indices into the set's classes."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of pictures and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pictures).tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def resized(self, resolution: int) -> Split:
        """The same pictures with sides of `resolution` pixels."""
        num, channels, height, width = self.pictures.shape
        if height == width == resolution:
            return self
        resized = np.empty((num, channels, resolution, resolution), np.uint8)
        for i, picture in enumerate(self.pictures):
            hwc = picture[0] if channels == 1 else picture.transpose(1, 2, 0)
            resized[i] = fit(Image.fromarray(hwc), resolution, channels)
        return Split(resized, self.labels)


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    side: int | None = None
    """The pictures' own size in pixels before they were brought to this one, if they all had one."""
    ink: bool = False
    """Whether they show bright ink on black, one character each."""
    left_out: tuple[PictureError, ...] = ()
    """Damaged files that were skipped because the person asked for it."""

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(
                f"{self.name} has one class only ({', '.join(self.classes)}); telling apart takes at least two"
            )

    @property
    def channels(self) -> int:
        return int(self.train.pictures.shape[1])

    @property
    def checksum(self) -> str:
        """SHA-256 over both splits and the classes' names."""
        text = "\n".join([self.train.checksum, self.test.checksum, *self.classes])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class Source(Protocol):
    """Where a data set comes from, before a picture of it is decoded."""

    @property
    def name(self) -> str:
        """What brings it back: the word or the path that a person typed."""
        ...

    @property
    def side(self) -> int | None:
        """The pictures' own size in pixels, if they have one."""
        ...

    def load(self, resolution: int, *, seed: int, skip_bad: bool = False) -> PictureSet:
        """All pictures at that size. `seed` draws the split where none is given."""
        ...
