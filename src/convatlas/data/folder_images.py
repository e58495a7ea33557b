"""The images of a folder: training's from the cache, and exact ones to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convatlas.data import cache
from convatlas.data.cache import DecodedImages
from convatlas.data.dataset import Split
from convatlas.data.images import Decoding, ImageReader, Images, Indices
from convatlas.data.source_files import SourceFile
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.decoded_cache import EntryKind
from convatlas.images import ImageError, Resize, decode_content, opened, parallel_map, pillow_silenced


class SourceImages(ImageReader):
    """Images each of which comes from a file of its own."""

    sources: tuple[SourceFile, ...]
    """(n,), the file of each image."""

    @property
    def contents(self) -> npt.NDArray[np.uint8]:
        """(n, 32), SHA-256 of the file of each image."""
        return np.frombuffer(b"".join(source.content for source in self.sources), np.uint8).reshape(-1, 32)

    def split(self, labels: Sequence[int]) -> Split:
        """These images with their labels."""
        return Split(self, np.array(labels, np.int64), tuple(source.name for source in self.sources), self.contents)


@dataclass(frozen=True, eq=False)
class FolderImages(SourceImages):
    """Images of a folder, from the cache."""

    root: Path
    """The folder."""
    cache: Path
    """The folder of the cache."""
    resize: Resize
    entry: DecodedImages
    sources: tuple[SourceFile, ...]
    """(n,), the file of each image."""
    places: npt.NDArray[np.int64]
    """(n,), where each lies in the entry."""

    @classmethod
    def of(
        cls, root: Path, cache: Path, resize: Resize, entry: DecodedImages, sources: tuple[SourceFile, ...]
    ) -> FolderImages:
        places = np.array([entry.places[source.content] for source in sources], np.int64)
        return cls(root, cache, resize, entry, sources, places)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.places), *self.entry.images.shape[1:])

    @property
    def decoding(self) -> Decoding:
        if self.entry.kind is EntryKind.JPEG:
            return Decoding.JPEG
        return Decoding.APPROXIMATE if self.entry.approximate[self.places].any() else Decoding.EXACT

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        return self.entry.images[self.places[indices]]

    def take(self, indices: npt.NDArray[np.int64]) -> FolderImages:
        return replace(self, sources=tuple(self.sources[i] for i in indices.tolist()), places=self.places[indices])

    def exact(self, progress: ProgressCallback = SILENT) -> Images:
        """The same images exactly: from this entry, from one of their own, or from the files if the cache is full."""
        if self.decoding is Decoding.EXACT:
            return self
        # Where training's pixels have no room, exact ones have none either.
        if self.entry.kind is EntryKind.RAW:
            entry = cache.for_evaluation(self.root, self.sources, self.resize, self.cache, self.entry, progress)
            if entry is not None:
                return FolderImages.of(self.root, self.cache, self.resize, entry, self.sources)
        return FileImages(self.sources, self.resize, self.entry.images.shape[1])


@dataclass(frozen=True, eq=False)
class FileImages(SourceImages):
    """Images decoded from their files, exactly, whenever they are asked for."""

    sources: tuple[SourceFile, ...]
    resize: Resize
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.sources), self.channels, self.resize.side, self.resize.side)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """
        Raises:
            UserError: a file cannot be used any more, or has changed.
        """
        places = np.arange(len(self))[indices]
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        with pillow_silenced():
            for image, decoded in zip(images, parallel_map(self._image, places.tolist()), strict=True):
                image[:] = decoded
        return images

    def take(self, indices: npt.NDArray[np.int64]) -> FileImages:
        return replace(self, sources=tuple(self.sources[i] for i in indices.tolist()))

    def _image(self, place: int) -> npt.NDArray[np.uint8]:
        source = self.sources[place]
        try:
            with opened(source.path) as file:
                pixels = self.resize.square(decode_content(file, source.path), self.channels)
        except ImageError as error:
            raise UserError(str(error)) from error
        source.check_unchanged()
        return pixels
