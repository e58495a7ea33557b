"""Streams: images that are read from their source whenever they are asked for, and never kept.

A stream lies in shards, each of which is read from its front only. To read images in some order, one walks through the
shards once and holds the few that are wanted later, as they came and not decoded.

Its shuffled order is made for that: shards come in a random order, `INTERLEAVED` of them are interleaved, and each
image is then put off by at most `BUFFER` places. Only a stream of no more images than that, or one whose images are a
shard each, is shuffled as a set in memory is, every order as likely as any other. In a longer one, images of the same
shard stay near each other: a set that is sorted by class in a few large shards is not mixed well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.data.dataset import UnusableImagesError
from convatlas.data.images import NUM_SAMPLED, Decoding, ImageReader, Indices
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.images import (
    NUM_SIZES,
    ImageError,
    Resize,
    decode_content,
    decode_draft,
    median_sides,
    parallel_map,
    pillow_silenced,
    size_of_opened,
)

BUFFER = 4096
"""Images that are held at most, but for a few, as they came."""
INTERLEAVED = 10
"""Shards that are read in turn."""
COLOR = 3


class Example(Protocol):
    """An image as it came."""

    @property
    def path(self) -> Path:
        """For messages."""
        ...

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """
        Raises:
            ImageError: it cannot be read.
        """
        ...


class Shards(Protocol):
    """The parts of a stream."""

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(shards,), the examples in each."""
        ...

    def read(self, shard: int) -> Iterator[Example]:
        """The examples of a shard from its front on.

        Raises:
            UserError: the source cannot be reached, or is damaged.
        """
        ...


