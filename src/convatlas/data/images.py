"""How the images of a split are read: from memory, from files, or as a stream."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from convatlas.files import SILENT, ProgressCallback
from convatlas.images import Resize

Indices = slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]
"""Which images: a part, places in any order, or a mask."""

NUM_SAMPLED = 500
"""Images that stand for all of a split where all would take too long."""
CHUNK = 1000
"""Images that are read at a time where all are, at most."""
CHUNK_BYTES = 2**28


class Decoding(StrEnum):
    """How exactly training sees its images. It is no part of the data set: the caches of two machines may differ."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    """Large images are decoded and scaled down faster and less exactly."""
    JPEG = "jpeg"
    """Decoded so and re-encoded, since the cache had no room for the pixels."""

    def describe(self) -> str:
        """What training reads the images as."""
        match self:
            case Decoding.EXACT:
                return "exact pixels"
            case Decoding.APPROXIMATE:
                return "pixels, approximate where images are large"
            case Decoding.JPEG:
                return "JPEG"


class Images(Protocol):
    """The images of a split: an array in memory, or what reads them as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, height, width)"""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """Those images (m, channels, height, width), 0 to 255, in memory."""
        ...


class ImageReader(ABC):
    """Images that know how they are read best. The defaults suit images that can be read in any order."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(n, channels, height, width)"""

    @abstractmethod
    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """Those images (m, channels, height, width), 0 to 255, in memory."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def decoding(self) -> Decoding:
        """How exactly these are the images of their source."""
        return Decoding.EXACT

    def take(self, indices: npt.NDArray[np.int64]) -> Images:
        """Those images, in that order, of which none is read now."""
        return Subset(self, indices)

    def exact(self, progress: ProgressCallback = SILENT) -> Images:
        """The same images as evaluation and prediction see them, without the approximations of training.

        Raises:
            UserError: an image can no longer be read.
        """
        return self

    def order(self, seed: int) -> npt.NDArray[np.int64]:
        """A random order (n,) in which the images can be read fast."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self), generator=generator).numpy()

    def read(self, batches: Sequence[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
        """The images (m, channels, height, width) of each batch of indices (m,) in turn; no index comes twice.

        The caller enters `pillow_silenced`, since this may run in any thread.
        """
        return map(self.__getitem__, batches)

    def sample(self) -> npt.NDArray[np.uint8]:
        """About `NUM_SAMPLED` images (m, channels, height, width), evenly over all: enough for their colors."""
        return self[:: max(1, len(self) // NUM_SAMPLED)]

    def chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """What statistics are taken from, in parts (m, channels, height, width): all, or a sample of a stream."""
        num = max(1, min(CHUNK, CHUNK_BYTES // math.prod(self.shape[1:])))
        for begin in range(0, len(self), num):
            yield self[begin : begin + num]

    def update(self, digest: Any) -> None:
        """Feed to a digest of `hashlib` what the images are known by: their pixels, or where a stream comes from."""
        for chunk in self.chunks():
            digest.update(pixel_digests(chunk).tobytes())


def pixel_digests(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """SHA-256 (n, 32) of the shape and the pixels of each of the images (n, channels, height, width)."""
    shape = "x".join(map(str, images.shape[1:])).encode()
    digests = b"".join(hashlib.sha256(shape + image.tobytes()).digest() for image in images)
    return np.frombuffer(digests, np.uint8).reshape(-1, 32)


@dataclass(frozen=True, eq=False)
class IndexedImages(ImageReader):
    """Any images that can be indexed, such as an array."""

    images: Images

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        return self.images[indices]

    def take(self, indices: npt.NDArray[np.int64]) -> Images:
        # What numpy maps from a file is an array too, but not of this very type.
        return self.images[indices] if type(self.images) is np.ndarray else Subset(self.images, indices)


@dataclass(frozen=True, eq=False)
class Subset(ImageReader):
    """Some images of others, in an order of their own; none is copied before it is asked for."""

    whole: Images
    places: npt.NDArray[np.int64]
    """(n,), in the whole."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.places), *self.whole.shape[1:])

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        return self.whole[self.places[indices]]


@dataclass(frozen=True, eq=False)
class ResizedImages(ImageReader):
    """Images of others, resized whenever they are asked for."""

    whole: Images
    resize: Resize

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.whole.shape[:2], self.resize.side, self.resize.side)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        found = self.whole[indices]
        resized = np.empty((len(found), *self.shape[1:]), np.uint8)
        for place, image in enumerate(found):
            hwc = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            resized[place] = self.resize.square(Image.fromarray(hwc), len(image))
        return resized
