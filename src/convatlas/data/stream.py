"""Images that pass by: read from their source whenever they are asked for, and never kept.

A stream lies in shards, of which each is read from its front only. Whoever wants images in some order walks through
the shards once and holds, as they came and not decoded, the few that are wanted later.

Its shuffled order is made for that: shards come in a random order, `DEALT` of them are dealt into one another, and each
image is then put off by at most `BUFFER` places. Only a stream of no more images than that, or one whose images
are a shard each, is shuffled as a set in memory is, every order as likely as any other. Of a longer one images of the
same shard stay near each other: a set that lies sorted by class in few large shards is not mixed well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.errors import UserError
from convatlas.images import (
    LOOKED_AT,
    ImageError,
    decode_content,
    fit,
    pillow_silenced,
    shorter_side_of,
    side_by_side,
    usual_side,
)

if TYPE_CHECKING:
    from convatlas.data.dataset import Indices

BUFFER = 4096
"""Images that are held at most, but for a few, as they came."""
DEALT = 10
"""Shards that are read in turn."""
SAMPLED = 500
"""Images that stand for all of a stream where all would take too long."""
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
    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(shards,), the examples in each."""
        ...

    def read(self, shard: int) -> Iterator[Example]:
        """Those of a shard from its front on.

        Raises:
            UserError: the source cannot be reached, or is damaged.
        """
        ...


@dataclass(frozen=True, eq=False)
class Stream:
    """Images with sides of `side` pixels."""

    shards: Shards
    origin: bytes
    """A digest of where all of it comes from."""
    places: npt.NDArray[np.int64]
    """(n,), where each image lies in all of it."""
    side: int
    channels: int = COLOR
    sample: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, COLOR, 1, 1), np.uint8))
    """(m, channels, side, side), what stands for all where their colors are asked for; none before `sampled`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, side, side)"""
        return (len(self), self.channels, self.side, self.side)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """Those images (m, channels, side, side); fast only if each call goes on where the one before ended.

        Raises:
            UserError: one of them cannot be used, or the source cannot be reached.
        """
        places, back = np.unique(self.places[indices], return_inverse=True)
        with pillow_silenced():
            return self._decoded(self._cursor, places)[back]

    def take(self, indices: npt.NDArray[np.int64]) -> Stream:
        return replace(self, places=self.places[indices])

    @property
    def identity(self) -> bytes:
        """A digest of where the images come from. Their pixels are not read for it."""
        return hashlib.sha256(self.origin + self.places.astype("<i8").tobytes()).digest()

    def order(self, seed: int) -> npt.NDArray[np.int64]:
        """Indices (n,) in an order that can be walked; a function of the seed, the places and the shards' sizes."""
        generator = np.random.default_rng(seed)
        num = len(self)
        if num <= BUFFER:
            return generator.permutation(num)
        line = self.line(generator)
        return line[np.argsort(np.arange(num) + generator.uniform(0, BUFFER, num), kind="stable")]

    def line(self, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Indices (n,) in the order in which shards pass by: they are shuffled, but the images of none are."""
        sizes = self.shards.sizes
        rank = generator.permutation(len(sizes))
        shard = sizes.cumsum().searchsorted(self.places, side="right")
        passed = (self.places - (sizes.cumsum() - sizes)[shard]) / sizes[shard]
        return np.lexsort((passed, rank[shard] // DEALT))

    def read(self, wanted: Sequence[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
        """The images (m, channels, side, side) of each of these indices (m,) in turn, in one walk.

        No index is wanted twice. `pillow_silenced` is for the caller to enter, since this may run in any thread.

        Raises:
            UserError: one of them cannot be used, or the source cannot be reached.
        """
        walk = _Walk(self.shards, self.places[np.concatenate([*wanted, np.empty(0, np.int64)])])
        for indices in wanted:
            yield self._decoded(walk, self.places[indices])

    def usable(self) -> tuple[npt.NDArray[np.int64], list[ImageError]]:
        """Decode every image once: the indices (m,) of the good ones, and what is wrong with the others."""

        def one(example: Example) -> ImageError | None:
            try:
                with example.opened() as file:
                    decode_content(file, example.path, self.side)
            except ImageError as error:
                return error
            return None

        with pillow_silenced():
            found = list(side_by_side(one, self._examples(self._cursor, self.places)))
        good = np.array([error is None for error in found], bool)
        return np.flatnonzero(good), [error for error in found if error is not None]

    def sampled(self, seed: int) -> Stream:
        """The same, gray if all of a seeded sample is gray, and with that sample.

        Raises:
            UserError: one of the sample cannot be used, or the source cannot be reached.
        """
        places = self.places[self.line(np.random.default_rng(seed))[:SAMPLED]]

        def one(example: Example) -> tuple[bool, npt.NDArray[np.uint8]]:
            image = decoded(example, self.side)
            return image.mode == "L", fit(image, self.side, COLOR)

        with pillow_silenced():
            found = list(side_by_side(one, self._examples(self._cursor, places)))
        channels = 1 if all(gray for gray, _ in found) else COLOR
        return replace(self, channels=channels, sample=np.stack([pixels[:channels] for _, pixels in found]))

    def shorter_side(self) -> int | None:
        """The median over some of the images, by their headers; None where those say no such thing."""

        def one(example: Example) -> int | None:
            try:
                with example.opened() as file:
                    return shorter_side_of(file)
            # What is wrong with it is said when it is decoded.
            except ImageError:
                return None

        places = self.places[self.line(np.random.default_rng(0))[:LOOKED_AT]]
        with pillow_silenced():
            return usual_side(map(one, self._examples(self._cursor, places)))

    @cached_property
    def _cursor(self) -> _Walk:
        return _Walk(self.shards, np.empty(0, np.int64))

    def _examples(self, walk: _Walk, places: npt.NDArray[np.int64]) -> Iterator[Example]:
        return (walk.example(place) for place in places.tolist())

    def _decoded(self, walk: _Walk, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        def one(example: Example) -> npt.NDArray[np.uint8]:
            return fit(decoded(example, self.side), self.side, self.channels)

        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, made in zip(images, side_by_side(one, self._examples(walk, places)), strict=True):
            image[:] = made
        return images


def decoded(example: Example, side: int) -> Image.Image:
    """An image of whose shorter side at least `side` pixels are left, where it has them.

    Raises:
        UserError: it cannot be used.
    """
    try:
        with example.opened() as file:
            return decode_content(file, example.path, side)
    except ImageError as error:
        raise UserError(
            f"{error}; --skip-bad leaves such images out, for which all are decoded once before training"
        ) from error


class _Walk:
    """A way through the shards: each is read forward, and what is wanted later is held until then."""

    def __init__(self, shards: Shards, wanted: npt.NDArray[np.int64]) -> None:
        """
        Args:
            wanted: the places (n,) that are asked for, each once. Any other may be asked for too, and is not held.
        """
        self._shards = shards
        self._ends = shards.sizes.cumsum()
        self._wanted = np.zeros(int(shards.sizes.sum()), bool)
        self._wanted[wanted] = True
        self._open: dict[int, tuple[int, Iterator[Example]]] = {}
        """For each shard that is being read the next place, and what comes from there on."""
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
