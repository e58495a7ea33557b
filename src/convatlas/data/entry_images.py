"""Reading the images of an entry of the cache: each is checked when a process first reads it.

A disk that flips bits would have training learn from other pixels. A damaged image is decoded anew from the file that
it was made from, which gives the same bytes, so that training goes on as if nothing had happened.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.data.images import ImageReader, Indices
from convatlas.errors import UserError
from convatlas.files.decoded_cache import INDEX
from convatlas.images import ImageError, Resize, parallel_map


@dataclass(eq=False)
class EntryFile:
    """The file of an entry's images, one after another."""

    path: Path
    ends: npt.NDArray[np.int64]
    """(n,), where each image ends; the next one begins there."""
    crcs: npt.NDArray[np.uint32]
    """(n,), CRC-32 of each."""
    make_anew: Callable[[int], bytes]
    """What an image was made as; an ImageError or a UserError if its source is not as it was."""
    is_whole: npt.NDArray[np.bool_] = field(init=False)
    """(n,), which images this process found whole."""

    def __post_init__(self) -> None:
        self.is_whole = np.zeros(len(self.ends), bool)

    def part(self, place: int) -> slice:
        """Where an image lies."""
        return slice(int(self.ends[place - 1]) if place else 0, int(self.ends[place]))

    def repairs(
        self, places: npt.NDArray[np.int64], content_of: Callable[[int], memoryview | bytes]
    ) -> Iterator[tuple[int, bytes]]:
        """Check those of the images that are read for the first time.

        Args:
            places: (m,), the images.
            content_of: what was read of each, by its index in `places`.

        Yields:
            For each damaged one, its index in `places`, and what it must be.

        Raises:
            UserError: an image is damaged, and the file that it was made from is not as it was.
        """
        for i in np.flatnonzero(~self.is_whole[places]).tolist():
            place, content = int(places[i]), content_of(i)
            if zlib.crc32(content) == self.crcs[place]:
                self.is_whole[place] = True
            else:
                yield i, self._repaired(place, bytes(content))

    def _repaired(self, place: int, damaged: bytes) -> bytes:
        try:
            content = self.make_anew(place)
        except (ImageError, UserError):
            content = b""
        if zlib.crc32(content) != self.crcs[place]:
            # Without its index there is no entry: the next one to open it makes it anew.
            with suppress(OSError):
                self.path.with_name(INDEX).unlink(missing_ok=True)
            raise UserError(
                f"{self.path} is damaged, and an image that it was made from has changed; start or resume again, "
                "which decodes all of them anew"
            )
        # Where that cannot be, it is made anew whenever it is read.
        with suppress(OSError), open(self.path, "r+b") as file:
            begin = self.part(place).start
            file.seek(begin)
            # Unless another process has put another file there, or has repaired this one.
            if file.read(len(damaged)) == damaged:
                file.seek(begin)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        return content


@dataclass(frozen=True, eq=False)
class Pixels(ImageReader):
    """Images that lie in a file as they are."""

    file: EntryFile
    pixels: npt.NDArray[np.uint8]
    """(n, channels, side, side), mapped from the file."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """
        Raises:
            UserError: see `EntryFile.repairs`.
        """
        places = places_of(indices, len(self))
        images = self.pixels[places]
        for i, content in self.file.repairs(places, lambda i: images[i].data):
            images[i] = np.frombuffer(content, np.uint8).reshape(images.shape[1:])
        return images


@dataclass(frozen=True, eq=False)
class Encoded(ImageReader):
    """Images that lie in a file as JPEG, decoded in parallel whenever they are asked for."""

    file: EntryFile
    content: memoryview
    """Of the file."""
    channels: int
    side: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.file.ends), self.channels, self.side, self.side)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """
        Raises:
            UserError: see `EntryFile.repairs`.
        """
        places = places_of(indices, len(self))
        contents: list[memoryview | bytes] = [self.content[self.file.part(place)] for place in places.tolist()]
        for i, content in self.file.repairs(places, contents.__getitem__):
            contents[i] = content
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, decoded in zip(images, parallel_map(self._decoded, contents), strict=True):
            image[:] = decoded
        return images

    def _decoded(self, content: memoryview | bytes) -> npt.NDArray[np.uint8]:
        try:
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                return Resize(self.side).square(image, self.channels)
        except (OSError, SyntaxError, ValueError) as error:
            # It was whole when this process first read it.
            raise UserError(f"{self.file.path} is damaged; start or resume again") from error


def places_of(indices: Indices, num: int) -> npt.NDArray[np.int64]:
    """Indices of `num` images as their places (m,)."""
    if isinstance(indices, np.ndarray) and indices.dtype != np.bool_:
        return indices.astype(np.int64, copy=False)
    return np.arange(num)[indices]
