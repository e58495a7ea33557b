"""Writing the file of pixels of an entry of the cache, one image after another."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from PIL import Image

from convatlas.files.decoded_cache import EntryKind
from convatlas.images import Resize, decode_content, decode_draft

QUALITY = 90
"""Of JPEG, 1 to 95."""
COLOR = 3


class EncodedImage(NamedTuple):
    channels: int
    content: bytes
    """Pixels (channels, side, side), or their JPEG."""
    approximate: bool


class EntryWriter(ABC):
    """A file of pixels that is at its place only when it is complete."""

    def __init__(self, path: Path, resize: Resize, kind: EntryKind, channels: int) -> None:
        # On file systems without locks, two processes may write the same entry.
        self._part = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._path = path
        self._resize = resize
        self.kind = kind
        self._file: BinaryIO = self._part.open("wb")
        self.channels = channels
        self.contents: list[str] = []
        """SHA-256 of the files, in the order of the images."""
        self.ends: list[int] = []
        """Where each image ends in the file."""
        self.approximate: list[int] = []
        """The places of those that are decoded approximately."""

    @property
    def num_bytes(self) -> int:
        return self.ends[-1] if self.ends else 0

    @abstractmethod
    def encode(self, file: BinaryIO, path: Path) -> EncodedImage:
        """What is kept of an image file; in any thread.

        Raises:
            ImageError: it cannot be used.
        """

    def add(self, content: bytes, image: EncodedImage) -> None:
        """Write an image behind the others.

        Args:
            content: SHA-256 of its file.
        """
        if image.approximate:
            self.approximate.append(len(self.contents))
        self._file.write(image.content)
        self.contents.append(content.hex())
        self.ends.append(self.num_bytes + len(image.content))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if kind is None:
            os.replace(self._part, self._path)


class ExactWriter(EntryWriter):
    """Exact pixels, for evaluation, all with the same number of channels."""

    def __init__(self, path: Path, resize: Resize, channels: int) -> None:
        super().__init__(path, resize, EntryKind.EXACT, channels)

    def encode(self, file: BinaryIO, path: Path) -> EncodedImage:
        pixels = self._resize.square(decode_content(file, path), self.channels)
        return EncodedImage(self.channels, pixels.tobytes(), approximate=False)


class TrainingWriter(EntryWriter):
    """Images for training, decoded approximately if they are large: gray until the first one in color comes."""

    def __init__(self, path: Path, resize: Resize, kind: EntryKind) -> None:
        super().__init__(path, resize, kind, channels=1)

    def encode(self, file: BinaryIO, path: Path) -> EncodedImage:
        image, drafted = decode_draft(file, path, self._resize.side)
        channels = 1 if image.mode == "L" else COLOR
        pixels = self._resize.square(image, channels, approximate=True)
        if self.kind is EntryKind.RAW:
            return EncodedImage(channels, pixels.tobytes(), drafted or self._resize.is_approximate(image.size))
        buffer = io.BytesIO()
        # Colors as fine as brightness: what is drawn, and not photographed, has sharp edges of both.
        square = Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
        square.save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4")
        return EncodedImage(channels, buffer.getvalue(), approximate=True)

    def add(self, content: bytes, image: EncodedImage) -> None:
        if image.channels > self.channels:
            self._become_color()
        if self.kind is EntryKind.RAW:
            image = image._replace(content=image.content * (self.channels // image.channels))
        super().add(content, image)

    def _become_color(self) -> None:
        """Repeat the gray images so far over three channels."""
        self.channels = COLOR
        if self.kind is EntryKind.JPEG:
            return
        self._file.close()
        gray = self._part.with_suffix(".gray.part")
        os.replace(self._part, gray)
        self._file = self._part.open("wb")
        with open(gray, "rb") as file:
            while image := file.read(self._resize.side**2):
                self._file.write(image * COLOR)
        gray.unlink()
        self.ends = [COLOR * end for end in self.ends]
