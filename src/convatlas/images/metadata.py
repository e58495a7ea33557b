"""A file without the text, profiles and comments that Pillow would read, and hold many times over, before the pixels.

Most files are read as they are: only where such parts are many or long are they left out, but for what says how the
image is turned.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

from convatlas.images import jpeg, tiff
from convatlas.images.reasons import UnsupportedImageError

MOST = 8 * 2**20
"""Bytes that Pillow may hold of them."""
_EACH = 512
"""Bytes that it holds of each, however short."""
_INFLATED = 2**20
"""Bytes of compressed text that it reads at most."""
_RATIO = 1032
"""Of zlib, at most."""
MOST_PARTS = 10_000

_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
"""PNG's chunks that decide what its pixels are, and those of animations, which Pillow does not read so far."""
_COMPRESSED = {b"zTXt", b"iTXt", b"iCCP"}
_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""What text begins with that may say how a PNG is turned."""
_SEGMENTS = {(0xE0, b"JFIF"), (0xEE, b"Adob"), (0xE1, b"Exif"), (0xE1, b"http")}
"""JPEG's segments of applications that decide what its pixels are, or how it is turned."""


class Part(NamedTuple):
    begin: int
    end: int
    held: int
    """Bytes that Pillow holds of it, if it is not needed; else 0."""


def bounded(file: BinaryIO, name: str) -> BinaryIO:
    """The same file, or what is needed of it.

    Args:
        name: of its format.

    Raises:
        UnsupportedImageError: what it holds beside its pixels takes too much memory, and cannot be left out.
    """
    if name == "TIFF":
        tiff.check_tags(file)
    find = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif}.get(name)
    if find is None or all(total <= MOST for total in accumulate(part.held for part in find(file))):
        return file
    return _without(file, find(file))


def without_text(file: BinaryIO) -> BinaryIO:
    """A PNG without its color profile and its text, but for the text that may say how it is turned."""
    return _without(file, _png(file))


def _without(file: BinaryIO, parts: Iterator[Part]) -> BinaryIO:
    kept: list[tuple[int, int]] = []
    for part in parts:
        if part.held or part.end <= part.begin:
            continue
        if kept and kept[-1][1] == part.begin:
            kept[-1] = (kept[-1][0], part.end)
        elif len(kept) == MOST_PARTS:
            raise UnsupportedImageError("its pixels lie in too many pieces; save it anew")
        else:
            kept.append((part.begin, part.end))
    return io.BufferedReader(Parts(file, kept))


def _png(file: BinaryIO) -> Iterator[Part]:
    """The signature and the chunks."""
    num_bytes, begin = file.seek(0, io.SEEK_END), 8
    yield Part(0, begin, 0)
    seen: set[bytes | None] = set()
    while True:
        file.seek(begin)
        head = file.read(8 + 32)
        if len(head) < 8:
            return
        # A chunk: the length of its data, its kind, its data, a checksum.
        length, kind = min(int.from_bytes(head[:4]), num_bytes - begin), head[4:8]
        turns = b"eXIf" if kind == b"eXIf" else next((key for key in _ORIENTATION if head.startswith(key, 8)), None)
        held = _EACH + (min(_INFLATED, _RATIO * length) if kind in _COMPRESSED else length)
        if kind in _PIXELS or (turns and turns not in seen and held < MOST):
            held = 0
        seen.add(turns)
        yield Part(begin, begin := begin + 12 + length, held)


def _jpeg(file: BinaryIO) -> Iterator[Part]:
    """The segments before the first scan, and all that follows."""
    end = 0
    seen: set[tuple[int, bytes]] = set()
    for marker, begin, next_begin in jpeg.segments(file):
        # Between segments.
        yield Part(end, begin, begin - end)
        end = next_begin
        if marker == jpeg.COMMENT or marker in jpeg.APPLICATIONS:
            file.seek(begin + 4)
            kind = marker, file.read(4)
            yield Part(begin, end, 0 if kind in _SEGMENTS - seen else _EACH + end - begin)
            seen.add(kind)
        else:
            yield Part(begin, end, 0)
    yield Part(end, file.seek(0, io.SEEK_END), 0)


def _gif(file: BinaryIO) -> Iterator[Part]:
    """The header, the extensions before the first image, and all that follows."""
    file.seek(0)
    head = file.read(13)
    begin = 13 + (3 * 2 ** ((head[10] & 7) + 1) if len(head) == 13 and head[10] & 128 else 0)
    yield Part(0, begin, 0)
    file.seek(begin)
    while (head := file.read(2))[:1] == b"!":
        num_blocks = 0
        while length := int.from_bytes(file.read(1)):
            file.seek(length, io.SEEK_CUR)
            num_blocks += 1
        end = file.tell()
        # Pillow copies a comment once for each of its blocks.
        yield Part(begin, end, 0 if head[1:] == b"\xf9" else _EACH + (end - begin) * num_blocks)
        begin = end
    yield Part(begin, file.seek(0, io.SEEK_END), 0)


class Parts(io.RawIOBase):
    """Parts of a file, one after another."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        """
        Args:
            parts: where each begins and ends in the file.
        """
        self._file = file
        self._parts = parts
        self._places = [0]
        """Where each begins here, and where the last one ends."""
        for begin, end in parts:
            self._places.append(self._places[-1] + end - begin)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._places[-1]}[whence]
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        if self._place >= self._places[-1]:
            return 0
        number = bisect_right(self._places, self._place) - 1
        self._file.seek(self._parts[number][0] + self._place - self._places[number])
        content = self._file.read(min(len(buffer), self._places[number + 1] - self._place))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)