@dataclass(frozen=True, eq=False)
class Stream(ImageReader):
    """The images of some shards, resized."""

    shards: Shards
    origin: bytes
    """A digest of where all of it comes from."""
    places: npt.NDArray[np.int64]
    """(n,), where each image lies in all of it."""
    resize: Resize
    channels: int = COLOR
    kept_sample: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, COLOR, 1, 1), np.uint8))
    """(m, channels, side, side), images that stand for all; none before `sampled`."""
    approximate: bool = True
    """Whether large images are decoded faster and less exactly, as for training."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, side, side)"""
        return (len(self.places), self.channels, self.resize.side, self.resize.side)

    @property
    def decoding(self) -> Decoding:
        return Decoding.APPROXIMATE if self.approximate else Decoding.EXACT

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """Those images (m, channels, side, side); fast only if each call continues where the one before ended.

        Raises:
            UnusableImagesError: one of them cannot be used.
            UserError: the source cannot be reached.
        """
        places, back = np.unique(self.places[indices], return_inverse=True)
        with pillow_silenced():
            return self._decoded(self._cursor, places)[back]

    def take(self, indices: npt.NDArray[np.int64]) -> Stream:
        return replace(self, places=self.places[indices])

    def exact(self, progress: ProgressCallback = SILENT) -> Stream:
        return replace(self, approximate=False)

    def sample(self) -> npt.NDArray[np.uint8]:
        """The sample that `sampled` took."""
        return self.kept_sample

    def chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The sample alone stands for all."""
        yield self.kept_sample

    def update(self, digest: Any) -> None:
        """Feed to a digest where the images come from; no pixel is read for it."""
        digest.update(hashlib.sha256(self.origin + self.places.astype("<i8").tobytes()).digest())

    def order(self, seed: int) -> npt.NDArray[np.int64]:
        """Indices (n,) in a random order that can be walked: a function of seed, places and the shards' sizes."""
        generator = np.random.default_rng(seed)
        num = len(self)
        if num <= BUFFER:
            return generator.permutation(num)
        line = self.line(generator)
        return line[np.argsort(np.arange(num) + generator.uniform(0, BUFFER, num), kind="stable")]

    def line(self, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Indices (n,) in a random order of the shards, `INTERLEAVED` at a time; images of each keep their order."""
        sizes = self.shards.sizes
        rank = generator.permutation(len(sizes))
        shard = sizes.cumsum().searchsorted(self.places, side="right")
        passed = (self.places - (sizes.cumsum() - sizes)[shard]) / sizes[shard]
        return np.lexsort((passed, rank[shard] // INTERLEAVED))

    def read(self, batches: Sequence[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
        """The images of each batch in turn, in one walk; see `ImageReader.read`.

        Raises:
            UnusableImagesError: one of them cannot be used.
            UserError: the source cannot be reached.
        """
        walk = _Walk(self.shards, self.places[np.concatenate([*batches, np.empty(0, np.int64)])])
        for indices in batches:
            yield self._decoded(walk, self.places[indices])

    def usable(self) -> tuple[npt.NDArray[np.int64], list[ImageError]]:
        """Decode every image once: the indices (m,) of the good ones, and what is wrong with the others."""

        def one(example: Example) -> ImageError | None:
            try:
                self._decode(example)
            except ImageError as error:
                return error
            return None

        with pillow_silenced():
            found = list(parallel_map(one, self._examples(self._cursor, self.places)))
        good = np.array([error is None for error in found], bool)
        return np.flatnonzero(good), [error for error in found if error is not None]

    def sampled(self, seed: int) -> Stream:
        """The same images with a seeded sample; gray if all of the sample is gray.

        Raises:
            UnusableImagesError: one of the sample cannot be used.
            UserError: the source cannot be reached.
        """
        places = self.places[self.line(np.random.default_rng(seed))[:NUM_SAMPLED]]

        def one(example: Example) -> tuple[bool, npt.NDArray[np.uint8]]:
            image = self._usable_image(example)
            return image.mode == "L", self._square(image, COLOR)

        with pillow_silenced():
            found = list(parallel_map(one, self._examples(self._cursor, places)))
        channels = 1 if all(gray for gray, _ in found) else COLOR
        return replace(self, channels=channels, kept_sample=np.stack([pixels[:channels] for _, pixels in found]))

    def typical_size(self) -> tuple[int, int] | None:
        """The medians of the shorter and the longer sides of some images, from their headers, in pixels; None if those
        do not say."""

        def one(example: Example) -> tuple[int, int] | None:
            try:
                with example.opened() as file:
                    return size_of_opened(file)
            # What is wrong with it is said when it is decoded.
            except ImageError:
                return None

        places = self.places[self.line(np.random.default_rng(0))[:NUM_SIZES]]
        with pillow_silenced():
            return median_sides(map(one, self._examples(self._cursor, places)))

    @cached_property
    def _cursor(self) -> _Walk:
        return _Walk(self.shards, np.empty(0, np.int64))

    def _examples(self, walk: _Walk, places: npt.NDArray[np.int64]) -> Iterator[Example]:
        return (walk.example(place) for place in places.tolist())

    def _decoded(self, walk: _Walk, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        def one(example: Example) -> npt.NDArray[np.uint8]:
            return self._square(self._usable_image(example), self.channels)

        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, decoded in zip(images, parallel_map(one, self._examples(walk, places)), strict=True):
            image[:] = decoded
        return images

    def _decode(self, example: Example) -> Image.Image:
        """
        Raises:
            ImageError: it cannot be used.
        """
        with example.opened() as file:
            if self.approximate:
                return decode_draft(file, example.path, self.resize.side)[0]
            return decode_content(file, example.path)

    def _usable_image(self, example: Example) -> Image.Image:
        """
        Raises:
            UnusableImagesError: it cannot be used.
        """
        try:
            return self._decode(example)
        except ImageError as error:
            raise UnusableImagesError(str(error)) from error

    def _square(self, image: Image.Image, channels: int) -> npt.NDArray[np.uint8]:
        return self.resize.square(image, channels, approximate=self.approximate)


class _Walk:
    """A walk through the shards: each is read forward, and what is wanted later is held until then."""

    def __init__(self, shards: Shards, wanted: npt.NDArray[np.int64]) -> None:
        """
        Args:
            wanted: the places (n,) that will be asked for, each once. Others may be asked for too, but are not held.
        """
        self._shards = shards
        self._ends = shards.sizes.cumsum()
        self._wanted = np.zeros(int(shards.sizes.sum()), bool)
        self._wanted[wanted] = True
        self._open: dict[int, tuple[int, Iterator[Example]]] = {}
        """For each shard that is being read: the next place, and the examples from there on."""
        self.held: dict[int, Example] = {}

    def example(self, place: int) -> Example:
        """
        Raises:
            UserError: the source cannot be reached, or has changed.
        """
        if place in self.held:
            return self.held.pop(place)
        shard = int(self._ends.searchsorted(place, side="right"))
        begin, end = int(self._ends[shard] - self._shards.sizes[shard]), int(self._ends[shard])
        at, examples = self._open.pop(shard, (end, iter(())))
        if place < at:
            at, examples = begin, self._shards.read(shard)
        for here, example in enumerate(examples, at):
            if here == place:
                if here + 1 < end:
                    self._open[shard] = here + 1, examples
                return example
            if self._wanted[here]:
                self.held[here] = example
        raise UserError("the stream has fewer images than when it was opened; start again when nothing changes it")
