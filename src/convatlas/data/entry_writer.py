"""Writing the file of pixels of an entry of the cache, one image after another."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
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

    def repeated(self, channels: int) -> bytes:
        """The pixels with so many channels, which all are the gray one if there is one only."""
        return self.content * (channels // self.channels)


@dataclass(frozen=True)
class Encoder:
    """Makes of an image file what an entry keeps of it, in any thread; the same bytes each time."""

    kind: EntryKind
    resize: Resize
    channels: int
    """Of exact pixels. Images for training are gray or in color, as each is."""

    def __call__(self, file: BinaryIO, path: Path) -> EncodedImage:
        """
        Args:
            path: for messages.

        Raises:
            ImageError: it cannot be used.
        """
        if self.kind is EntryKind.EXACT:
            exact = self.resize.square(decode_content(file, path), self.channels)
            return EncodedImage(self.channels, exact.tobytes(), approximate=False)
        # For training, large images are decoded approximately.
        image, drafted = decode_draft(file, path, self.resize.side)
        channels = 1 if image.mode == "L" else COLOR
        pixels = self.resize.square(image, channels, approximate=True)
        if self.kind is EntryKind.RAW:
            return EncodedImage(channels, pixels.tobytes(), drafted or self.resize.is_approximate(image.size))
        buffer = io.BytesIO()
        # Colors as fine as brightness: what is drawn, and not photographed, has sharp edges of both.
        square = Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
        square.save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4")
        return EncodedImage(channels, buffer.getvalue(), approximate=True)


class EntryWriter:
    """A file of images that is at its place only when it is complete: in color from the first one in color on."""

    def __init__(self, path: Path, encode: Encoder) -> None:
        # On file systems without locks, two processes may write the same entry.
        self._part = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._path = path
        self.encode = encode
        self.kind = encode.kind
        self._file: BinaryIO = self._part.open("wb")
        self.channels = encode.channels
        self.contents: list[str] = []
        """SHA-256 of the files, in the order of the images."""
        self.ends: list[int] = []
        """Where each image ends in the file."""
        self.crcs: list[int] = []
        """CRC-32 of each image's bytes in the file."""
        self.approximate: list[int] = []
        """The places of those that are decoded approximately."""

    @property
    def num_bytes(self) -> int:
        return self.ends[-1] if self.ends else 0

    def add(self, content: bytes, image: EncodedImage) -> None:
        """Write an image behind the others.

        Args:
            content: SHA-256 of its file.
        """
        if image.channels > self.channels:
            self._become_color()
        if image.approximate:
            self.approximate.append(len(self.contents))
        self.contents.append(content.hex())
        self._write(image.content if self.kind is EntryKind.JPEG else image.repeated(self.channels))

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self.ends.append(self.num_bytes + len(content))
        self.crcs.append(zlib.crc32(content))

    def _become_color(self) -> None:
        """Repeat the gray images so far over three channels."""
        self.channels = COLOR
        if self.kind is EntryKind.JPEG:
            return
        self._file.close()
        gray = self._part.with_suffix(".gray.part")
        os.replace(self._part, gray)
        self._file = self._part.open("wb")
        self.ends, self.crcs = [], []
        with open(gray, "rb") as file:
            while image := file.read(self.encode.resize.side**2):
                self._write(image * COLOR)
        gray.unlink()

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
